"""Releases: evaluated models with a version and a note."""

from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.version import Bump, Version
from defect_assets.errors import UserError
from defect_assets.evaluation.metrics import Metrics
from defect_assets.evaluation.report import Report
from defect_assets.registry.pinning import why_unpinned
from defect_assets.store import Digest, Store, short

REF = "releases/"
FIRST = Version("v", 0, 1, 0)


class ReleaseRefused(UserError):
    """A release that cannot be made; the message says why and what to do."""


class Release(BaseModel):
    """A released model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    bundle: Digest
    """The model."""
    report: Digest
    """Its evaluation."""
    dataset: str
    config: str
    metrics: Metrics
    """On the test split."""

    @property
    def note(self) -> str:
        """The release note, in Markdown."""
        m = self.metrics
        classes = "\n".join(
            f"| {name} | {_shown(s.dice)} | {_shown(s.recall)} | {s.images} | {s.groups} |"
            for name, s in m.classes.items()
        )
        measured = {name: s.dice for name, s in m.classes.items() if s.dice is not None}
        weakest = min(measured, key=lambda name: measured[name])
        unmeasured = ", ".join(name for name in m.classes if name not in measured) or "none"
        return (
            f"# {self.id}\n\n"
            f"Trained on {self.dataset} with {self.config}; model `{short(self.bundle)}`.\n\n"
            f"Test split, {m.images} images of {m.groups} parts "
            f"{'that training never saw' if m.grouped else '(no groups given)'}: "
            f"Dice {_shown(m.dice)}, IoU {_shown(m.iou)}, "
            f"macro Dice {_shown(m.macro_dice)}.\n\n"
            "| class | Dice | recall | images | parts |\n|---|---|---|---|---|\n"
            f"{classes}\n\n"
            f"Weakest class: {weakest}. Classes that the test split lacks: {unmeasured}.\n"
        )


def _shown(score: float | None) -> str:
    return "–" if score is None else f"{score:.3f}"


def find_release(store: Store, release: str) -> Release | None:
    """Return a release by its id, e.g. ``v1.4.2``, or None."""
    digest = store.content(REF + release)
    return Release.model_validate(store.objects.get_json(digest)) if digest else None


def releases(store: Store) -> list[Release]:
    """Return all releases, oldest version first."""
    versions = sorted(Version.parse(name.removeprefix(REF)) for name in store.refs.names(REF))
    return [found for version in versions if (found := find_release(store, str(version)))]


def next_release(store: Store) -> str:
    """Return the id that the next release gets."""
    past = releases(store)
    return str(Version.parse(past[-1].id).bumped(Bump.MINOR) if past else FIRST)


def release(store: Store, release_id: str, dataset: str, config: str) -> Release:
    """Return the release of an experiment under a version.

    Raises
    ------
    ReleaseRefused
        If the version is not a new one, the experiment was trained unpinned, or it was not
        evaluated as it stands now.
    """
    expected = next_release(store)
    if Version.parse(release_id) < Version.parse(expected):
        raise ReleaseRefused(f"{release_id} cannot be released: the next version is {expected}")
    experiment = f"{dataset}/{config}"
    model = store.record(f"experiments/{experiment}")
    evaluation = store.record(f"reports/{experiment}")
    if model is None or evaluation is None:
        raise ReleaseRefused(
            f"{dataset} × {config} has no {'model' if model is None else 'evaluation'}: "
            f"materialize {'trained_model' if model is None else 'evaluation_report'} first"
        )
    if reasons := why_unpinned(model):
        raise ReleaseRefused(
            f"{dataset} × {config} was trained unpinned, which is never released "
            f"({'; '.join(reasons)}): mend that, e.g. commit, then run again without "
            "--allow-unpinned: it trains anew"
        )
    report = Report.model_validate_json(store.objects.get_tree(evaluation.content)["report.json"])
    if report.bundle != model.content or why_unpinned(evaluation):
        raise ReleaseRefused(
            f"{dataset} × {config} was trained again since it was evaluated: "
            "materialize evaluation_report first"
        )
    if report.test.dice is None:
        raise ReleaseRefused(
            f"{dataset} × {config} was tested on images without a single defect, which says "
            "nothing: deliver more parts with defects"
        )
    return Release(
        id=release_id,
        bundle=model.content,
        report=evaluation.content,
        dataset=dataset,
        config=config,
        metrics=report.test,
    )
