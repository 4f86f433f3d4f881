"""Is a candidate worse than what is in production?"""

from pathlib import Path

from defect_assets.evaluation.comparison import Comparison
from defect_assets.registry.channels import PRODUCTION
from defect_assets.registry.channels import REF as CHANNELS
from defect_assets.registry.comparison.comparing import CannotCompare, compare
from defect_assets.registry.release.candidates import Candidate
from defect_assets.registry.release.gates import GateResult
from defect_assets.registry.release.releases import Release, read_release
from defect_assets.registry.subjects import UnknownSubject, find_subject
from defect_assets.store import Store

_GATE = "no class worse than production"


def compare_with_production(store: Store, project: Path, candidate: Candidate) -> GateResult:
    """Look whether a class is found worse than by the model in production.

    On the images that both were tested on the difference is taken, paired: a class is worse if the
    95 % interval of the difference lies below zero. It is not asked on how many parts the two
    differ, since a gate should rather refuse once too often. Of a class that these images say
    nothing of, the candidate's Dice may not lie below the interval of production's, each on its own
    test split.
    """
    digest = store.content(f"{CHANNELS}{PRODUCTION}")
    if digest is None:
        return _result([], "nothing is in production yet")
    production = read_release(store, digest)
    if production.bundle == candidate.model.content:
        return _result([], f"{production.id} in production is this very model")
    try:
        before = find_subject(store, PRODUCTION)
        compared = compare(store, before, candidate, project).comparison
    except (CannotCompare, UnknownSubject) as error:
        return _result([f"it cannot be compared ({error})"], f"{production.id} is in production")
    how = (
        f"compared on {compared.images} images of {compared.parts} parts that both tested"
        if compared.images
        else "no image was tested by both with the same label, so each is taken on its own split"
    )
    worse = _worse(production, candidate, compared)
    return _result(worse, f"{production.id} is in production; {how}")


def _worse(production: Release, candidate: Candidate, compared: Comparison) -> list[str]:
    """Return what is worse, class by class, in words."""
    found = []
    test = candidate.report.test
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
        now, low = (
            test.classes[name].dice,
            production.intervals.get(f"dice {name}", (score.dice,))[0],
        )
        if now is None:
            found.append(f"{name} was not tested, and is {score.dice:.3f} in production")
        elif now < low:
            found.append(f"{name} {now:.3f}, below the interval in production, from {low:.3f} on")
    return found


def _result(worse: list[str], why: str) -> GateResult:
    return GateResult(
        gate=_GATE,
        passed=not worse,
        measured="; ".join(worse) or "none",
        required="none",
        why="; ".join([*worse, why]),
        mend="defect-assets compare production with the experiment says what differs; deliver more "
        "parts of these classes, or train otherwise"
        if worse
        else "",
    )
