"""Which number a release gets: what changed since the one before decides.

MAJOR: another architecture, or other classes or files, so that what is served or how it is used is
another thing. MINOR: other data, labels included, or other hyper-parameters. PATCH: neither, as
where it was trained by other code, in another environment, or evaluated anew.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.version import Bump, Version
from defect_assets.inference.bundle import SPEC, BundleSpec
from defect_assets.registry.comparison.differences import Differences, Factor, differences
from defect_assets.registry.release.candidates import Candidate, ReleaseRefused
from defect_assets.registry.release.releases import releases
from defect_assets.registry.subjects import UnknownSubject, find_subject
from defect_assets.store import Digest, Store

_BEGINNING = Version("v", 0, 0, 0)
"""What the first release follows, as a minor one."""
_MENTIONED = 12
"""Keys, packages or commits that a note lists one by one."""


class Change(NamedTuple):
    """One thing that changed, and the number that it raises."""

    bump: Bump
    what: str


class Numbering(BaseModel):
    """The number of a release, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    previous: str | None
    """The newest release until now, which is compared with."""
    bump: str
    """``major``, ``minor`` or ``patch``."""
    because: str
    changed: tuple[str, ...] = ()
    """All that differs from the release before, in words."""


def number(
    store: Store, project: Path, candidate: Candidate, given: Bump | Version | None = None
) -> Numbering:
    """Return the number that a candidate gets.

    Parameters
    ----------
    store
        Where it and the releases lie.
    project
        The checkout whose history says what happened to the code.
    candidate
        What is to be released.
    given
        What a person wants: a number to raise, or a whole version. By default what the rule says.

    Raises
    ------
    ReleaseRefused
        If what is given is lower than the rule says, or does not follow.
    """
    past = releases(store)
    if not past:
        version = next_version(_BEGINNING, Bump.MINOR, given)
        return Numbering(
            version=str(version), previous=None, bump="minor", because="it is the first release"
        )
    previous = past[-1]
    found = list(_changes_in_use(_spec(store, previous.bundle), _spec(store, candidate)))
    changed: tuple[str, ...]
    try:
        differ = differences(store, find_subject(store, previous.id), candidate, project)
    except UnknownSubject as error:
        found.append(Change(Bump.MINOR, "nobody knows what it was made of"))
        changed = (str(error),)
    else:
        found += _changes_in_making(differ)
        changed = tuple(_told(differ))
    asked = max((change.bump for change in found), default=Bump.PATCH)
    version = next_version(Version.parse(previous.id), asked, given, found)
    because = "; ".join(change.what for change in found) or "neither data nor configuration changed"
    bump = _bump_between(Version.parse(previous.id), version)
    if bump > asked:
        because += f" ({asked.name.lower()} by rule, raised by a person)"
    return Numbering(
        version=str(version),
        previous=previous.id,
        bump=bump.name.lower(),
        because=because,
        changed=changed,
    )


def next_version(
    previous: Version,
    asked: Bump,
    given: Bump | Version | None = None,
    found: list[Change] | None = None,
) -> Version:
    """Return the version that follows another one.

    Parameters
    ----------
    previous
        The version before.
    asked
        What the changes ask for.
    given
        What a person wants instead: it may be higher, never lower.
    found
        The changes, for the message.

    Raises
    ------
    ReleaseRefused
        If it is lower, or does not follow.
    """
    allowed = [previous.bumped(bump) for bump in Bump if bump >= asked]
    wanted = previous.bumped(given) if isinstance(given, Bump) else given or allowed[0]
    if wanted not in allowed:
        since = f" since {previous} {'; '.join(c.what for c in found)}, so" if found else ""
        raise ReleaseRefused(
            f"{wanted} cannot be released:{since} the next version is {allowed[0]}; it can be "
            "raised to the next minor or major one, never lowered"
        )
    return wanted


def _bump_between(before: Version, after: Version) -> Bump:
    return next(bump for bump in Bump if before.bumped(bump) == after)


def _spec(store: Store, of: Candidate | Digest) -> BundleSpec:
    bundle = of.model.content if isinstance(of, Candidate) else of
    return BundleSpec.model_validate_json(store.objects.get(store.objects.get_json(bundle)[SPEC]))


def _changes_in_use(before: BundleSpec, after: BundleSpec) -> Iterator[Change]:
    # What training began with is a hyper-parameter; the architecture is the same.
    one, other = (s.architecture.model_dump(exclude={"encoder_weights"}) for s in (before, after))
    if one != other:
        yield Change(Bump.MAJOR, "the architecture changed")
    if before.class_map != after.class_map:
        yield Change(Bump.MAJOR, "the classes changed")
    if before.format != after.format:
        yield Change(Bump.MAJOR, "the bundle's format changed")


def _changes_in_making(differ: Differences) -> Iterator[Change]:
    if Factor.DATA in differ.factors:
        yield Change(Bump.MINOR, "the data changed")
    if Factor.CONFIG in differ.factors:
        yield Change(Bump.MINOR, "the configuration changed")


def _told(differ: Differences) -> Iterator[str]:
    """Say what differs, one thing a line."""
    if Factor.DATA in differ.factors:
        yield f"Data: {differ.data.changelog}."
        for batch in differ.data.batches:
            yield f"Data: {batch}"
        for way, count in differ.data.moved.items():
            yield f"Data: {count} samples moved in the split, {way}"
    yield from _some("Configuration", differ.config)
    if Factor.CODE in differ.factors:
        yield f"Code: commit {differ.code.commits}"
        for commit in differ.code.touched_by[:_MENTIONED]:
            yield f"Code: {commit}"
        if differ.code.unknown:
            yield f"Code: {differ.code.unknown}"
    yield from _some("Environment", differ.environment.changes)
    yield from _some("Hardware", differ.environment.hardware)


def _some(title: str, changes: Mapping[str, Any]) -> Iterator[str]:
    for name, change in islice(changes.items(), _MENTIONED):
        yield f"{title}: {name} {change}"
    if len(changes) > _MENTIONED:
        yield f"{title}: {len(changes) - _MENTIONED} more"
