"""How a command ends that cannot do what it was asked to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from defect_assets.errors import UserError


@contextmanager
def errors() -> Iterator[None]:
    """Turn errors that a person can mend into a message and exit code 1."""
    try:
        yield
    except (UserError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; run the same command again to go on")


def fail(message: str) -> NoReturn:
    """Say why a command stops, and stop it."""
    Console(stderr=True, highlight=False).print(
        f"[bold red]error:[/] {escape(message)}", soft_wrap=True
    )
    raise typer.Exit(1)
