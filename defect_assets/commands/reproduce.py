"""Making a release again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors
from defect_assets.console import console

if TYPE_CHECKING:
    from defect_assets.registry.reproduce.reproduction import Reproduction


def reproduce(
    release: Annotated[str, typer.Argument(help="E.g. v0.1.0.")],
    tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="By how much scores may differ on another machine or in another environment.",
        ),
    ] = 0.02,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a release again from its commit, data, configuration, environment and seed; compare.

    On the same kind of machine the bundle must come out the same, to the last bit. It is trained
    in a scratch worktree; nothing in the store changes. An interrupted attempt goes on.
    """
    from defect_assets.home import PROJECT, default_home
    from defect_assets.registry.reproduce.reproduce import Place
    from defect_assets.registry.reproduce.reproduce import reproduce as make_again

    with errors():
        home = default_home()
        place = Place(
            store=home.store(),
            url=home.url,
            cache=home.root / "cache",
            project=PROJECT,
            environments=home.environments,
            scratch=home.reproductions,
        )
        with console.status("looking at what was recorded") as status:

            def say(message: str) -> None:
                status.update(f"[bold]{release}[/] [dim]{escape(message)}[/]")
                if not console.is_terminal and not as_json:
                    console.print(f"    {escape(message)}", soft_wrap=True)

            found = make_again(place, release, tolerance, say)
    if as_json:
        told = {"reproduced": found.reproduced, "verdict": found.verdict, **found.model_dump()}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _show(found)
        if not found.same_bundle:
            console.print(f"the other bundle: {escape(str(home.reproductions / release))}")
    if not found.reproduced:
        raise typer.Exit(1)


def _show(found: Reproduction) -> None:
    from rich.table import Table

    table = Table("", "", "recorded", "made again", box=None, pad_edge=False, header_style="dim")
    for pair in found.compared:
        mark = "[green]=[/]" if pair.equal else "[bold red]≠[/]"
        again = "" if pair.equal else escape(_brief(pair.found))
        table.add_row(mark, escape(pair.what), escape(_brief(pair.recorded)), again)
    for name, scores in found.scores.items():
        mark = "[yellow]≈[/]" if name not in found.apart else "[bold red]≠[/]"
        shown = ("–" if score is None else f"{score:.4f}" for score in scores)
        table.add_row(mark, f"test {name.replace('_', ' ')}", *shown)
    console.print(table)
    color = "green" if found.reproduced else "bold red"
    console.print(f"[{color}]{escape(found.verdict)}[/]", soft_wrap=True)


def _brief(text: str) -> str:
    """Shorten a digest or a commit."""
    return text[:12] if len(text) in (40, 64) and " " not in text else text
