"""Versions of the data: what is there, what changed, and getting it out again."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors, fail
from defect_assets.console import bar, console

if TYPE_CHECKING:
    from defect_assets.dataset.snapshot import Snapshot
    from defect_assets.store import Store

Dataset = Annotated[str, typer.Argument(help="A dataset's id, e.g. DS-1.2.0.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Format(StrEnum):
    """What datasets can be exported as."""

    FOLDER = "folder"
    COCO = "coco"
    YOLO = "yolo"


def ingest(
    deliveries: Annotated[
        list[str] | None, typer.Argument(help="Deliveries in the inbox.", show_default="all")
    ] = None,
) -> None:
    """Take deliveries from the inbox into the store, without Dagster's UI or a model.

    Dagster learns of them with the next `repro`. Those that are unchanged are not read again.
    """
    from defect_assets.dataset.delivery import DeliveryRefused
    from defect_assets.home import LOCK, HomeError, default_home
    from defect_assets.inbox import State, arrivals, take_in
    from defect_assets.registry.provenance import publish_batch

    with errors():
        home = default_home()
        home.description()  # before anything is made of a home that is none
        store = home.store()
        found = {arrival.name: arrival.state for arrival in arrivals(home, store, deliveries or ())}
        strangers = set(deliveries or ()) - found.keys()
        if strangers:
            fail(f"there is no delivery {min(strangers)} in {home.inbox}")
        refused, taken, unchanged = [], 0, 0
        for name in deliveries or found:
            if found[name] is State.TAKEN:
                unchanged += 1
                continue
            if found[name] is State.INCOMPLETE and not deliveries:
                continue
            try:
                with bar(f"taking in {name}") as progress:
                    digest, batch = take_in(home, store, name, progress)
                publish_batch(store, name, digest, LOCK)
            except (DeliveryRefused, HomeError) as error:
                refused.append(str(error))  # one bad delivery is no reason to leave the others
                continue
            taken += found[name] is State.NEW
            unchanged += found[name] is State.TOUCHED
            counts = ", ".join(f"{n} {c}" for n, c in batch.counts.items()) or "no images"
            less = f", {sum(batch.removed.values())} removed" if batch.removed else ""
            console.print(f"[green]✓[/] [bold]{escape(name)}[/]: {escape(counts)}{less}")
        console.print(f"{taken} taken in, {unchanged} unchanged")
        if refused:
            fail("\n".join(refused))


def status(as_json: AsJson = False) -> None:
    """Say what is in the inbox, what is pending, and which version would be cut."""
    from defect_assets.dataset.snapshot import is_current, newest_snapshot
    from defect_assets.home import default_home
    from defect_assets.inbox import State, arrivals

    with errors():
        home = default_home()
        description = home.description()
        store = home.store()
        inbox = list(arrivals(home, store))
        newest = newest_snapshot(store)
        refusal, would = "", None
        if newest is None or not is_current(store, newest, description):
            # What is cut is looked at only where something is.
            from defect_assets.dataset.cut import CutRefused, pending

            try:
                would = pending(store, description)
            except CutRefused as error:
                refusal = str(error)
    if as_json:
        _print_json(
            {
                "home": str(home.root),
                "store": str(store.backend),
                "newest": newest.id if newest else None,
                "inbox": {arrival.name: arrival.state.value for arrival in inbox},
                "pending": [pin.id for pin in would.new] if would else [],
                "next": str(would.version) if would else None,
                "changelog": would.changelog.model_dump() if would else None,
                "refused": refusal or None,
            }
        )
        return
    console.print(f"[dim]store   [/]{escape(str(store.backend))}", soft_wrap=True)
    console.print(f"[dim]dataset [/]{newest.id if newest else 'none yet'}")
    waiting = [arrival for arrival in inbox if arrival.state is not State.TAKEN]
    console.print(f"[dim]inbox   [/]{len(inbox)} deliveries, {len(waiting)} to look at")
    for arrival in waiting[:20]:
        console.print(f"          [bold]{escape(arrival.name)}[/] {arrival.state.value}")
    if len(waiting) > 20:
        console.print(f"          and {len(waiting) - 20} more")
    if would:
        names = ", ".join(pin.id for pin in would.new[:5]) or "the description"
        more = f" and {len(would.new) - 5} more" if len(would.new) > 5 else ""
        console.print(f"[dim]pending [/]{escape(names)}{more}")
        console.print(
            f"          would be [bold]{would.version}[/]: {escape(str(would.changelog))}"
        )
    else:
        console.print(f"[dim]pending [/]{escape(refusal) or 'nothing'}")
    if any(arrival.state is State.NEW for arrival in waiting):
        console.print("defect-assets ingest takes in what is new", style="dim")
    elif would:
        console.print("defect-assets cut makes it a version", style="dim")


def cut(
    version: Annotated[
        str | None,
        typer.Option("--as", help="A higher number than the change asks for, e.g. DS-2.0.0."),
    ] = None,
    notes: Annotated[str, typer.Option(help="What people should know of it.")] = "",
) -> None:
    """Make all that was taken in since the newest version the next one, for good."""
    from defect_assets.dataset.cut import next_snapshot
    from defect_assets.dataset.snapshot import latest_version
    from defect_assets.dataset.version import Version
    from defect_assets.home import LOCK, default_home
    from defect_assets.registry.provenance import publish_snapshot

    with errors():
        home = default_home()
        store = home.store()
        try:
            number = Version.parse(version) if version else None
        except ValueError as error:
            fail(str(error))
        snapshot = next_snapshot(store, home.description(), number, notes)
        if snapshot is None:
            newest = latest_version(store)
            console.print(f"nothing changed since {newest}" if newest else "nothing to cut yet")
            return
        publish_snapshot(store, snapshot, LOCK)
        changed = escape(str(snapshot.changelog))
        console.print(f"[green]✓[/] [bold]{snapshot.id}[/]: {changed}", soft_wrap=True)


def log(as_json: AsJson = False) -> None:
    """List the versions, newest first, with what changed in each."""
    from defect_assets.dataset.snapshot import REF, find_snapshot, versions
    from defect_assets.home import default_home

    with errors():
        store = default_home().store()
        rows = []
        for version in reversed(versions(store)):
            record = store.record(f"{REF}{version}")
            assert record is not None
            rows.append((record, find_snapshot(store, str(version))[1]))
    if as_json:
        _print_json([_described(record.content, record.created_at, s) for record, s in rows])
        return
    if not rows:
        console.print("no version yet")
    for record, snapshot in rows:
        console.print(
            f"[bold]{snapshot.id}[/] [dim]{record.created_at:%Y-%m-%d %H:%M} · "
            f"{snapshot.samples} images of {snapshot.groups} parts · {record.content[:12]}[/]"
        )
        console.print(f"    {escape(str(snapshot.changelog))}", soft_wrap=True)
        if snapshot.notes:
            console.print(f"    [italic]{escape(snapshot.notes)}[/]", soft_wrap=True)


def show(dataset: Dataset, as_json: AsJson = False) -> None:
    """Show a version: batches, classes, what changed, and what it was made by."""
    from defect_assets.dataset.snapshot import REF, find_snapshot
    from defect_assets.home import default_home

    with errors():
        store = default_home().store()
        digest, snapshot = find_snapshot(store, dataset)
        record = store.record(f"{REF}{dataset}")
        assert record is not None
    if as_json:
        _print_json(
            snapshot.model_dump(mode="json")
            | {"digest": digest, "record": record.model_dump(mode="json")}
        )
        return
    split = snapshot.description.split
    lines = {
        "digest": digest,
        "cut": f"{record.created_at:%Y-%m-%d %H:%M} UTC, commit {record.commit or 'unknown'}",
        "environment": record.parents.get("python_environment", "not recorded"),
        "parent": snapshot.parent_id or "none",
        "changed": str(snapshot.changelog),
        "notes": snapshot.notes or "none",
        "images": f"{snapshot.samples} of {snapshot.groups} parts",
        "masks": f"{snapshot.description.masks}, threshold {snapshot.description.mask_threshold}",
        "split": f"{split.train:g} / {split.val:g} / {split.test:g} by part, {split.folds} folds, "
        f"seed {split.seed}",
        "batches": ", ".join(f"{pin.id} ({pin.digest[:12]})" for pin in snapshot.batches),
    }
    console.print(f"[bold]{snapshot.id}[/] of {snapshot.description.name}")
    for name, text in lines.items():
        console.print(f"[dim]{name:<12}[/]{escape(text)}", soft_wrap=True)
    from rich.table import Table

    colors = {c.name: c.color for c in snapshot.description.classes}
    table = Table("class", "id", "colour", "images", box=None, pad_edge=False, header_style="dim")
    for name, class_id in snapshot.description.class_ids.items():
        color = colors.get(name)
        shown = f"[{color}]■[/] {color}" if color else ""
        table.add_row(escape(name), str(class_id), shown, str(snapshot.counts.get(name, 0)))
    console.print(table)


def diff(
    before: Dataset,
    after: Dataset,
    samples: Annotated[bool, typer.Option("--samples", help="List every sample.")] = False,
    as_json: AsJson = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page with old and new masks side by side.", dir_okay=False),
    ] = None,
) -> None:
    """Say what differs between two versions."""
    from defect_assets.dataset.difference import changelog, difference
    from defect_assets.dataset.snapshot import find_snapshot
    from defect_assets.home import default_home

    with errors():
        store = default_home().store()
        one, other = (find_snapshot(store, name)[1] for name in (before, after))
        changes = difference(store, one.batches, other.batches)
        summary = changelog(changes, one.description, other.description)
        if html:
            from defect_assets.dataset.comparison import write_comparison

            write_comparison(store, one, other, changes, html)
    if as_json:
        _print_json(
            {"before": before, "after": after, "changelog": summary.model_dump()}
            | ({"samples": changes.to_pylist()} if samples else {})
        )
        return
    console.print(f"[bold]{before} → {after}[/]: {escape(str(summary))}", soft_wrap=True)
    if samples:
        for row in changes.to_pylist():
            was = row["class_before"]
            what = row["class"] if was in ("", row["class"]) else f"{was} → {row['class']}"
            if row["group_before"] not in ("", row["group"]):
                what += f", part {row['group_before']} → {row['group']}"
            console.print(f"{row['change']:<11}{escape(row['sample'])} [dim]{escape(what)}[/]")
    if html:
        console.print(f"written to {escape(str(html))}", soft_wrap=True)


def checkout(
    dataset: Dataset,
    folder: Annotated[Path, typer.Argument(help="A new folder, or that of another checkout.")],
) -> None:
    """Write a version as files; into the checkout of another, only what differs."""
    from defect_assets.dataset.checkout import checkout as write
    from defect_assets.home import default_home

    with errors(), bar(f"writing {dataset}") as progress:
        done = write(default_home().store(), dataset, folder, progress)
    console.print(
        f"{escape(str(folder))} is {dataset}: {done.files} files, {done.written} written, "
        f"{done.removed} removed",
        soft_wrap=True,
    )


def export(
    dataset: Dataset,
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    format: Annotated[Format, typer.Option(help="Of what other tools read.")] = Format.FOLDER,
) -> None:
    """Write a version in another tool's format, with the parts of its split if it has one."""
    from defect_assets.home import default_home

    with errors():
        store = default_home().store()
        count = _export(store, dataset, folder, format)
    console.print(f"{count} images of {dataset} in {escape(str(folder))}", soft_wrap=True)


def _export(store: Store, dataset: str, folder: Path, format: Format) -> int:
    from defect_assets.dataset.exporting import exported_samples
    from defect_assets.dataset.formats.coco import write_coco
    from defect_assets.dataset.formats.folder import write_folder
    from defect_assets.dataset.formats.yolo import write_yolo
    from defect_assets.dataset.snapshot import find_snapshot

    _, snapshot = find_snapshot(store, dataset)
    writers = {Format.FOLDER: write_folder, Format.COCO: write_coco, Format.YOLO: write_yolo}
    with bar(f"exporting {dataset}") as progress:

        def counted() -> Any:
            for done, sample in enumerate(exported_samples(store, snapshot), start=1):
                yield sample
                progress(done, snapshot.samples)

        writers[format](folder, snapshot.description, counted())
    return snapshot.samples


def _described(digest: str, created_at: Any, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "digest": digest,
        "created_at": created_at.isoformat(),
        "samples": snapshot.samples,
        "groups": snapshot.groups,
        "counts": snapshot.counts,
        "changelog": snapshot.changelog.model_dump(),
        "notes": snapshot.notes,
    }


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
