"""What differs between two models: data, configuration, code, environment."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from defect_assets.dataset.changelog import Changelog
from defect_assets.dataset.difference import carried_by, changelog, difference
from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import Split, read_split
from defect_assets.registry.checkout import NoCheckout, commits_between, write_commit
from defect_assets.registry.code import sources
from defect_assets.registry.subjects import Subject
from defect_assets.store import Record, Store, short

STAGE = "training.experiment"
"""The module by which models are made; with what it imports, it is their code."""
HARDWARE = ("device", "processor", "threads", "processes", "precision")
"""What a model's record says of the machine that may show in the last digits."""


class Factor(StrEnum):
    """What decides a model."""

    DATA = "data"
    CONFIG = "config"
    CODE = "code"
    ENVIRONMENT = "environment"


class Change(BaseModel):
    """A value, before and after; None where there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: Any = None
    after: Any = None

    @property
    def differs(self) -> bool:
        """Whether the two are not the same."""
        return bool(self.before != self.after)

    def __str__(self) -> str:
        return " → ".join("–" if v is None else str(v) for v in (self.before, self.after))


class BatchDifference(BaseModel):
    """A batch that only one of two snapshots has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    added: bool
    """Whether the second has it; if not, the first."""
    samples: dict[str, int]
    """How many samples are added, relabelled, regrouped or removed by it."""

    def __str__(self) -> str:
        carried = ", ".join(f"{count} {kind}" for kind, count in self.samples.items())
        return f"{'+' if self.added else '−'} {self.id}: {carried or 'no sample differs by it'}"


class DataDifference(BaseModel):
    """What differs in the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshots: Change
    """Digests."""
    splits: Change
    """Digests; a split stands for its snapshot, too."""
    batches: tuple[BatchDifference, ...] = ()
    changelog: Changelog = Changelog()
    moved: dict[str, int] = Field(default_factory=dict)
    """Samples of both that are in another part of the split, e.g. ``train → test``: 3."""


class Commit(BaseModel):
    """A commit, and the first line of what it says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    subject: str

    def __str__(self) -> str:
        return f"{short(self.id)} {self.subject}"


class CodeDifference(BaseModel):
    """What differs in the code that trains."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commits: Change
    """``+`` after an id: the working tree had changes."""
    versions: Change
    """Digests of the code that trains; if they are the same, so is what it computes."""
    files: tuple[str, ...] = ()
    """Its files that compute something else in one commit than in the other."""
    touched_by: tuple[Commit, ...] = ()
    """The commits in between that touch these files, the newest first."""
    unknown: str = ""
    """Why the files and commits cannot be told; empty where they can."""


class EnvironmentDifference(BaseModel):
    """What differs in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environments: Change
    """Digests."""
    changes: dict[str, Change] = Field(default_factory=dict)
    """By ``python``, ``torch``, ``cuda``, ``machine`` and the names of packages."""
    hardware: dict[str, Change] = Field(default_factory=dict)
    """Told, and no factor: a result in the last digits may depend on it."""


class Differences(BaseModel):
    """What differs between two models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataDifference
    config: dict[str, Change]
    """By key; those of nested values are dotted."""
    code: CodeDifference
    environment: EnvironmentDifference

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What differs, and can make the second model another one than the first."""
        differ = {
            Factor.DATA: self.data.splits.differs,
            Factor.CONFIG: bool(self.config),
            Factor.CODE: self.code.versions.differs,
            Factor.ENVIRONMENT: bool(self.environment.changes),
        }
        return tuple(factor for factor in Factor if differ[factor])


def differences(store: Store, a: Subject, b: Subject, project: Path) -> Differences:
    """Return what differs between two models.

    Parameters
    ----------
    store
        Where they, their data and their configurations lie.
    a, b
        From which to which.
    project
        The checkout whose history is asked what happened between their commits.
    """
    one, other = a.model, b.model
    return Differences(
        data=_data(store, _parents(one, other, "dataset_split")),
        config=_config(store, _parents(one, other, "training_config")),
        code=_code(one, other, project),
        environment=_environment(store, one, other),
    )


def changes_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Change]:
    """Return what differs between two JSON objects, key by key.

    Lists of one length are compared item by item, others as a whole: an item that is put in
    between is not a change of all that follow.
    """
    found: dict[str, Change] = {}
    for key in sorted({*before, *after}):
        one, other = before.get(key), after.get(key)
        if one == other:
            continue
        nested = _alike(one, other)
        if nested is None:
            found[key] = Change(before=one, after=other)
        else:
            found |= {f"{key}.{name}": c for name, c in changes_between(*nested).items()}
    return found


