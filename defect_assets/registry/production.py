"""Is a candidate worse than what is in production?"""

from typing import TYPE_CHECKING

from defect_assets.dataset.difference import difference
from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import read_split
from defect_assets.evaluation.report import Report
from defect_assets.registry.candidates import Candidate, intervals_of, read_images, read_report
from defect_assets.registry.channels import PRODUCTION
from defect_assets.registry.channels import REF as CHANNELS
from defect_assets.registry.gates import GateResult
from defect_assets.registry.releases import Release, read_release
from defect_assets.store import Digest, Store

if TYPE_CHECKING:
    from defect_assets.evaluation.comparison import Comparison

_GATE = "no class worse than production"


def compare_with_production(store: Store, candidate: Candidate) -> GateResult:
    """Look whether a class is found worse than by the model in production.

    Of the images that both were tested on, with the same labels, the difference is taken, paired:
    a class is worse if the 95 % interval of the difference lies below zero. It is not asked how
    many parts that stands on, since a gate should rather refuse one time too often. Of a class
    that these images say nothing of, the candidate's Dice may not lie below the interval of
    production's, each on its own test split.
    """
    digest = store.content(f"{CHANNELS}{PRODUCTION}")
    if digest is None:
        return _result([], "nothing is in production yet")
    production = read_release(store, digest)
    if production.bundle == candidate.model.content:
        return _result([], f"{production.id} in production is this very model")
    report = read_report(store, production.report)
    compared = _compare(store, report, production.report, candidate)
    worse = _worse(store, production, candidate, compared)
    if compared.images:
        how = f"compared on {compared.images} images of {compared.parts} parts that both tested"
    else:
        how = (
            "no image was tested by both with the same labels, so each is taken on its own "
            "test split"
        )
    return _result(worse, f"{production.id} is in production; {how}", production.id)


def _compare(store: Store, before: Report, images: Digest, candidate: Candidate) -> "Comparison":
    from defect_assets.evaluation.comparison import compare_tables

    tables = read_images(store, images), read_images(store, candidate.evaluation.content)
    names = [name for name in before.test.classes if name in candidate.report.test.classes]
    return compare_tables(
        *tables, names, but={"relabelled": _relabelled(store, before.split, candidate)}
    )


def _relabelled(store: Store, split: Digest, candidate: Candidate) -> list[str]:
    """Return the samples whose truth is another one, so that their scores say nothing."""
    splits = (read_split(store, digest) for digest in (split, candidate.report.split))
    old, new = (read_snapshot(store, found.snapshot) for found in splits)
    if old.description.labels != new.description.labels:
        tested = read_images(store, candidate.evaluation.content)
        return [str(sample) for sample in tested["sample"]]
    changes = difference(store, old.batches, new.batches)
    pairs = zip(changes["sample"].to_pylist(), changes["change"].to_pylist(), strict=True)
    return [sample for sample, change in pairs if change == "relabelled"]


def _worse(
    store: Store, production: Release, candidate: Candidate, compared: "Comparison"
) -> list[str]:
    """Return what is worse, class by class, in words."""
    found = []
    test = candidate.report.test
    intervals = production.intervals or intervals_of(store, production.report)
    for name, score in production.metrics.classes.items():
        if score.dice is None:
            continue
        if name not in test.classes:
            found.append(f"{name} is not told apart any more")
            continue
        paired = compared.scores.get(f"dice {name}")
        if paired is not None and paired.interval is not None:
            low, high = paired.interval
            if high < 0:
                found.append(
                    f"{name} {paired.after:.3f} after {paired.before:.3f} "
                    f"(difference {low:+.3f} to {high:+.3f})"
                )
            continue
        now, low = test.classes[name].dice, intervals.get(f"dice {name}", (score.dice,))[0]
        if now is None:
            found.append(f"{name} was not tested, and is {score.dice:.3f} in production")
        elif now < low:
            found.append(f"{name} {now:.3f}, below the interval in production, from {low:.3f} on")
    return found


def _result(worse: list[str], why: str, production: str = "production") -> GateResult:
    return GateResult(
        gate=_GATE,
        passed=not worse,
        measured="; ".join(worse) or "none",
        required="none",
        why=f"{'; '.join(worse)}; {why}" if worse else why,
        mend=f"see what differs from {production}; deliver more parts of these classes, or train "
        "otherwise"
        if worse
        else "",
    )
