"""Bringing all that is out of date up to date, and saying why it is."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors, fail
from defect_assets.commands.roads import open_road, rehearse
from defect_assets.console import aside, console, show_plan, summarize

if TYPE_CHECKING:
    from defect_assets.automation.road import Road, Walked
    from defect_assets.store import Digest


def repro(
    assets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Assets to bring up to date, e.g. trained_model; what they depend on comes "
            r"first, as with dvc repro STAGE. \[default: the whole road]",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            help="Training configuration, by its id in configs; repeat it for several. "
            r"The first one is released. \[default: C-01]",
            show_default=False,
        ),
    ] = None,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="Also what depends on the named assets.")
    ] = False,
    upstream: Annotated[
        bool,
        typer.Option(
            "--upstream",
            help="With --force: compute what the named assets depend on anew, too; without, it is "
            "brought up to date anyway.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Compute the named assets anew (without any: all), though they are up to date. "
            "Batches, dataset versions and releases stand for good, and stay.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run and why; change nothing.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each asset why it runs, or why it need not.")
    ] = False,
    allow_unpinned: Annotated[
        bool,
        typer.Option(
            "--allow-unpinned",
            help="Explore: train with code, configuration or environment that are not committed. "
            "What comes of that is marked unpinned and never released.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take the deliveries in the inbox the whole road, doing only what is not done.

    Ingests, cuts the next dataset version, splits, trains, evaluates, releases and builds the
    bento. What is up to date is left alone; an interrupted run goes on where it stopped.

    Before it trains, it looks at what `preflight` lists, and refuses where something is wrong.
    What fails the gates in configs/gates.yaml is not released; `release --override` does it.

    Ends with 0 if all is up to date, with 1 if something failed or was refused; what does not
    depend on that was done all the same.
    """
    from defect_assets.home import default_home

    configs = config or ["C-01"]
    question = json.dumps([sorted(assets or ()), configs, downstream, allow_unpinned])
    with errors(), aside() if as_json else nullcontext():
        home = default_home()
        home.description()  # before anything is made of a home that is none
        from defect_assets.automation.settled import inputs_of, is_settled

        if not (force or dry_run or explain or as_json) and is_settled(home, question):
            console.print("[bold green]All is up to date:[/] nothing was computed.")
            return
        from defect_assets.automation.scope import scope_of

        scope = scope_of(assets or (), upstream=upstream, downstream=downstream, force=force)
        if dry_run:
            road = rehearse(allow_unpinned, scope)
            walked = road.repro(configs)
        else:
            inputs = inputs_of(home)
            with open_road(allow_unpinned, scope) as road:
                walked = road.repro(configs)
            _settle(road, configs, question, inputs)
        _report(road, walked, explain, as_json, planned=dry_run)
        if walked.failures:
            fail("\n".join(walked.failures))


def walk_whole(road: Road, configs: list[str]) -> None:
    """Take a home the whole road, and print what came of it."""
    walked = road.repro(configs)
    _report(road, walked, explain=False, as_json=False, planned=False)
    if walked.failures:
        fail("\n".join(walked.failures))


def _settle(road: Road, configs: list[str], question: str, inputs: Digest) -> None:
    """Remember that there is nothing to do, if another look says so."""
    from dataclasses import replace

    from defect_assets.automation.settled import inputs_of, results_of, settle

    results = results_of(road.home)
    again = rehearse(road.allow_unpinned, replace(road.scope, forced=frozenset()))
    walked = again.repro(configs)
    if not (again.stale or walked.failures) and inputs_of(road.home) == inputs:
        settle(road.home, question, inputs, results)


def _report(road: Road, walked: Walked, explain: bool, as_json: bool, planned: bool) -> None:
    if as_json:
        steps = [
            {"asset": v.stage, "partition": v.partition, "state": v.state, "why": list(v.why)}
            for v in road.seen
        ]
        typer.echo(
            json.dumps(
                {"planned": planned, "steps": steps, "failures": walked.failures},
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    if planned or explain:
        show_plan(road.seen if explain else road.stale)
    if walked.unpinned:
        page = road.home.report(walked.dataset, walked.config) / "report.html"
        console.print(
            f"{walked.dataset} × {walked.config} is [bold]unpinned[/], so it is not released: "
            f"{escape('; '.join(walked.unpinned))}. Mend that, e.g. commit, and run without "
            "--allow-unpinned: it trains anew.\n"
            f"report  {escape(str(page))}",
            soft_wrap=True,
        )
    if planned:
        if not road.stale and not walked.failures:
            console.print("[bold green]All is up to date:[/] nothing would be computed.")
        return
    if not road.stale and not walked.failures:
        console.print("[bold green]All is up to date:[/] nothing was computed.")
    if walked.release and not walked.failures:
        summarize(road.home, walked.release)
