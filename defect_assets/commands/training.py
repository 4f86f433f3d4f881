"""Before the training: is all there that makes its model worth something?"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors, fail
from defect_assets.console import console


def preflight(
    dataset: Annotated[
        str | None, typer.Option(help="A dataset's id, e.g. DS-1.2.0.", show_default="the newest")
    ] = None,
    config: Annotated[str, typer.Option(help="Training configuration, by its id.")] = "C-01",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether a training may begin, and how to mend what is in its way.

    `repro` and Dagster look at the same before they train, and refuse where something is wrong.
    What repro --allow-unpinned waives is marked so.
    """
    from defect_assets.dataset.snapshot import latest_version
    from defect_assets.home import PROJECT, default_home
    from defect_assets.registry.plan import Plan
    from defect_assets.registry.preflight import preflight as look

    with errors():
        home = default_home()
        home.description()  # before anything is made of a home that is none
        store = home.store()
        chosen = dataset or latest_version(store)
        if chosen is None:
            fail(f"{home.root} holds no dataset version yet: defect-assets repro makes one")
        findings = look(Plan(PROJECT, store, home.root, str(chosen), config))
    if as_json:
        typer.echo(json.dumps([f.model_dump() for f in findings], indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            color = "green" if finding.passed else "yellow" if finding.waivable else "bold red"
            note = " [dim](--allow-unpinned waives it)[/]" if finding.waivable else ""
            console.print(f"[{color}]{escape(str(finding))}[/]{note}", soft_wrap=True)
    if not all(finding.passed for finding in findings):
        raise typer.Exit(1)
