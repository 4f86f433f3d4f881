"""Models side by side: what differs, what is better, and what made it so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors
from defect_assets.console import console
from defect_assets.evaluation.wording import scored, titled

if TYPE_CHECKING:
    from defect_assets.registry.comparison.comparing import Compared
    from defect_assets.registry.comparison.differences import Differences
    from defect_assets.registry.triage.triage import Triage

_NAMES = "A release (v0.2.0), a channel (production) or an experiment (DS-1.1.0/C-01)."
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_COLORS = {"better": "green", "worse": "bold red", "no evidence": "dim"}


def compare(
    a: Annotated[str, typer.Argument(help=_NAMES)],
    b: Annotated[str, typer.Argument(help="The other.")],
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write a page.", dir_okay=False)] = None,
) -> None:
    """Say what differs between two models, and which is better, on the parts that both tested.

    Each difference has a 95 % interval, resampled by part with the same draws for both models.
    """
    from defect_assets.home import PROJECT, default_home
    from defect_assets.registry.comparison.comparing import as_page
    from defect_assets.registry.comparison.comparing import compare as look
    from defect_assets.registry.subjects import find_subject

    with errors():
        store = default_home().store()
        compared = look(store, find_subject(store, a), find_subject(store, b), PROJECT)
        if html:
            html.parent.mkdir(parents=True, exist_ok=True)
            html.write_text(as_page(compared))
    if as_json:
        typer.echo(compared.model_dump_json(indent=2))
        return
    _show(compared)
    if html:
        console.print(f"written to {escape(str(html))}", soft_wrap=True)


def leaderboard(as_json: AsJson = False) -> None:
    """List all experiments that were evaluated, dataset by dataset, the best first."""
    from rich.table import Table

    from defect_assets.home import default_home
    from defect_assets.registry.comparison.leaderboard import leaderboard as look

    with errors():
        board = look(default_home().store())
    if as_json:
        typer.echo(board.model_dump_json(indent=2))
        return
    if not board.standings:
        console.print("nothing was evaluated yet")
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="dim")
    table.add_column("experiment", no_wrap=True)
    for name in ("Dice (95 %)", "macro", "regions", "alarms", "escapes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("released", min_width=6)
    if not board.same_test:
        table.add_column("test", no_wrap=True)
    tests = list(dict.fromkeys(s.test for s in board.standings))
    for s in board.standings:
        bounds = "{:.3f}–{:.3f}".format(*s.dice_interval) if s.dice_interval else ""
        table.add_row(
            f"{s.dataset} × {s.config}" + (" [green]★[/]" if s.best else ""),
            f"[bold]{scored(s.dice)}[/] [dim]{bounds}[/]",
            scored(s.macro_dice),
            scored(s.region_recall),
            scored(s.false_alarms),
            scored(s.escapes),
            ", ".join(s.releases) if s.pinned else "[yellow]unpinned[/]",
            *([] if board.same_test else [str(1 + tests.index(s.test))]),
        )
    if board.standings:
        console.print(table)
        same = (
            "All scores are of the same test images with the same labels."
            if board.same_test
            else "Only rows with the same number under test are of the same images and labels: "
            "defect-assets compare holds two models against each other on what both tested."
        )
        console.print(f"[dim]★ best of its dataset. {same}[/]", soft_wrap=True)
    for experiment in board.not_evaluated:
        console.print(f"[yellow]{experiment} is not evaluated as it stands now[/]")


def triage(
    good: Annotated[str, typer.Argument(help=_NAMES)],
    bad: Annotated[str, typer.Argument(help="The one that is worse.")],
    as_json: AsJson = False,
) -> None:
    """Find out what made a model worse: data, configuration, code or environment.

    Swaps what differs, one factor at a time, trains the models in between that are not there yet,
    holds all against the same test, and says which factor carries how much of the change. An
    interrupted triage goes on where it stopped.
    """
    from defect_assets.home import PROJECT, default_home
    from defect_assets.registry.subjects import find_subject
    from defect_assets.registry.triage.triage import triage as look
    from defect_assets.registry.triage.workshop import Workshop

    def say(text: str) -> None:
        told.update(f"[dim]{escape(text)}[/]")
        if not console.is_terminal and not as_json:
            console.print(f"    {escape(text)}", soft_wrap=True)

    with errors():
        home = default_home()
        store = home.store()
        places = (home.fitted, home.triage, home.environments)
        workshop = Workshop(store, home.url, PROJECT, *places)
        one, other = find_subject(store, good), find_subject(store, bad)
        with console.status("comparing") as told:
            found = look(store, one, other, PROJECT, workshop, say)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        _show_triage(found)


def _show_triage(found: Triage) -> None:
    from defect_assets.registry.triage.triage import SCORE, Labels

    dice = found.attributions[Labels.GOOD][SCORE]
    console.print(f"[bold]{escape(found.good)} → {escape(found.bad)}[/]")
    _show_differences(found.differences)
    before, after = found.reported.before, found.reported.after
    console.print(
        f"\nDice as reported, each on its own test: {scored(before)} → {scored(after)}\n"
        f"Dice of both on the same [bold]{found.images}[/] images of {found.parts} parts, by the "
        f"labels of {escape(found.good)}: {scored(dice.good)} → {scored(dice.bad)}, "
        f"{_signed(dice.change)}{_bounds(dice.interval)}",
        soft_wrap=True,
    )
    if found.left_out:
        console.print(f"[dim]left out: {found.left_out} images that not both can be tested on[/]")
    for combination in found.combinations:
        if combination.trained or combination.why_not:
            how = combination.why_not or f"trained in {combination.seconds:.0f} s"
            mixed = f"{' and '.join(combination.bad)} of {found.bad}, the rest of {found.good}"
            console.print(f"[dim]{escape(f'{mixed}: {how}')}[/]", soft_wrap=True)
    _show_shares(found)
    named = f"[bold red]{found.cause}[/]" if found.cause else "[bold]no single cause[/]"
    console.print(f"\n{named}: {escape(found.reason)}", soft_wrap=True)
    for suspect in found.suspects:
        console.print(f"  {escape(str(suspect))}", soft_wrap=True)
        if suspect.samples:
            _lines([", ".join(suspect.samples[:12]) + (" …" if suspect.samples[12:] else "")])
    if found.suspects:
        datasets = [name.partition(" ")[0] for name in found.experiments]
        console.print(
            f"[dim]look at them: defect-assets diff {' '.join(datasets)} --html changes.html[/]",
            soft_wrap=True,
        )
    console.print(
        "[dim]A share is what the score changes when the factor is swapped, averaged over "
        f"{found.orders[0]} of {found.orders[1]} orders of swapping. Swapped alone: into the good "
        "one; mended alone: put right in the bad one. The intervals are of the test parts: each "
        "model was trained once, and another seed would give somewhat other shares.[/]",
        soft_wrap=True,
    )


def _show_shares(found: Triage) -> None:
    """Print what each factor carries, of the Dice by each set of labels, and of other scores."""
    from rich.table import Table

    from defect_assets.registry.comparison.comparing import MAIN
    from defect_assets.registry.triage.triage import SCORE, Labels

    by_good = found.attributions[Labels.GOOD]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("factor")
    for name in ("share of the change (95 %)", "swapped alone", "mended alone"):
        table.add_column(name, justify="right")
    for factor, share in by_good[SCORE].shares.items():
        table.add_row(
            f"[bold]{factor}[/]",
            f"{_signed(share.share)}{_bounds(share.interval)}",
            _signed(share.alone),
            _signed(-share.undone if share.undone is not None else None),
        )
    console.print(table)
    others = {labels: found.attributions[labels][SCORE] for labels in found.attributions}
    rows = {f"Dice, {labels}": a for labels, a in others.items() if labels is not Labels.GOOD}
    rows |= {titled(name): by_good[name] for name in MAIN[1:] if name in by_good}
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("also")
    for column in ("change", *by_good[SCORE].shares):
        table.add_column(str(column), justify="right")
    for title, attribution in rows.items():
        cells = (_signed(share.share) for share in attribution.shares.values())
        table.add_row(title, _signed(attribution.change), *cells)
    console.print(table)


def _show(compared: Compared) -> None:
    from rich.table import Table

    from defect_assets.registry.comparison.comparing import main_scores, shown

    one, other = compared.experiments
    of = "" if compared.before == one and compared.after == other else f"[dim]{one} → {other}[/]"
    console.print(f"[bold]{escape(compared.before)} → {escape(compared.after)}[/] {of}")
    _show_differences(compared.differences)
    comparison = compared.comparison
    console.print(
        f"\nOn [bold]{comparison.images}[/] images of [bold]{comparison.parts}[/] parts that both "
        "were tested on",
        soft_wrap=True,
    )
    for reason, count in comparison.left_out.items():
        console.print(f"[dim]left out: {count} images, {reason}[/]", soft_wrap=True)
    if comparison.scores:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("score", no_wrap=True)
        for name in ("before", "after", "difference (95 %)", "parts"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        for name, score in main_scores(comparison).items():
            cells = shown(name, score)
            *plain, verdict = cells.values()
            table.add_row(*map(escape, plain), f"[{_COLORS[verdict]}]{verdict}[/]")
        console.print(table)
        console.print(
            "[dim]parts: on which the two do not do the same; under six there is no evidence. "
            "Of twenty scores of equal models, one looks different by chance.[/]",
            soft_wrap=True,
        )
    for warning in compared.warnings:
        console.print(f"[yellow]! {escape(warning)}[/]", soft_wrap=True)


def _show_differences(told: Differences) -> None:
    """Print what differs, factor by factor."""
    if not told.factors:
        console.print("nothing differs: data, configuration, code and environment are the same")
    if told.data.splits.differs:
        _heading("data", str(told.data.changelog))
        _lines([str(batch) for batch in told.data.batches])
        _lines([f"{count} moved {how}" for how, count in told.data.moved.items()])
    if told.config:
        _heading("config", "")
        _lines([f"{key}: {change}" for key, change in told.config.items()])
    code = told.code
    if code.versions.differs or code.commits.differs:
        same = "" if code.versions.differs else "; what trains is the same in both"
        commits = " → ".join(
            f"{c[:12]}{'+' * c.endswith('+')}" if c else "–"
            for c in (code.commits.before, code.commits.after)
        )
        _heading("code", f"commit {commits}{same}")
        _lines([*code.files, *map(str, code.touched_by), *([code.unknown] if code.unknown else [])])
    environment = told.environment
    if environment.changes or environment.hardware:
        _heading("environment", "" if environment.changes else "same packages, another machine")
        _lines([f"{name}: {change}" for name, change in environment.changes.items()])
        _lines([f"machine's {name}: {change}" for name, change in environment.hardware.items()])


def _heading(factor: str, text: str) -> None:
    console.print(f"[bold]{factor:<12}[/]{escape(text)}", soft_wrap=True)


def _lines(lines: list[str]) -> None:
    shown = 12
    for line in lines[:shown]:
        console.print(f"[dim]{'':<12}{escape(line)}[/]", soft_wrap=True)
    if len(lines) > shown:
        console.print(f"[dim]{'':<12}and {len(lines) - shown} more: --json lists them[/]")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 3) + 0.0:+.3f}"


def _bounds(interval: tuple[float, float] | None) -> str:
    return f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else ""
