"""Copying what one store has and another lacks."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from defect_assets.errors import UserError
from defect_assets.store.backend import Entry
from defect_assets.store.digest import OBJECTS, Corrupted, Digest, digest_of, object_digest
from defect_assets.store.inventory import Inventory, immutable_entries
from defect_assets.store.packs import INDEXES, only_packs, packs_in, read_index, write_index
from defect_assets.store.store import Record, Store
from defect_assets.store.tables import TABLES

AT_ONCE = 4
"""Transfers at a time, a pack each: enough to fill the line, and little memory."""


class MissingInSource(UserError):
    """The store to copy from is damaged; the message says what it lacks."""


@dataclass(frozen=True)
class Plan:
    """What a transfer would do."""

    entries: tuple[Entry, ...]
    """Objects, tables and indexes to copy, in this order."""
    packs: frozenset[Digest]
    """Those of which the destination does not know what lies in them."""
    names: dict[str, tuple[Digest | None, Digest]]
    """Names to set: from what they stand for in the destination, to what."""
    conflicts: dict[str, str]
    """Names that cannot be set, and why."""

    @property
    def bytes(self) -> int:
        """How much there is to copy."""
        return sum(entry.size for entry in self.entries)


def plan_transfer(source: Store, destination: Store) -> Plan:
    """Compare two stores by what the source's names lead to.

    Raises
    ------
    MissingInSource
        If something that a name leads to is missing in the source, or damaged.
    """
    names: dict[str, tuple[Digest | None, Digest]] = {}
    conflicts: dict[str, str] = {}
    listed = list(source.refs.names())
    with ThreadPoolExecutor(16) as pool:
        standing = zip(
            listed,
            pool.map(source.refs.get, listed),
            pool.map(destination.refs.get, listed),
            strict=True,
        )
    # Where both sides know a name for the same, all that it leads to is there: names are set last.
    complete: set[Digest] = set()
    for name, here, there in standing:
        if here is None:
            continue
        if here == there:
            complete |= {here, Record.model_validate(source.objects.get_json(here)).content}
            continue
        why = _conflict(source, destination, name, here, there)
        if why is None:
            names[name] = (there, here)
        elif why:
            conflicts[name] = why
    if not names:
        return Plan((), frozenset(), {}, conflicts)
    destination.backend.hold()  # what is there already must stay
    inventory = Inventory(source)
    reached = inventory.reached(names, but=complete)
    if reached.missing:
        what, mentioned_by = next(iter(reached.missing.items()))
        raise MissingInSource(
            f"{source.backend} lacks {what}, which {mentioned_by} mentions, or it is damaged, and "
            f"so are {len(reached.missing) - 1} more: nothing was copied; run defect-assets verify"
        )
    unknown = reached.packs - destination.objects.packs.packs()
    indexes = [
        key
        for key in inventory.entries
        if key.startswith(INDEXES) and packs_in(read_index(source.backend, key)) & unknown
    ]
    held = immutable_entries(destination.backend)
    keys = [key for key in [*reached.keys, *indexes] if key in inventory.entries]
    rank = [OBJECTS, TABLES, INDEXES]
    missing = sorted(
        (key for key in keys if key not in held),
        key=lambda key: (rank.index(key.split("/")[0] + "/"), key),
    )
    return Plan(
        tuple(inventory.entries[key] for key in missing), frozenset(unknown), names, conflicts
    )


def transfer(
    source: Store,
    destination: Store,
    plan: Plan,
    progress: Callable[[int], None] = lambda size: None,
) -> None:
    """Do what a plan says. What was copied before an interruption is not copied again.

    Every object is hashed on its way. Names are set last, so that what they lead to is there.

    Parameters
    ----------
    source, destination
        The stores.
    plan
        Made by `plan_transfer`.
    progress
        Is told the size in bytes of each thing that was copied.

    Raises
    ------
    Corrupted
        If something in the source does not have its digest.
    RefConflict
        If someone else set a name meanwhile.
    """

    def copy(entry: Entry) -> int:
        if entry.key.startswith(INDEXES):
            index = read_index(source.backend, entry.key)
            write_index(destination.backend, only_packs(index, plan.packs))
        else:
            data = source.backend.read(entry.key)
            if entry.key.startswith(OBJECTS) and digest_of(data) != object_digest(entry.key):
                raise Corrupted(entry.key)
            destination.backend.create(entry.key, data)
        return entry.size

    # Kind by kind: what points to something is copied after it.
    for folder in (OBJECTS, TABLES, INDEXES):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            these = [entry for entry in plan.entries if entry.key.startswith(folder)]
            try:
                for size in pool.map(copy, these):
                    progress(size)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    for name, (before, digest) in plan.names.items():
        if before is None:
            destination.refs.create(name, digest)
        else:
            destination.refs.move(name, before, digest)


def _conflict(
    source: Store, destination: Store, name: str, here: Digest, there: Digest | None
) -> str | None:
    """Return why a name cannot be set: None if it can, nothing if it need not."""
    if there is None or there in _history(source, here):
        return None
    if here in _history(destination, there):
        return ""  # the destination is ahead
    ours, theirs = (
        Record.model_validate(store.objects.get_json(digest))
        for store, digest in ((source, here), (destination, there))
    )
    if ours.content == theirs.content:
        return ""
    one, other = (
        f"{record.content[:12]} of {record.created_at:%Y-%m-%d %H:%M}" for record in (ours, theirs)
    )
    return f"in {source.backend} it stands for {one}, in {destination.backend} for {other}"


def _history(store: Store, digest: Digest) -> set[Digest]:
    """Return the records that a name has stood for."""
    past = set()
    at: Digest | None = digest
    while at:
        past.add(at)
        at = Record.model_validate(store.objects.get_json(at)).previous
    return past
