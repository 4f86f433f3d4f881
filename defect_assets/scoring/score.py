"""Scoring a source into files: planned once, resumable, never mixed with another model's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from defect_assets.errors import UserError
from defect_assets.registry.code import code_version, commit
from defect_assets.registry.release.releases import Release
from defect_assets.scoring import engine
from defect_assets.scoring.files import Files, done, past
from defect_assets.scoring.model import Model
from defect_assets.scoring.places import open_place
from defect_assets.scoring.plan import WrittenPlan, count_shards, size_of_shards, write_plan
from defect_assets.scoring.sources import NoSource, Source
from defect_assets.scoring.work import Job, Shard
from defect_assets.store import Backend, Digest, NotInStore, S3Access

MANIFEST = "manifest.json"
CODE = ("inference.images", "inference.detector", "inference.runtimes.choice")
"""The modules that decide what a model says of an image. Others may change while a long work is
interrupted."""


class OutputTaken(UserError):
    """The output holds other results; the message says which, and what to do."""


class Manifest(BaseModel):
    """What the results in a folder are of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    release: str
    bundle: Digest
    """The model."""
    source: dict[str, str]
    images: int
    """How many there were when they were listed."""
    shard_size: int
    plan: str
    """The folder with the list of images, beside the results."""
    code: str
    """Digest of the code that looks; see `defect_assets.registry.code`."""
    commit: str

    def differs(self, other: Manifest) -> list[str]:
        """Return in what another's results would not be the same."""
        names = {"bundle": "model", "source": "source", "code": "code", "format": "format"}
        return [said for name, said in names.items() if getattr(self, name) != getattr(other, name)]


@dataclass
class Outcome:
    """What came of all images."""

    manifest: Manifest
    verdicts: Counter[str] = field(default_factory=Counter)
    """Images by verdict."""
    unread: int = 0
    """Images that could not be read or decoded."""
    found: int = 0
    """Images that an earlier run had looked at."""

    @property
    def images(self) -> int:
        """How many there are results of."""
        return self.verdicts.total() + self.unread

    def add(self, shard: Shard) -> None:
        """Count what came of a shard."""
        self.verdicts.update(shard.verdicts)
        self.unread += shard.unread


def score(
    release: Release,
    model: Model,
    source: Source,
    output: str,
    tell: Callable[[int, int], None] = lambda done, total: None,
    access: S3Access | None = None,
    shard_size: int | None = None,
) -> Outcome:
    """Look at all images of a source, but for those that an earlier run looked at.

    Parameters
    ----------
    release, model
        Who looks.
    source
        At what.
    output
        A folder, or ``s3://bucket/prefix``.
    tell
        Is told how many images are done, of how many.
    access
        How buckets are reached.
    shard_size
        Images of a shard, a power of two; by default by how many there are.

    Raises
    ------
    OutputTaken
        If the output holds what another model, or another code, said, or of another source.
    NoSource
        If there is nothing to look at.
    """
    url = output if "://" in output else str(Path(output).resolve())
    place = open_place(url, access)
    manifest = _begin(place, release, source, access, shard_size)
    plan = WrittenPlan(url, manifest.plan, manifest.images, manifest.shard_size)
    there = done(place)
    outcome = Outcome(manifest)
    for shard in past(place, sorted(there)):
        outcome.add(shard)
    outcome.found = outcome.images
    tell(outcome.images, manifest.images)
    missing = [number for number in range(count_shards(plan)) if number not in there]
    with closing(engine.run(Job(model, source, plan, Files(url)), missing, access)) as shards:
        for shard in shards:
            outcome.add(shard)
            tell(outcome.images, manifest.images)
    return outcome


def _begin(
    place: Backend,
    release: Release,
    source: Source,
    access: S3Access | None,
    shard_size: int | None,
) -> Manifest:
    """Return what is begun in a place already, or begin it: list the images, then say of what."""
    wanted = Manifest(
        release=release.id,
        bundle=release.bundle,
        source=source.describe(),
        images=0,
        shard_size=0,
        plan=f"plan/{uuid4().hex}",  # so that two who begin at once do not write into each other's
        code=code_version(*CODE),
        commit=commit(),
    )
    begun = _read(place)
    if begun is None:
        images = write_plan(place, wanted.plan, source.items(access))
        if not images:
            raise NoSource(f"there is no image in {_told(wanted.source)}")
        size = shard_size or size_of_shards(images)
        begun = wanted.model_copy(update={"images": images, "shard_size": size})
        if not place.create(MANIFEST, begun.model_dump_json(indent=1).encode()):
            raise OutputTaken(f"someone else has just begun to score into {place}: wait for it")
    elif differences := begun.differs(wanted):
        raise OutputTaken(
            f"{place} holds what {begun.release} said of {_told(begun.source)}, which is of "
            f"another {' and '.join(differences)}: choose another output, or remove that one"
        )
    return begun


def _read(place: Backend) -> Manifest | None:
    try:
        return Manifest.model_validate_json(place.read(MANIFEST))
    except NotInStore:
        return None
    except ValidationError as error:
        raise OutputTaken(
            f"{place} has a {MANIFEST} that is none of ours: choose another output"
        ) from error


def _told(source: dict[str, str]) -> str:
    return source.get("dataset") or next(iter(source.values()))