def _alike(one: Any, other: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return two objects, or two lists of one length, as objects; None for anything else."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one, other
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        keys = list(map(str, range(len(one))))
        return dict(zip(keys, one, strict=True)), dict(zip(keys, other, strict=True))
    return None


def parts_of(store: Store, split: Split) -> dict[str, str]:
    """Return which part of a split each sample is in."""
    rows = store.objects.get_table(split.rows, ["sample", "part"])
    return dict(zip(rows["sample"].to_pylist(), rows["part"].to_pylist(), strict=True))


def _parents(one: Record, other: Record, stage: str) -> Change:
    return Change(before=one.parents.get(stage), after=other.parents.get(stage))


def _data(store: Store, digests: Change) -> DataDifference:
    splits = [read_split(store, d) if d else None for d in (digests.before, digests.after)]
    before, after = splits
    snapshots = Change(
        before=before.snapshot if before else None, after=after.snapshot if after else None
    )
    if before is None or after is None or before == after:
        return DataDifference(snapshots=snapshots, splits=digests)
    old, new = (read_snapshot(store, split.snapshot) for split in (before, after))
    changes = difference(store, old.batches, new.batches)
    origin = carried_by(store, old.batches, new.batches, changes)
    kinds = dict(zip(changes["sample"].to_pylist(), changes["change"].to_pylist(), strict=True))
    was, now = parts_of(store, before), parts_of(store, after)
    moved = Counter(f"{was[s]} → {now[s]}" for s in was if s in now and was[s] != now[s])
    return DataDifference(
        snapshots=snapshots,
        splits=digests,
        batches=tuple(
            BatchDifference(
                id=pin.id,
                added=pin in new.batches,
                samples=dict(
                    sorted(Counter(kinds[s] for s, by in origin.items() if by == pin).items())
                ),
            )
            for pin in dict.fromkeys([*old.batches, *new.batches])
            if (pin in old.batches) != (pin in new.batches)
        ),
        changelog=changelog(changes, old.description, new.description),
        moved=dict(sorted(moved.items())),
    )


def _config(store: Store, digests: Change) -> dict[str, Change]:
    before, after = (
        store.objects.get_json(d) if d else {} for d in (digests.before, digests.after)
    )
    return changes_between(before, after)


def _code(one: Record, other: Record, project: Path) -> CodeDifference:
    commits = Change(before=one.commit or None, after=other.commit or None)
    versions = Change(before=one.code_version or None, after=other.code_version or None)
    if not versions.differs:
        return CodeDifference(commits=commits, versions=versions)
    files: tuple[str, ...] = ()
    between: tuple[Commit, ...] = ()
    unknown = "; ".join(
        f"the code of {record.commit} had changes that no commit has"
        for record in (one, other)
        if record.commit.endswith("+")
    )
    try:
        if not (one.commit and other.commit):
            raise NoCheckout("a model was trained outside of any repository")
        ids = [record.commit.rstrip("+") for record in (one, other)]
        files = files_that_differ(*(sources_in(project, id, STAGE) for id in ids))
        between = tuple(
            Commit(id=id, subject=subject)
            for id, subject in commits_between(project, ids[0], ids[1], files)
            if files
        )
    except NoCheckout as error:
        unknown = "; ".join([unknown, str(error)] if unknown else [str(error)])
    return CodeDifference(
        commits=commits, versions=versions, files=files, touched_by=between, unknown=unknown
    )


def files_that_differ(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files that compute something else, or are on one side only; see `sources`."""
    names = sorted({*before, *after})
    return tuple(f"defect_assets/{n}" for n in names if before.get(n) != after.get(n))


def sources_in(project: Path, commit: str, *modules: str) -> dict[str, str]:
    """Return what some modules computed in a commit; see `sources`.

    Raises
    ------
    NoCheckout
        If the repository does not have the commit.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_commit(project, commit, Path(folder))
        return sources(*modules, package=Path(folder) / "defect_assets")


def environment_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Change]:
    """Return what differs between two environments, as they are stored.

    By ``python``, ``torch``, ``cuda``, ``machine`` and the names of packages. The lock's bytes may
    differ where no package does.
    """
    one, other = (
        {**value.get("packages", {}), **{k: v for k, v in value.items() if isinstance(v, str)}}
        for value in (before, after)
    )
    one.pop("lock", None)
    other.pop("lock", None)
    return changes_between(one, other)


def _environment(store: Store, one: Record, other: Record) -> EnvironmentDifference:
    digests = _parents(one, other, "python_environment")
    values = [store.objects.get_json(d) if d else {} for d in (digests.before, digests.after)]
    machine = ({key: r.details.get(key) for key in HARDWARE} for r in (one, other))
    return EnvironmentDifference(
        environments=digests,
        changes=environment_changes(*values),
        hardware=changes_between(*machine),
    )
