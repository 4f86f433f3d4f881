"""Channels: names such as ``production`` that lead to a release, move, and remember how.

A channel is promoted to a release, and rolled back. To roll back undoes the last promotion that
stands: the channel leads to the release before it, to the same digest. So two rollbacks in a row
go two promotions back, and what was rolled back comes again only by being promoted.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from defect_assets.errors import UserError
from defect_assets.inference.bundle import FILES
from defect_assets.registry.release.releases import REF as RELEASES
from defect_assets.registry.release.releases import (
    Release,
    find_release,
    read_documents,
    read_release,
    releases,
)
from defect_assets.store import Corrupted, Digest, NotInStore, Record, RefConflict, Store

REF = "channels/"
PRODUCTION = "production"
_NAME = re.compile(r"[a-z][a-z0-9-]*")


class ChannelRefused(UserError):
    """A channel that cannot be moved as asked; the message says why and what to do."""


class Move(BaseModel):
    """One move of a channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: str
    action: Literal["promote", "rollback"]
    release: str
    """Where it leads since, e.g. ``v1.4.2``."""
    digest: Digest
    """That release's."""
    by: str
    """Who moved it."""
    why: str
    at: datetime


def check_name(channel: str) -> str:
    """Return the name of a channel if it is one.

    Raises
    ------
    ChannelRefused
        If it is none.
    """
    if not _NAME.fullmatch(channel):
        raise ChannelRefused(
            f"{channel!r} is no name of a channel: small letters, digits and hyphens, beginning "
            "with a letter, e.g. production or staging"
        )
    return channel


def channels(store: Store) -> list[str]:
    """Return the names of all channels, sorted."""
    return [name.removeprefix(REF) for name in store.refs.names(REF)]


def moves(store: Store, channel: str) -> list[Move]:
    """Return how a channel was moved, the newest first; nothing where it never was."""
    return [_move(channel, record) for record in store.history(REF + check_name(channel))]


def standing(past: Iterable[Move]) -> list[Move]:
    """Return the promotions that stand, the newest first: those that were not rolled back.

    The first one is where the channel leads, the second one where a rollback would take it.

    Parameters
    ----------
    past
        Its moves, the newest first.
    """
    kept: list[Move] = []
    undone = 0
    for move in past:
        if move.action == "rollback":
            undone += 1
        elif undone:
            undone -= 1
        else:
            kept.append(move)
    return kept


def leads_to(store: Store, name: str) -> Release:
    """Return a release by its id, or the one that a channel leads to.

    Raises
    ------
    ChannelRefused
        If there is neither; the message lists what there is.
    """
    if found := find_release(store, name):
        return found
    digest = store.content(f"{REF}{name}") if _NAME.fullmatch(name) else None
    if digest is None:
        known = [*(release.id for release in releases(store)), *channels(store)]
        raise ChannelRefused(
            f"there is no release and no channel {name}; known: {', '.join(known) or 'none'}"
        )
    return read_release(store, digest)


def in_use(store: Store, name: str | None = None) -> Release:
    """Return the release that is meant: by default what is in production, or else the newest.

    Parameters
    ----------
    store
        Where they lie.
    name
        A release's id, or a channel.

    Raises
    ------
    ChannelRefused
        If there is none.
    """
    if name or PRODUCTION in channels(store):
        return leads_to(store, name or PRODUCTION)
    known = releases(store)
    if not known:
        raise ChannelRefused("nothing is released yet: run defect-assets repro first")
    return known[-1]


def overridden(store: Store, release: str) -> str:
    """Return why a release was let through though it failed a gate, and by whom; or nothing."""
    record = store.record(RELEASES + release)
    override = record.details.get("override") if record else None
    return f"{override['reason']} ({override['by']})" if override else ""


