"""Whether a result is up to date: its record says what it was made from, and by which code.

A result is fresh if the code of its stage and the contents that it was made from are still the
same. No time counts, only digests: a clock that was set back changes nothing, and what comes out
the same as before makes nothing after it stale. Only direct parents count, so one asks on the way
down, after what is above was made; or plans it in an `Outlook`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.reasons import (
    code_changed,
    config_changed,
    content_changed,
    environment_changed,
)
from defect_assets.registry.stages import STAGES, Stage
from defect_assets.store import Digest, Record, Store


class State(StrEnum):
    """What is to be done about a result."""

    FRESH = "fresh"
    STALE = "stale"
    PERHAPS = "perhaps"
    """Stale, if what is above it and is made anew comes out another."""


@dataclass(frozen=True)
class Verdict:
    """Whether a stage's partition is up to date, and why it is or is not."""

    stage: str
    partition: str | None
    state: State
    why: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.why)


class Outlook:
    """What the store holds now, or will hold once what is planned is done.

    Parameters
    ----------
    store
        The store. It is only read.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._values: dict[str, tuple[Digest, Mapping[str, Any]]] = {}
        self._open: set[str] = set()

    def expect(self, ref: str, digest: Digest, value: Mapping[str, Any]) -> None:
        """Plan that a name will lead to a value that is known already."""
        self._values[ref] = (digest, value)

    def leave_open(self, ref: str) -> None:
        """Plan that a name's content is made anew, of which nobody knows what it will be."""
        self._open.add(ref)

    def is_open(self, ref: str) -> bool:
        """Tell whether a name's content is not known before it is made."""
        return ref in self._open and ref not in self._values

    def content(self, ref: str) -> Digest | None:
        """Return what a name leads to, or will lead to."""
        return self._values[ref][0] if ref in self._values else self.store.content(ref)

    def value(self, ref: str) -> Mapping[str, Any]:
        """Return the JSON value that a name leads to, or will lead to."""
        if ref in self._values:
            return self._values[ref][1]
        digest = self.store.content(ref)
        return self.store.objects.get_json(digest) if digest else {}


def judge(
    outlook: Outlook,
    stage: Stage,
    partition: str | None,
    project: Path,
    allow_unpinned: bool = False,
) -> Verdict:
    """Return whether a stage's partition is up to date.

    Parameters
    ----------
    outlook
        What is there, or planned.
    stage, partition
        What is asked about.
    project
        The checkout, which is asked how code changed.
    allow_unpinned
        Whether a result that was trained unpinned is left as it is.
    """
    ref = stage.ref(partition)
    record = outlook.store.record(ref)
    if record is None:
        return Verdict(stage.name, partition, State.STALE, ("not there yet",))
    if stage.for_good:
        return Verdict(stage.name, partition, State.FRESH, ("it stands for its name for good",))
    why = []
    if outlook.content(ref) != record.content:
        why.append(_says(outlook, stage, partition, record.content, outlook.content(ref)))
    if stage.channel:
        before = record.parents.get("model_release")
        after = outlook.content(f"channels/{stage.channel}")
        if before != after:
            why.append(content_changed(f"what is in {stage.channel}", before, after))
    if record.code_version != stage.code_version:
        why.append(code_changed(stage, record, project))
    perhaps = []
    for name in stage.parents:
        parent = STAGES[name]
        of = stage.partition_of(parent, partition)
        if outlook.is_open(parent.ref(of)):
            perhaps.append(f"if the content of {name} changes")
            continue
        before, after = record.parents.get(name), outlook.content(parent.ref(of))
        if before != after:
            why.append(_says(outlook, parent, of, before, after))
    if not allow_unpinned and why_unpinned(record):
        why.append("it was trained unpinned")
    if why:
        return Verdict(stage.name, partition, State.STALE, tuple(why))
    if perhaps:
        return Verdict(stage.name, partition, State.PERHAPS, tuple(perhaps))
    return Verdict(stage.name, partition, State.FRESH, (_unchanged(stage, record),))


def _says(
    outlook: Outlook,
    stage: Stage,
    partition: str | None,
    before: Digest | None,
    after: Digest | None,
) -> str:
    """Say how a content differs, value by value where it has values."""
    if before and after and stage.name in ("python_environment", "training_config"):
        was, now = outlook.store.objects.get_json(before), outlook.value(stage.ref(partition))
        if stage.name == "python_environment":
            return environment_changed(was, now)
        return config_changed(partition or "", was, now)
    return content_changed(stage.name, before, after)


def _unchanged(stage: Stage, record: Record) -> str:
    same = [name for name in stage.parents if name in record.parents]
    return f"same code{''.join(f', same {name}' for name in same)}"
