"""What a release tells of itself: its note, its model card, its metrics.

They are written once, when it is released, and lie in the store; its record leads to them. The
card's headings are those of Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import read_split
from defect_assets.evaluation.metrics import Metrics
from defect_assets.evaluation.report import Report
from defect_assets.evaluation.wording import scored
from defect_assets.inference.bundle import SPEC, BundleSpec
from defect_assets.registry.comparison.comparing import counts_of
from defect_assets.registry.release.candidates import Candidate
from defect_assets.registry.release.gates import GateResult
from defect_assets.registry.release.numbering import Numbering
from defect_assets.registry.release.releases import NOTE, Release
from defect_assets.store import Store, short
from defect_assets.training.config import TrainingConfig

if TYPE_CHECKING:
    import pandas as pd

CARD, METRICS = "MODEL_CARD.md", "metrics.json"
TEMPLATES = tuple(
    Path(__file__).with_name(f"{name}.md.j2") for name in ("release_note", "model_card", "scores")
)
FEW_PARTS = 10
"""Of fewer parts an interval says little: it is drawn from them alone."""


class Override(BaseModel):
    """Why something was released though it failed gates, and by whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str
    by: str


def write_documents(
    store: Store,
    release: Release,
    candidate: Candidate,
    numbering: Numbering,
    results: Sequence[GateResult],
    override: Override | None,
) -> dict[str, bytes]:
    """Write the documents of a release that is about to be made; return them by name."""
    test = release.metrics
    images = counts_of(store, release.report)
    known: dict[str, Any] = {
        "release": release,
        "test": test,
        "commit": candidate.model.commit or "not recorded",
        "numbering": numbering,
        "changed": numbering.changed,
        "override": override,
        "scores": _scores(test),
        "caveats": _caveats(candidate.report),
        "results": results,
    }
    card = known | _facts(store, candidate, images)
    return {
        NOTE: _render("release_note.md.j2", known),
        CARD: _render("model_card.md.j2", card),
        METRICS: json.dumps(
            {"test": test.model_dump(mode="json"), "intervals": release.intervals}, indent=1
        ).encode(),
    }


def _facts(store: Store, candidate: Candidate, images: "pd.DataFrame") -> dict[str, Any]:
    """Return what a model card says beside the scores."""
    split = read_split(store, candidate.report.split)
    bundle = store.objects.get_json(candidate.model.content)
    spec = BundleSpec.model_validate_json(store.objects.get(bundle[SPEC]))
    values = store.objects.get_json(candidate.model.parents["training_config"])
    config = TrainingConfig.model_validate(values)
    architecture = spec.architecture
    return {
        "split": split,
        "snapshot": read_snapshot(store, split.snapshot),
        "spec": spec,
        "post": spec.postprocessing,
        "trained": candidate.model.details.get("processor"),
        "network": ", ".join(filter(None, (architecture.name, architecture.encoder))),
        "config": config,
        "steps": config.steps_for(sum(split.counts["train"].values())),
        "tested": images["class"].value_counts().sort_index().to_dict(),
        "exposures": sorted(filter(None, images["exposure"].unique())),
    }


def _scores(test: Metrics) -> list[tuple[str, str, float | None]]:
    """Return title, name and value of the scores over all classes."""
    return [
        ("Dice", "dice", test.dice),
        ("macro Dice", "macro_dice", test.macro_dice),
        ("region recall", "region_recall", test.region_recall),
        ("image AUROC", "image_auroc", test.image_auroc),
        ("false alarms", "false_alarms", test.false_alarms),
        ("escapes", "escapes", test.escapes),
    ]


def _caveats(report: Report) -> list[str]:
    """Return what a user should know: where the model is weak, and what was hardly tested."""
    test, found = report.test, []
    measured = {n: s.dice for n, s in test.classes.items() if s.dice is not None}
    if len(measured) > 1:
        worst = min(measured, key=lambda name: measured[name])
        found.append(
            f"Found worst: {worst}, Dice {scored(measured[worst])} "
            f"({_interval(report.intervals.get(f'dice {worst}'))})."
        )
    for condition in sorted({s.condition for s in report.conditions}):
        slices = [s for s in report.conditions if s.condition == condition]
        by_value = {s.value: dice for s in slices if (dice := s.scores["dice"]) is not None}
        if len(by_value) > 1:
            worst = min(by_value, key=lambda value: by_value[value])
            found.append(f"Worst {condition}: {worst}, Dice {scored(by_value[worst])}.")
    few = [f"{n} ({s.groups})" for n, s in test.classes.items() if 0 < s.groups < FEW_PARTS]
    if few:
        found.append(
            f"Tested on fewer than {FEW_PARTS} parts, so intervals may be too narrow: "
            f"{', '.join(few)}."
        )
    for name, share, what in (
        ("part_escapes", test.part_escapes, "defective part was let pass"),
        ("part_false_alarms", test.part_false_alarms, "part without a defect was called ng"),
    ):
        if share == 0 and name in report.intervals:
            found.append(
                f"No {what}, which does not say never: up to "
                f"{report.intervals[name][1]:.0%} would be likely to show none."
            )
    lacking = [name for name in test.classes if name not in measured]
    if lacking:
        found.append(f"Never tested, for the test split has none: {', '.join(lacking)}.")
    if not test.grouped:
        found.append(
            "Each image was taken for a part of its own. If several show one part, the scores "
            "are too good."
        )
    return found


def _render(template: str, known: Mapping[str, Any]) -> bytes:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "short": short,
        "score": scored,
        "interval": _interval,
        "cell": lambda text: text.replace("|", "\\|").replace("\n", " "),
    }
    return environment.get_template(template).render(known).encode()


def _interval(bounds: tuple[float, float] | None) -> str:
    return "–" if bounds is None else f"{bounds[0]:.3f} – {bounds[1]:.3f}"
