"""The store itself: is it sound, what is in it for nothing, and copies of it elsewhere."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors, fail
from defect_assets.console import bar, console

if TYPE_CHECKING:
    from defect_assets.store import Store

Place = Annotated[
    str,
    typer.Argument(
        help="A store: a folder, or s3://bucket/prefix with the usual AWS environment.",
        envvar="DEFECT_REMOTE",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def verify(
    share: Annotated[
        float, typer.Option(min=0, max=1, help="How much of it to read, taken at random.")
    ] = 1.0,
    repair_from: Annotated[
        str | None, typer.Option(help="Restore what is damaged from this store.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hash what the store holds, and name what is damaged and the versions that it touches."""
    from defect_assets.home import default_home
    from defect_assets.spreading import in_threads
    from defect_assets.store.verify import repair
    from defect_assets.store.verify import verify as check

    with errors():
        home = default_home()
        store = home.store(cached=False)
        seed = 0 if share == 1 else int.from_bytes(os.urandom(4))
        with bar("verifying", unit="bytes") as progress:
            found = check(store, share, seed, progress, spread=home.spread(in_threads))
        source = _existing(repair_from) if repair_from else None
        mended = [source is not None and repair(store, source, d) for d in found.damages]
        if any(mended):
            store.objects.packs.forget()
    if as_json:
        damages = [
            asdict(damage) | {"repaired": done}
            for damage, done in zip(found.damages, mended, strict=True)
        ]
        report = {"keys": found.keys, "bytes": found.bytes, "damages": damages}
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        for damage, done in zip(found.damages, mended, strict=True):
            console.print(
                f"{'[green]repaired[/]' if done else '[bold red]damaged[/]'} {escape(str(damage))}",
                soft_wrap=True,
            )
        size = _size(found.bytes)
        console.print(
            f"{found.keys} things read, {size}: "
            + (f"{len(found.damages)} damaged" if found.damages else "all is sound")
        )
    if not all(mended):
        raise typer.Exit(1)


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Do it.")] = False,
    older_than: Annotated[
        float,
        typer.Option(help="Hours; what is younger stays, since someone may be about to name it."),
    ] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Say what no name leads to, e.g. after a crash; with --delete, remove it.

    What a batch, a version, an experiment or a release was made of is never removed.
    """
    from defect_assets.home import default_home
    from defect_assets.store.collect import collect, find_garbage

    with errors():
        store = default_home().store(cached=False)
        garbage = (collect if delete else find_garbage)(store, older_than)
    if as_json:
        report = {
            "deleted": delete,
            "keys": [entry.key for entry in garbage.entries],
            "bytes": garbage.bytes,
            "young": garbage.young,
            "kept": garbage.kept,
        }
        typer.echo(json.dumps(report, indent=2))
        return
    verb = "removed" if delete else "would be removed"
    console.print(f"{len(garbage.entries)} things {verb}, {_size(garbage.bytes)}")
    if garbage.young:
        console.print(f"{garbage.young} more are younger than {older_than:g} hours")
    console.print(f"{garbage.kept} are in use")
    if garbage.entries and not delete:
        console.print("defect-assets gc --delete removes them", style="dim")


def push(place: Place) -> None:
    """Copy to another store what it lacks of this home's."""
    from defect_assets.home import default_home
    from defect_assets.store import open_store

    with errors():
        _transfer(default_home().store(), open_store(place), f"to {place}")


def pull(place: Place) -> None:
    """Copy from another store what this home's lacks."""
    from defect_assets.home import default_home

    with errors():
        _transfer(_existing(place), default_home().store(), f"from {place}")


def clone(
    place: Place,
    folder: Annotated[Path, typer.Argument(help="The new home.", file_okay=False)],
) -> None:
    """Make a new home of another store: all its versions, models and releases."""
    from defect_assets.dataset.snapshot import newest_snapshot
    from defect_assets.home import Home

    with errors():
        source = _existing(place)
        home = Home(folder.resolve())
        newest = newest_snapshot(source)
        if newest is None:
            fail(f"{place} holds no dataset version yet")
        home.hold(newest.description)
        _transfer(source, home.store(), f"from {place}")
    console.print(
        f"{escape(str(folder))} is a home now: defect-assets --home {escape(str(folder))} log",
        soft_wrap=True,
    )


def _existing(place: str) -> Store:
    """Open a store that must be there already."""
    from defect_assets.store import open_store

    store = open_store(place)
    if next(store.refs.names(), None) is None:
        fail(f"there is no store in {place}")
    return store


def _transfer(source: Store, destination: Store, where: str) -> None:
    from defect_assets.store.transfer import plan_transfer, transfer

    with console.status("comparing"):
        plan = plan_transfer(source, destination)
    done = 0
    with bar(f"copying {where}", unit="bytes") as progress:

        def count(size: int) -> None:
            nonlocal done
            done += size
            progress(done, plan.bytes)

        transfer(source, destination, plan, count)
    console.print(
        f"{len(plan.entries)} things copied {escape(where)}, {_size(plan.bytes)}; "
        f"{len(plan.names)} names set"
        if plan.names
        else f"nothing to copy {escape(where)}",
        soft_wrap=True,
    )
    if plan.conflicts:
        lines = "\n".join(f"  {name}: {why}" for name, why in plan.conflicts.items())
        fail(
            f"{len(plan.conflicts)} names stand for something else there, and were left as they "
            "are; give what is yours another name, and of a channel let both lead to the same "
            f"release:\n{lines}"
        )


def _size(count: int) -> str:
    value, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