def promote(
    store: Store, channel: str, release: str, by: str, why: str, expect: str | None = None
) -> Move | None:
    """Let a channel lead to a release.

    Parameters
    ----------
    store
        Where both are.
    channel
        Its name; a new one is made.
    release
        E.g. ``v1.4.2``.
    by, why
        Who moves it, and what for.
    expect
        The release that the channel must lead to until now; None: any, or none.

    Returns
    -------
    Move or None
        None where the channel leads there already: nothing was changed then.

    Raises
    ------
    ChannelRefused
        If there is no such release or it is damaged, the channel leads elsewhere than expected, or
        someone else moved it at the same time.
    """
    before, past = _look(store, channel)
    present = past[0].release if past else None
    if expect is not None and expect != present:
        raise ChannelRefused(
            f"{channel} is not moved: it leads to {present or 'nothing'}, not to {expect}"
            + (f"; {_told(past[0])}" if past else "")
        )
    digest = _sound(store, release)
    if past and past[0].digest == digest:
        return None
    return _publish(store, channel, before, "promote", release, digest, by, why)


def rollback(store: Store, channel: str, by: str, why: str) -> Move:
    """Let a channel lead to where it led before the last promotion that stands.

    Raises
    ------
    ChannelRefused
        If there was nothing before, it is damaged by now, or someone else moved the channel at the
        same time.
    """
    before, past = _look(store, channel)
    kept = standing(past)
    if len(kept) < 2:
        known = ", ".join(channels(store)) or "none"
        raise ChannelRefused(
            f"{channel} cannot be rolled back: there was nothing before {kept[0].release}"
            if kept
            else f"nothing was ever promoted to {channel}; channels: {known}"
        )
    target = kept[1]
    _sound(store, target.release, target.digest)
    return _publish(store, channel, before, "rollback", target.release, target.digest, by, why)


def _look(store: Store, channel: str) -> tuple[Digest | None, list[Move]]:
    """Return the record that a channel points to, and the moves that led there."""
    digest = store.refs.get(REF + check_name(channel))
    return digest, [_move(channel, record) for record in store.past(digest)]


def _publish(
    store: Store,
    channel: str,
    before: Digest | None,
    action: Literal["promote", "rollback"],
    release: str,
    digest: Digest,
    by: str,
    why: str,
) -> Move:
    if not why.strip():
        raise ChannelRefused("say why: whoever looks at the channel's history will ask")
    record = Record(
        asset="channel",
        partition=channel,
        content=digest,
        parents={"model_release": digest},
        details={"action": action, "release": release, "by": by, "why": why.strip()},
    )
    try:
        store.publish_after(REF + channel, before, record)
    except RefConflict as error:
        winner = moves(store, channel)[0]
        raise ChannelRefused(
            f"{channel} is not moved: someone else was faster; {_told(winner)}. "
            f"Look at it, and decide again"
        ) from error
    return _move(channel, record)


def _sound(store: Store, release: str, digest: Digest | None = None) -> Digest:
    """Return the digest of a release all of whose files are there, unchanged.

    Raises
    ------
    ChannelRefused
        If there is no such release, or something of it is damaged or gone.
    """
    digest = digest or store.content(RELEASES + release)
    if digest is None:
        known = ", ".join(found.id for found in releases(store)) or "none"
        raise ChannelRefused(f"there is no release {release}; known: {known}")
    try:
        found = read_release(store, digest)
        lacking = set(FILES) - store.objects.get_tree(found.bundle).keys()
        store.objects.get_tree(found.report)
        read_documents(store, release)
    except (Corrupted, NotInStore) as error:
        raise ChannelRefused(
            f"{release} is damaged, so nothing can lead to it: {error}. "
            "defect-assets verify --repair-from STORE restores it from a copy of the store"
        ) from error
    if lacking:
        raise ChannelRefused(f"{release} has no model to serve: it lacks {', '.join(lacking)}")
    return digest


def _move(channel: str, record: Record) -> Move:
    return Move(channel=channel, digest=record.content, at=record.created_at, **record.details)


def _told(move: Move) -> str:
    verb = "promoted" if move.action == "promote" else "rolled it back to"
    return f"{move.by} {verb} {move.release} on {move.at:%Y-%m-%d at %H:%M} UTC: {move.why}"
