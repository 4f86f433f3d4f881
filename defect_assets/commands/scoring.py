"""Looking at many images with a released model."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors
from defect_assets.console import aside, bar, console

if TYPE_CHECKING:
    from defect_assets.scoring.score import Outcome

UNREAD = 3
"""The exit code where all is done, but for images that nobody can read."""


def score(
    input: Annotated[
        str,
        typer.Option(
            help="A folder, s3://bucket/prefix, or a dataset's version such as DS-1.2.0.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str, typer.Option(help="A folder, or s3://bucket/prefix.", show_default=False)
    ],
    release: Annotated[
        str | None,
        typer.Option(
            help="Which model: a version such as v0.1.0, or a channel such as staging.",
            show_default="what is in production, or else the newest",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at many images with a released model; write verdicts, defects and masks.

    `defect-assets score --input s3://line-3/2026-11 --output s3://results/2026-11`

    Writes two tables in Parquet, *images* (verdict, score, timings) and *defects* (class, box,
    area, confidence), and *masks*: packs of PNGs, in which each lies as its image's row says. Read
    them with `duckdb -c "from 's3://results/2026-11/defects/*.parquet'"` or
    `pandas.read_parquet("results/defects")`.

    Interrupted, the same command goes on where it stopped. With DEFECT_DEPLOY=ray a Ray cluster
    does the work.

    Ends with 3 if some images could not be read; their rows say why, and the others are done.
    """
    from defect_assets.home import default_home
    from defect_assets.registry.channels import in_use
    from defect_assets.scoring.released import as_served
    from defect_assets.scoring.score import score as run
    from defect_assets.scoring.sources import source_of

    with errors(), aside() if as_json else nullcontext():
        home = default_home()
        store = home.store()
        found = in_use(store, release)
        source = source_of(input, store, home.url, home.cache)
        with bar(f"{found.id} looks at {input}") as tell:
            outcome = run(found, as_served(store, found), source, output, tell, home.access)
    if as_json:
        typer.echo(json.dumps(_values(outcome), indent=2))
    else:
        _show(outcome, output)
    if outcome.unread:
        raise typer.Exit(UNREAD)


def _values(outcome: Outcome) -> dict[str, Any]:
    return {
        "manifest": outcome.manifest.model_dump(),
        "images": outcome.images,
        "verdicts": dict(outcome.verdicts),
        "unread": outcome.unread,
        "found": outcome.found,
    }


def _show(outcome: Outcome, output: str) -> None:
    said = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(outcome.verdicts.items()))
    before = f", {outcome.found:,} of them before" if outcome.found else ""
    console.print(
        f"[green]✓[/] [bold]{outcome.manifest.release}[/] looked at {outcome.images:,} images"
        f"{before}: {said or 'none could be read'}. The results are in {escape(output)}",
        soft_wrap=True,
    )
    if outcome.unread:
        console.print(
            f"[yellow]{outcome.unread:,} could not be read:[/] the column [bold]error[/] of the "
            "table of images says why",
            soft_wrap=True,
        )
