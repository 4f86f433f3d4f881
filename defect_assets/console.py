"""What the command line shows of the road: progress, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from defect_assets.evaluation.wording import scored, titled

if TYPE_CHECKING:
    from defect_assets.evaluation.crossvalidation import CrossValidation
    from defect_assets.evaluation.leak_audit import LeakAudit
    from defect_assets.home import Home
    from defect_assets.registry.freshness import Verdict
    from defect_assets.registry.release.releases import Release

console = Console(highlight=False)


@contextmanager
def aside() -> Iterator[None]:
    """Tell of what happens on stderr, where stdout is for values."""
    console.stderr = True
    try:
        yield
    finally:
        console.stderr = False


@contextmanager
def bar(title: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """Show how far a long work is, with the time left; yield whom to tell: done, of how many.

    Without a terminal nothing is shown. With the unit ``bytes``, sizes and speed are.
    """
    if not console.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount = (
        [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
    )
    columns = [TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(escape(title), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class ConsoleNarrator:
    """Tells of the road on the terminal, or line by line where there is none."""

    def __init__(self) -> None:
        self._status = console.status("")
        self._title = ""

    def start(self, asset: str, partition: str | None, why: str) -> None:
        self._title = escape(f"{asset} {_plain(partition)}".strip())
        self._status.update(f"[bold]{self._title}[/] [dim]({escape(why)})[/]")
        self._status.start()
        if not console.is_terminal:
            console.print(f"… {self._title} ({escape(why)})", soft_wrap=True)

    def say(self, message: str) -> None:
        self._status.update(f"[bold]{self._title}[/] [dim]{escape(message)}[/]")
        if not console.is_terminal:
            console.print(f"    {escape(message)}", soft_wrap=True)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self._status.stop()

    def done(self, asset: str, partition: str | None, seconds: float) -> None:
        self._status.stop()
        console.print(f"[green]✓[/] {self._title} [dim]{seconds:.1f} s[/]")


def _plain(partition: str | None) -> str:
    """Show ``C-01|DS-1.1.0`` as ``DS-1.1.0 × C-01``."""
    return " × ".join(reversed((partition or "").split("|")))


def show_plan(verdicts: Iterable[Verdict]) -> None:
    """Print what runs, and why, or why it need not; partitions of one kind on one line."""
    marks = {"fresh": "[green]✓[/]", "stale": "[yellow]→[/]", "perhaps": "[dim]?[/]"}
    alike: dict[tuple[str, str, str], list[str]] = {}
    for verdict in verdicts:
        partitions = alike.setdefault((verdict.stage, verdict.state, str(verdict)), [])
        partitions.append(_plain(verdict.partition))
    for (stage, state, why), partitions in alike.items():
        which = partitions[0] if len(partitions) == 1 else f"{len(partitions)} partitions"
        title = escape(f"{stage} {which}".strip())
        said = f"perhaps: {why}" if state == "perhaps" else why
        console.print(f"{marks[state]} {title} [dim]({escape(said)})[/]", soft_wrap=True)


def summarize(home: Home, release: Release) -> None:
    """Print what came of the road, and what to do next."""
    from defect_assets.home import PROJECT
    from defect_assets.store import short

    m = release.metrics
    page = home.report(release.dataset, release.config) / "report.html"
    rows = {
        "dataset": release.dataset,
        "config": release.config,
        "model": f"{release.id} ({short(release.bundle)})",
        "test": f"{m.images} images of {m.groups} parts never seen in training"
        if m.grouped
        else f"{m.images} images, each taken for a part of its own: were they?",
        "Dice, IoU": f"[bold]{scored(m.dice)}[/], {scored(m.iou)} (pooled over pixels)",
        "per class": "  ".join(f"{escape(n)} {scored(s.dice, 2)}" for n, s in m.classes.items()),
        "report": escape(str(page)),
    }
    console.print()
    for name, value in rows.items():
        console.print(f"[dim]{name:<11}[/]{value}", soft_wrap=True)
    prefix = "" if home.root == PROJECT / "home" else f"DEFECT_HOME={escape(str(home.root))} "
    console.print("\n[bold]Go on with[/]")
    console.print(f"  {prefix}make dev      open Dagster's UI", soft_wrap=True)
    console.print(f"  {prefix}make serve    serve {release.id}", soft_wrap=True)
    console.print(
        f"  curl -F image=@{escape(example_image(home))} http://localhost:3000/analyze",
        soft_wrap=True,
    )


def show_crossvalidation(result: CrossValidation) -> None:
    """Print how good a configuration is, with 95 % intervals."""
    m = result.pooled
    scores = {
        "Dice": ("dice", m.dice),
        "macro Dice": ("macro_dice", m.macro_dice),
        "region recall": ("region_recall", m.region_recall),
        "image AUROC": ("image_auroc", m.image_auroc),
        "false alarms": ("false_alarms", m.false_alarms),
        "escapes": ("escapes", m.escapes),
        **{name: (f"dice {name}", score.dice) for name, score in m.classes.items()},
    }
    console.print(
        f"\n[bold]{result.dataset} × {result.config}[/], {len(result.folds)} folds: {m.images} "
        f"images of {m.groups} parts, each tested by a model that never saw its part"
    )
    for title, (name, score) in scores.items():
        bounds = _range(result.intervals.get(name), "")
        console.print(f"[dim]{escape(title):<14}[/]{scored(score)}  {bounds}")
    console.print("[dim]95 % intervals, resampled by part[/]")


def show_leak_audit(audit: LeakAudit) -> None:
    """Print the scores under both splits side by side."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("", "by part", "", "by image", "", "optimism", ""):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for name, (difference, bounds) in audit.optimism.items():
        cells = [titled(name)]
        for side in (audit.by_part, audit.by_image):
            cells += [scored(getattr(side.test, name)), _range(side.intervals.get(name), "")]
        table.add_row(*cells, f"[bold]{difference:+.3f}[/]", _range(bounds, "+"))
    sides = [audit.by_part, audit.by_image]
    console.print(
        f"\n[bold]{audit.dataset} × {audit.config}[/], the same configuration on two splits: "
        + " and ".join(f"{s.test.images} test images of {s.test.groups} parts" for s in sides)
    )
    console.print(table)
    console.print(
        "[dim]95 % intervals, resampled by part. Trained on other images of the same part: "
        f"{audit.by_part.seen:.0%} of the test images by part, "
        f"{audit.by_image.seen:.0%} by image.[/]"
    )
    console.print(f"[bold]{audit.verdict}[/]", soft_wrap=True)


def _range(bounds: tuple[float, float] | None, sign: str) -> str:
    return f"[dim]{bounds[0]:{sign}.3f}–{bounds[1]:{sign}.3f}[/]" if bounds else ""


def example_image(home: Home) -> str:
    """Return an image to try the service with: the one of a test split that looks worst."""
    import pandas as pd

    for table in sorted(home.reports.glob("*/images.csv"), reverse=True):
        images = pd.read_csv(table, dtype={"sample": str})
        for sample in images.sort_values("score", ascending=False)["sample"]:
            for image in sorted(home.inbox.glob(f"*/images/{sample}.*")):
                return str(image)
    return "tile.jpg"
