"""The stages of the road: what each is made from, by which code, and how its results are named.

Dagster's assets are these stages. What can be decided without Dagster is decided from here.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from defect_assets.registry.code import code_version

_PROJECT = Path(__file__).resolve().parents[2]


class Axis(StrEnum):
    """What the results of a stage are counted by."""

    NONE = ""
    BATCH = "batch"
    DATASET = "dataset"
    CONFIG = "config"
    EXPERIMENT = "experiment"
    """A configuration and a dataset; its partitions are written ``C-01|DS-1.1.0``."""
    RELEASE = "release"


def _no_files() -> Iterable[Path]:
    return ()


@dataclass(frozen=True)
class Stage:
    """A stage; the asset of the same name makes its results."""

    name: str
    folder: str
    """The folder of names under which its results are published; of one result, the name."""
    modules: tuple[str, ...]
    """The modules below this package that compute it; what they import belongs to them."""
    axis: Axis = Axis.NONE
    parents: tuple[str, ...] = ()
    """The stages whose results it is made from: where one of them changes, it is out of date."""
    follows: tuple[str, ...] = ()
    """The stages whose results it pins when it is made, and outlives."""
    for_good: bool = False
    """Whether a result stands for its name for ever: there is nothing to compute again then."""
    channel: str = ""
    """The channel whose release it is made with, too: where that moves, it is out of date."""
    files: Callable[[], Iterable[Path]] = _no_files
    """Files beside the modules that it uses."""

    @property
    def code_version(self) -> str:
        """The digest of the code that computes it now."""
        return _code_version(self)

    @property
    def upstream(self) -> tuple[str, ...]:
        """The stages right before it on the road."""
        return self.parents + self.follows + (("model_release",) if self.channel else ())

    def ref(self, partition: str | None) -> str:
        """Return the name in the store under which a partition is published."""
        if self.axis is Axis.NONE:
            return self.folder
        assert partition is not None
        # Of an experiment the dataset comes first, as a folder.
        return "/".join([self.folder, *reversed(partition.split("|"))])

    def partition(self, ref: str) -> str | None:
        """Return the partition that is published under a name."""
        if self.axis is Axis.NONE:
            return None
        return "|".join(reversed(ref.removeprefix(f"{self.folder}/").split("/")))

    def partition_of(self, parent: "Stage", partition: str | None) -> str | None:
        """Return the partition of a parent that a partition is made from."""
        if parent.axis is Axis.NONE:
            return None
        if parent.axis is self.axis:
            return partition
        assert self.axis is Axis.EXPERIMENT
        assert partition is not None
        config, dataset = partition.split("|")
        return config if parent.axis is Axis.CONFIG else dataset


def _page() -> Iterable[Path]:
    from defect_assets.evaluation.report import PAGE_FILES

    return PAGE_FILES


def _documents() -> Iterable[Path]:
    from defect_assets.registry.release.documents import TEMPLATES

    return TEMPLATES


def _service() -> Iterable[Path]:
    from defect_assets.registry.packaging import service_files

    return service_files(_PROJECT / "bento")


_ENVIRONMENT = ("python_environment",)
_LEARNED = ("dataset_split", "training_config", *_ENVIRONMENT)

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("python_environment", "environment", ("registry.environment",)),
        Stage(
            "raw_images",
            "batches",
            ("dataset.ingest",),
            Axis.BATCH,
            parents=_ENVIRONMENT,
            for_good=True,
        ),
        Stage(
            "dataset_manifest",
            "datasets",
            ("dataset.cut",),
            Axis.DATASET,
            parents=_ENVIRONMENT,
            follows=("raw_images",),
            for_good=True,
        ),
        Stage(
            "dataset_split",
            "splits",
            ("dataset.split",),
            Axis.DATASET,
            parents=("dataset_manifest", *_ENVIRONMENT),
        ),
        Stage("training_config", "configs", ("training.config",), Axis.CONFIG),
        Stage(
            "trained_model",
            "experiments",
            ("training.experiment",),
            Axis.EXPERIMENT,
            parents=_LEARNED,
        ),
        Stage(
            "evaluation_report",
            "reports",
            ("evaluation.evaluate", "evaluation.reporting"),
            Axis.EXPERIMENT,
            parents=("trained_model", "dataset_split", *_ENVIRONMENT),
            files=_page,
        ),
        Stage(
            "cross_validation",
            "crossvalidations",
            ("training.trials", "evaluation.crossvalidation"),
            Axis.EXPERIMENT,
            parents=_LEARNED,
        ),
        Stage(
            "leak_audit",
            "leakaudits",
            ("training.trials", "evaluation.leak_audit", "dataset.leaky_split"),
            Axis.EXPERIMENT,
            parents=("evaluation_report", *_LEARNED),
        ),
        Stage(
            "model_release",
            "releases",
            ("registry.release.releasing",),
            Axis.RELEASE,
            follows=("trained_model", "evaluation_report"),
            for_good=True,
            files=_documents,
        ),
        Stage(
            "defect_bento",
            "bentos",
            (
                "registry.packaging",
                "inference.detector",
                "inference.images",
                "inference.quality",
                "inference.runtimes.choice",
            ),
            Axis.RELEASE,
            parents=("model_release", *_ENVIRONMENT),
            files=_service,
        ),
        Stage(
            "production_predictions",
            "predictions",
            ("scoring.predictions",),
            Axis.DATASET,
            parents=("dataset_manifest", *_ENVIRONMENT),
            channel="production",
        ),
    )
}
"""By name, in the order of the road."""


def published_as(stage: str, partition: str | None) -> str:
    """Return the name in the store under which a stage's partition is published."""
    return STAGES[stage].ref(partition)


def before(stages: Iterable[str]) -> set[str]:
    """Return all that some stages are made from, on the way to them, without themselves.

    What a channel leads to stands already; to make another release would not bring it there.
    """
    return _reached(stages, lambda name: STAGES[name].parents + STAGES[name].follows)


def after(stages: Iterable[str]) -> set[str]:
    """Return all that is made from some stages, on the way from them, without themselves."""
    return _reached(stages, lambda name: (s.name for s in STAGES.values() if name in s.upstream))


def _reached(stages: Iterable[str], step: Callable[[str], Iterable[str]]) -> set[str]:
    start = set(stages)
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        new: Iterator[str] = (name for name in step(waiting.pop()) if name not in found)
        for name in new:
            found.add(name)
            waiting.append(name)
    return found - start


@cache
def _code_version(stage: Stage) -> str:
    return code_version(*stage.modules, files=stage.files())
