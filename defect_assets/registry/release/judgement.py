"""How a candidate does at the gates. All of them are looked at, and each says how it stands."""

from collections.abc import Iterator
from pathlib import Path

from defect_assets.dataset.leaks import describe, leaks
from defect_assets.dataset.split import read_split
from defect_assets.registry.checkout import NoCheckout, read_checkout
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.release.candidates import Candidate
from defect_assets.registry.release.gates import FILE, GateResult, Gates
from defect_assets.registry.release.production import compare_with_production
from defect_assets.store import Store

_BETTER = "look at the worst images in the report; deliver more parts like them, or train otherwise"

_ORIGIN = ("dataset_split", "training_config", "python_environment")
"""What a model's record must lead to, by the names of its parents."""


def judge(store: Store, project: Path, gates: Gates, candidate: Candidate) -> list[GateResult]:
    """Look at all that a release is asked for.

    Parameters
    ----------
    store
        Where everything lies; nothing in it is changed.
    project
        The checkout with the gates' file.
    gates
        What the file says.
    candidate
        What is to be released.
    """
    return [
        _pinned(project, candidate),
        *([_no_leaks(store, candidate)] if gates.no_leaks else []),
        *floors(gates, candidate),
        *ceilings(gates, candidate),
        *([latency(gates.latency_p95_ms, candidate)] if gates.latency_p95_ms else []),
        *(
            [compare_with_production(store, project, candidate)]
            if gates.no_class_worse_than_production
            else []
        ),
    ]


def _pinned(project: Path, candidate: Candidate) -> GateResult:
    """The model can be looked up and made again, and so can what it was asked for."""
    reasons, mend = why_unpinned(candidate.model), ""
    if reasons:
        reasons = [f"trained unpinned, which is never released ({'; '.join(reasons)})"]
        mend = "mend that, e.g. commit, then run again without --allow-unpinned: it trains anew"
    if lacking := [name for name in _ORIGIN if name not in candidate.model.parents]:
        reasons.append(f"the model's record does not say which {', '.join(lacking)} made it")
        mend = mend or "train it again: defect-assets repro"
    try:
        committed = read_checkout(project).holds(FILE)
    except NoCheckout as error:
        reasons.append(str(error))
        mend = mend or "clone the repository, and release from the clone"
    else:
        if not committed:
            reasons.append(f"{FILE} is not committed as it is")
            mend = mend or f"git add {FILE} && git commit"
    return GateResult(
        gate="provenance pinned",
        passed=not reasons,
        measured="unpinned" if reasons else "pinned",
        required="pinned",
        why="; ".join(reasons) or "model, configuration, data, environment and gates are recorded",
        mend=mend,
        waivable=False,
    )


def _no_leaks(store: Store, candidate: Candidate) -> GateResult:
    torn = leaks(store, read_split(store, candidate.report.split))
    wrong, mend = describe(torn)
    compared = f"{torn.compared} images compared" if torn.compared else "near-duplicates: off"
    return GateResult(
        gate="no leaks",
        passed=not torn,
        measured=wrong or "none",
        required="none",
        why=wrong or f"no part is in several places of the split ({compared})",
        mend=mend,
    )


def floors(gates: Gates, candidate: Candidate) -> Iterator[GateResult]:
    """Look at the scores that may not be too low."""
    test = candidate.report.test
    dice = {name: score.dice for name, score in test.classes.items()}
    measured = {name: score for name, score in dice.items() if score is not None}
    worst = min(measured, key=lambda name: measured[name], default=None)
    asked = [
        ("Dice", test.dice, gates.floors.dice),
        ("macro Dice", test.macro_dice, gates.floors.macro_dice),
        (
            f"Dice of the worst class{f', {worst}' if worst else ''}",
            measured[worst] if worst else None,
            gates.floors.worst_class_dice,
        ),
        ("region recall", test.region_recall, gates.floors.region_recall),
        ("image AUROC", test.image_auroc, gates.floors.image_auroc),
        *((f"Dice of {name}", dice.get(name), floor) for name, floor in gates.class_dice.items()),
    ]
    for gate, score, floor in asked:
        if floor is None:
            continue
        if score is None:
            yield _unmeasured(gate, floor, "the test split has none of it", "deliver some")
            continue
        yield GateResult(
            gate=gate,
            passed=score >= floor,
            measured=score,
            required=floor,
            why=f"{score:.3f}, at least {floor:g} is asked for",
            mend="" if score >= floor else _BETTER,
        )


def ceilings(gates: Gates, candidate: Candidate) -> Iterator[GateResult]:
    """Look at the shares of images that may not be too high."""
    test = candidate.report.test
    asked = [
        (
            "false alarms",
            test.false_alarms,
            gates.ceilings.false_alarms,
            "defect-free",
            "lower max_false_alarms in the configuration, which raises the threshold; or deliver "
            "more defect-free parts",
        ),
        ("escapes", test.escapes, gates.ceilings.escapes, "defective", _BETTER),
    ]
    for gate, share, ceiling, images, mend in asked:
        if ceiling is None:
            continue
        if share is None:
            yield _unmeasured(
                gate, ceiling, f"the test split has no {images} image", "deliver some"
            )
            continue
        yield GateResult(
            gate=gate,
            passed=share <= ceiling,
            measured=share,
            required=ceiling,
            why=f"{share:.1%} of the {images} images, at most {ceiling:.1%} is asked for",
            mend="" if share <= ceiling else mend,
        )


def latency(budget: float, candidate: Candidate) -> GateResult:
    """Look at the time that an image takes."""
    measured = min(candidate.latencies, key=lambda latency: latency.p95_ms, default=None)
    if measured is None:
        return _unmeasured("latency", budget, "it was not measured", "evaluate the model again")
    kept = measured.p95_ms <= budget
    return GateResult(
        gate="latency",
        passed=kept,
        measured=measured.p95_ms,
        required=budget,
        why=f"95 of 100 images take at most {measured.p95_ms:.1f} ms by {measured.runtime}, "
        f"{budget:g} ms are asked for",
        mend="" if kept else "take a smaller input or network, or a faster machine",
    )


def _unmeasured(gate: str, required: float, why: str, mend: str) -> GateResult:
    """What cannot be shown is not passed."""
    return GateResult(gate=gate, passed=False, required=required, why=why, mend=mend)
