"""Channels: which release is in production, moving it there, and going back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors, fail
from defect_assets.console import console

if TYPE_CHECKING:
    from defect_assets.registry.channels import Move

Why = Annotated[str, typer.Option(help="Why, for whoever looks at the history.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def promote(
    release: Annotated[str, typer.Argument(help="E.g. v0.2.0.")],
    channel: Annotated[str, typer.Argument(help="E.g. production or staging.")],
    why: Why,
    expect: Annotated[
        str | None,
        typer.Option(
            help="Only if the channel leads to this release until now: for scripts that compared "
            "the two."
        ),
    ] = None,
) -> None:
    """Let a channel lead to a release, whose files must all be there, unchanged.

    Of two people who do so at once, one wins, and the other one is told who.
    """
    from defect_assets.home import PROJECT, default_home
    from defect_assets.registry import channels
    from defect_assets.registry.checkout import identity

    with errors():
        store = default_home().store()
        move = channels.promote(store, channel, release, identity(PROJECT), why, expect)
        if move is None:
            since = channels.moves(store, channel)[0]
            console.print(
                f"nothing to do: {channel} leads to [bold]{escape(release)}[/] already, since "
                f"{_told(since)}",
                soft_wrap=True,
            )
            return
        overridden = channels.overridden(store, release)
    console.print(f"[green]✓[/] {channel} leads to [bold]{escape(release)}[/] now")
    if overridden:
        console.print(
            f"[yellow]it failed gates and was let through all the same:[/] {escape(overridden)}",
            soft_wrap=True,
        )


def rollback(
    channel: Annotated[str, typer.Argument(help="E.g. production.")],
    why: Why,
) -> None:
    """Let a channel lead to the release before the present one, the same to the last byte.

    It undoes the last promotion that stands: two rollbacks in a row go two promotions back.
    """
    from defect_assets.home import PROJECT, default_home
    from defect_assets.registry import channels
    from defect_assets.registry.checkout import identity

    with errors():
        store = default_home().store()
        move = channels.rollback(store, channel, identity(PROJECT), why)
    console.print(f"[green]✓[/] {channel} leads to [bold]{move.release}[/] again")


def channels(
    channel: Annotated[
        str | None, typer.Argument(help="One channel, with its history.", show_default="all")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which release each channel leads to; of one channel, how it got there."""
    from defect_assets.home import default_home
    from defect_assets.registry import channels as registry

    with errors():
        store = default_home().store()
        names = [channel] if channel else registry.channels(store)
        histories = {name: registry.moves(store, name) for name in names}
        if channel and not histories[channel]:
            known = ", ".join(registry.channels(store)) or "none"
            fail(f"nothing was ever promoted to {channel}; channels: {known}")
    if as_json:
        shown = histories if channel else {name: past[:1] for name, past in histories.items()}
        values = [move.model_dump(mode="json") for past in shown.values() for move in past]
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    if not histories:
        console.print("no channel yet: defect-assets promote v… production --why …")
    for name, past in histories.items():
        kept = registry.standing(past)
        back = f", a rollback leads to {kept[1].release}" if len(kept) > 1 else ""
        console.print(f"[bold]{name}[/] {past[0].release} [dim]{past[0].digest[:12]}{back}[/]")
        for move in past if channel else past[:1]:
            verb = {"promote": "promoted", "rollback": "rolled back to"}[move.action]
            console.print(f"    {verb} {move.release} {_told(move)}", soft_wrap=True)


def _told(move: Move) -> str:
    return (
        f"[dim]{move.at:%Y-%m-%d %H:%M} UTC by {escape(move.by)}[/]: [italic]{escape(move.why)}[/]"
    )
