"""What one should be able to answer on any day."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors
from defect_assets.console import console


def audit(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer what an auditor asks, each time with the proof or with what is missing.

    Can what is in production be made again? What made it? Was it tested on what it had learned?
    Fails where something is missing.
    """
    from defect_assets.home import PROJECT, default_home
    from defect_assets.registry.audit import audit as look

    with errors(), console.status("looking") as status:
        answers = look(default_home().store(), PROJECT, say=status.update)
    if as_json:
        values = [{"holds": answer.holds, **answer.model_dump()} for answer in answers]
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        for answer in answers:
            mark = "[green]✓[/]" if answer.holds else "[bold red]✗[/]"
            console.print(f"{mark} {answer.question} [bold]{escape(answer.answer)}[/]")
            for line in answer.proof:
                console.print(f"    [dim]{escape(line)}[/]", soft_wrap=True)
            for line in answer.missing:
                console.print(f"    [red]missing:[/] {escape(line)}", soft_wrap=True)
    if not all(answer.holds for answer in answers):
        raise typer.Exit(1)
