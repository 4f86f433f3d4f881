"""How good a released model is by now: on the newest data, of parts that it never saw."""

import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import Split, read_part, read_split
from defect_assets.errors import UserError
from defect_assets.evaluation.bootstrap import intervals
from defect_assets.evaluation.metrics import Metrics, summarize
from defect_assets.registry.comparison.comparing import read_report
from defect_assets.registry.release.releases import Release
from defect_assets.store import Digest, Store
from defect_assets.store.objects import write_tree

REF = "reevaluations/"


class NothingToTest(UserError):
    """No image of the newest test split is new to the model; the message says so."""


class Reevaluation(BaseModel):
    """A released model, tested on another snapshot than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str
    bundle: Digest
    split: Digest
    """Of the snapshot that it was tested on."""
    test: Metrics
    intervals: dict[str, tuple[float, float]]
    left_out: int
    """Images of that test split which do not count: the model saw others of their parts."""


def reevaluate(store: Store, release: Release, split_digest: Digest) -> Reevaluation:
    """Test a released model on the test split of another snapshot.

    Parameters
    ----------
    store
        Where both lie.
    release
        The model's.
    split_digest
        Of the snapshot to test on. Images of parts that the model trained or validated on are left
        out, by the parts as either split has them.

    Raises
    ------
    NothingToTest
        If none are left.
    """
    from defect_assets.evaluation.evaluate import evaluate
    from defect_assets.inference.detector import Detector

    report = read_report(store, release.report)
    split = read_split(store, split_digest)
    new = _new_to(store, read_split(store, report.split), split)
    if not new:
        raise NothingToTest(f"{release.id} learned from all parts that are tested by now")
    with tempfile.TemporaryDirectory() as unpacked:
        write_tree(store.objects.get_tree(release.bundle), Path(unpacked))
        detector = Detector.load(Path(unpacked))
    description = read_snapshot(store, split.snapshot).description
    tested = (image for image in read_part(store, split, "test") if image.sample in new)
    evaluation = evaluate(detector, tested, description)
    classes = list(detector.spec.class_map.values())
    return Reevaluation(
        release=release.id,
        bundle=release.bundle,
        split=split_digest,
        test=summarize(evaluation.images, classes, evaluation.pixel_scores),
        intervals=intervals(evaluation.images, classes, pixel_scores=evaluation.pixel_scores),
        left_out=sum(split.counts["test"].values()) - len(new),
    )


def _new_to(store: Store, learned_from: Split, split: Split) -> set[str]:
    """Return the samples that a split tests, of parts that a model of another one never saw."""
    own, now = (
        store.objects.get_table(rows, ["sample", "part", "group"]).to_pylist()
        for rows in (learned_from.rows, split.rows)
    )
    group_then = {row["sample"]: row["group"] for row in own}
    group_now = {row["sample"]: row["group"] for row in now}
    learned = [row["sample"] for row in own if row["part"] != "test"]
    seen_then = {group_then[sample] for sample in learned}
    seen_now = {group_now[sample] for sample in learned if sample in group_now}
    return {
        row["sample"]
        for row in now
        if row["part"] == "test"
        and row["group"] not in seen_now
        and group_then.get(row["sample"]) not in seen_then
    }
