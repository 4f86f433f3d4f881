"""All experiments side by side: dataset × config."""

from collections import defaultdict

from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import read_split
from defect_assets.dataset.version import Version
from defect_assets.evaluation.bootstrap import intervals
from defect_assets.registry.comparison.comparing import classes_in, counts_of, read_report
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.release.releases import releases
from defect_assets.registry.subjects import REPORTS, Subject, UnknownSubject, find_subject
from defect_assets.store import Digest, Store, canonical_json, digest_of


class Standing(BaseModel):
    """One experiment on the leaderboard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    config: str
    dice: float | None
    dice_interval: tuple[float, float] | None
    """95 %, resampled by part."""
    macro_dice: float | None
    region_recall: float | None
    false_alarms: float | None
    escapes: float | None
    images: int
    parts: int
    test: str
    """Stands for the images of the test split and their labels; the same for the same test."""
    pinned: bool
    releases: tuple[str, ...]
    """As which this very model, with this very report, was released."""
    best: bool = False
    """Whether no other configuration has a higher Dice on this dataset."""


class Leaderboard(BaseModel):
    """All experiments that were evaluated as they stand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    standings: tuple[Standing, ...]
    """By dataset, newest first, and Dice, highest first."""
    not_evaluated: tuple[str, ...]
    """Experiments whose report is one of another model, or missing."""

    @property
    def same_test(self) -> bool:
        """Whether all scores are of the same images with the same labels."""
        return len({standing.test for standing in self.standings}) < 2


def leaderboard(store: Store) -> Leaderboard:
    """Return how all experiments stand."""
    found: list[Standing] = []
    others: list[str] = []
    released: dict[tuple[Digest, Digest], list[str]] = defaultdict(list)
    for release in releases(store):
        released[release.bundle, release.report].append(release.id)
    tests: dict[Digest | None, str] = {}
    for name in store.refs.names(REPORTS):
        try:
            subject = find_subject(store, name.removeprefix(REPORTS))
        except UnknownSubject:
            others.append(name.removeprefix(REPORTS))
            continue
        split = subject.model.parents.get("dataset_split")
        if split not in tests:
            tests[split] = _test(store, split) if split else ""
        versions = released[subject.model.content, subject.evaluation.content]
        found.append(_standing(store, subject, tests[split], versions))
    best: dict[str, float] = {}
    for standing in found:
        if standing.dice is not None:
            best[standing.dataset] = max(standing.dice, best.get(standing.dataset, 0))
    ordered = sorted(found, key=lambda s: (Version.parse(s.dataset), s.dice or 0.0), reverse=True)
    return Leaderboard(
        standings=tuple(
            s.model_copy(update={"best": s.dice is not None and s.dice == best[s.dataset]})
            for s in ordered
        ),
        not_evaluated=tuple(others),
    )


def _standing(store: Store, subject: Subject, test: str, versions: list[str]) -> Standing:
    report = read_report(store, subject.evaluation.content)
    return Standing(
        dataset=subject.dataset,
        config=subject.config,
        dice=report.test.dice,
        dice_interval=report.intervals.get("dice") or _interval(store, subject),
        macro_dice=report.test.macro_dice,
        region_recall=report.test.region_recall,
        false_alarms=report.test.false_alarms,
        escapes=report.test.escapes,
        images=report.test.images,
        parts=report.test.groups,
        test=test,
        pinned=not why_unpinned(subject.model),
        releases=tuple(versions),
    )


def _interval(store: Store, subject: Subject) -> tuple[float, float] | None:
    """Return the interval of the Dice where the report says none, if it counts enough for it."""
    counts = counts_of(store, subject.evaluation.content)
    try:
        return intervals(counts, classes_in(counts)).get("dice")
    except KeyError:
        return None


def _test(store: Store, digest: Digest) -> str:
    """Return what stands for the images of a test split and their labels."""
    split = read_split(store, digest)
    rows = store.objects.get_table(split.rows, ["sample", "part"])
    parts = dict(zip(rows["sample"].to_pylist(), rows["part"].to_pylist(), strict=True))
    snapshot = read_snapshot(store, split.snapshot)
    table = samples_of(store, snapshot.batches, ("sample", "class", "image", "mask"))
    tested = [row for row in table.to_pylist() if parts[row["sample"]] == "test"]
    labels = snapshot.description.model_dump(mode="json", include={"classes", "masks"})
    return digest_of(canonical_json([labels, tested]))[:12]
