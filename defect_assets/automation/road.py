"""The whole road: from the deliveries in the inbox to a bento, doing only what is not done.

Each step asks the store whether its result is up to date, and has it made if it is not. Who makes
it is another's business: Dagster (`materializing.py`), or nobody, to see what would be done
(`Rehearsal`). What is there decides; nothing else is remembered.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from defect_assets.automation.scope import WHOLE, Scope
from defect_assets.dataset.batch import batch_names
from defect_assets.dataset.cut import CutRefused, pending
from defect_assets.dataset.delivery import list_delivery
from defect_assets.dataset.snapshot import latest_version, versions
from defect_assets.dataset.version import Bump
from defect_assets.errors import UserError
from defect_assets.evaluation.crossvalidation import CrossValidation, read_crossvalidation
from defect_assets.evaluation.leak_audit import LeakAudit
from defect_assets.home import CONFIGS, LOCK, PROJECT, Home, HomeError
from defect_assets.inbox import delivered, is_complete
from defect_assets.registry.configs import digest_of_config, values_of
from defect_assets.registry.environment import current_environment
from defect_assets.registry.freshness import Outlook, State, Verdict, judge
from defect_assets.registry.packaging import bento_folder
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.reasons import batch_is_new, batches_are_new
from defect_assets.registry.release.releases import Release, find_release, released_as
from defect_assets.registry.release.releasing import GatesFailed, propose
from defect_assets.registry.stages import STAGES, published_as
from defect_assets.settings import SettingsError, read_settings
from defect_assets.store import Record
from defect_assets.training.config import TrainingConfig

NEXT = "the next version"
"""A snapshot whose number is not known before the deliveries are taken in."""


class Blocked(UserError):
    """The road ends before its end; the message says why and what to do."""


class Maker(Protocol):
    """Makes what is not up to date."""

    def make(self, verdict: Verdict, run_config: dict[str, Any]) -> bool:
        """Make a stage's partition; return whether it was made.

        Raises
        ------
        Blocked
            If it cannot be.
        """

    def passed(self, record: Record) -> bool:
        """Tell whether what a record is of passed the checks that it must pass."""


class Rehearsal:
    """Makes nothing: to see what would be done. It reads the store, and writes nowhere."""

    def make(self, verdict: Verdict, run_config: dict[str, Any]) -> bool:
        return False

    def passed(self, record: Record) -> bool:
        return True


@dataclass
class Walked:
    """What came of a walk."""

    dataset: str = ""
    """The newest snapshot; empty where the walk did not come by it."""
    config: str = ""
    """The first configuration, which is released."""
    release: Release | None = None
    """What the first configuration was released as, now or before."""
    unpinned: list[str] = field(default_factory=list)
    """Why it was not released, though it is trained."""
    failures: list[str] = field(default_factory=list)
    """What went wrong; what does not depend on it was done all the same."""


@dataclass
class Road:
    """A walk along the road.

    Parameters
    ----------
    home
        Where everything lies.
    maker
        Makes what is not up to date.
    allow_unpinned
        Whether to train what preflight would refuse as unpinned; it is not released.
    scope
        How much of the road is walked.
    """

    home: Home
    maker: Maker
    allow_unpinned: bool = False
    scope: Scope = WHOLE
    seen: list[Verdict] = field(default_factory=list)
    """What was looked at, in order."""

    def __post_init__(self) -> None:
        self.outlook = Outlook(self.home.store())
        self._done: set[tuple[str, str | None]] = set()

    @property
    def stale(self) -> list[Verdict]:
        """What was looked at and was not up to date."""
        return [verdict for verdict in self.seen if verdict.state is not State.FRESH]

    def repro(self, configs: Sequence[str]) -> Walked:
        """Bring all that is in scope up to date.

        What fails does not keep configurations that do not depend on it from being trained.

        Parameters
        ----------
        configs
            Ids of configurations; the first one is released.

        Raises
        ------
        Blocked
            If all depends on what failed.
        """
        walked = Walked(config=configs[0])
        self.take_in()
        if not self.scope.covers("dataset_manifest"):
            for config in configs:
                self._configure(config)
            return walked
        walked.dataset = self.cut()
        self._refresh("dataset_split", walked.dataset)
        try:
            self._refresh("production_predictions", walked.dataset)
        except Blocked as blocked:
            walked.failures.append(str(blocked))
        failed = set()
        for config in configs:
            try:
                self.experiment(walked.dataset, config)
                self._trials(walked.dataset, config)
            except Blocked as blocked:
                failed.add(config)
                walked.failures.append(f"{walked.dataset} × {config}: {blocked}")
        if configs[0] in failed or not self.scope.covers("model_release"):
            return walked
        walked.unpinned = self.why_unpinned(walked.dataset, configs[0])
        if not walked.unpinned:
            try:
                walked.release = self._release(walked.dataset, configs[0])
            except Blocked as blocked:
                walked.failures.append(str(blocked))
            except GatesFailed as refused:
                page = self.home.report(walked.dataset, configs[0]) / "report.html"
                walked.failures.append(f"{refused}\nreport  {page}")
        return walked

    def take_in(self) -> None:
        """Ingest the deliveries in the inbox that were not taken in yet.

        Raises
        ------
        Blocked
            If some are refused, after the others were taken in.
        """
        environment = current_environment(LOCK)
        values = environment.model_dump(mode="json")
        self.outlook.expect("environment", environment.digest, values)
        self._refresh("python_environment", None)
        if not self.scope.covers("raw_images"):
            return
        stored = self._stand("raw_images", batch_names(self.home.store()))
        refused = []
        for name in delivered(self.home):
            if name in stored or not is_complete(self.home, name):
                continue
            try:
                self._make("raw_images", name, batch_is_new(name, self._images(name)))
            except Blocked as blocked:  # one bad delivery is no reason to leave the others
                refused.append(str(blocked))
        if refused:
            raise Blocked("\n".join(refused))

    def cut(self) -> str:
        """Cut a snapshot where something is pending; return the newest one's id.

        Raises
        ------
        Blocked
            If there is none and nothing to cut it from.
        """
        store = self.home.store()
        self._stand("dataset_manifest", map(str, versions(store)))
        arriving = [v.partition or "" for v in self.seen if self._is_planned(v, "raw_images")]
        if arriving:
            self._make("dataset_manifest", NEXT, batches_are_new(arriving))
            return NEXT
        try:
            waiting = pending(store, self.home.description())
        except (CutRefused, HomeError, SettingsError) as error:
            raise Blocked(str(error)) from error
        if waiting:
            new = batches_are_new(pin.id for pin in waiting.new) if waiting.new else ""
            why = new or f"the dataset's description changed: {waiting.changelog}"
            self._make("dataset_manifest", str(waiting.version), why)
            return str(waiting.version)
        newest = latest_version(store)
        if newest is None:
            raise Blocked(
                f"there is nothing to go on: no complete delivery in {self.home.inbox}; "
                "import one, e.g. defect-assets import synthetic"
            )
        return str(newest)

    def experiment(self, dataset: str, config: str) -> None:
        """Train a configuration on a snapshot and evaluate it."""
        partition = self._ready(dataset, config)
        self._refresh("trained_model", partition, {"allow_unpinned": self.allow_unpinned})
        self._refresh("evaluation_report", partition)

    def cross_validate(self, dataset: str, config: str, at_once: int) -> CrossValidation:
        """Train a configuration on each fold of a snapshot; return what came of it."""
        partition = self._ready(dataset, config)
        settings = {"allow_unpinned": self.allow_unpinned, "at_once": at_once}
        self._refresh("cross_validation", partition, settings)
        store = self.home.store()
        found = store.content(published_as("cross_validation", partition))
        return read_crossvalidation(store, found or "")

    def audit_leak(self, dataset: str, config: str) -> LeakAudit:
        """Train and test a configuration on a random split, too; return both sides."""
        self.experiment(dataset, config)
        partition = _experiment(dataset, config)
        self._refresh("leak_audit", partition, {"allow_unpinned": self.allow_unpinned})
        store = self.home.store()
        found = store.content(published_as("leak_audit", partition)) or ""
        return LeakAudit.model_validate(store.objects.get_json(found))

    def why_unpinned(self, dataset: str, config: str) -> list[str]:
        """Return why an experiment's model cannot be released; none: it is pinned."""
        return why_unpinned(self.home.store().record(f"experiments/{dataset}/{config}"))

    def release(
        self,
        dataset: str,
        config: str,
        override: str = "",
        bump: Bump | None = None,
        notes: str = "",
    ) -> Release:
        """Release an experiment, unless this very model is released already, and pack it.

        Parameters
        ----------
        dataset, config
            The experiment.
        override
            Why to release it though gates fail; empty: not to.
        bump
            The number to raise; by default what the rule says.
        notes
            What people should know of the release.

        Raises
        ------
        GatesFailed
            If it does not pass its gates.
        ReleaseRefused, SettingsError
            If there is nothing to release, or nothing to go by.
        """
        store = self.home.store()
        past = released_as(store, dataset, config)
        if past:
            self._stand("model_release", [past.id])
            name = past.id
        else:
            # Before Dagster is told of a version that there will not be.
            proposal = propose(store, PROJECT, dataset, config, bump, notes)
            proposal.admit(override, PROJECT)
            name = proposal.release.id
            self._make(
                "model_release",
                name,
                f"{dataset} × {config} is not released yet",
                {"dataset": dataset, "config": config, "override": override, "notes": notes},
            )
        released = find_release(store, name)
        if released and not bento_folder(self.home.bentoml, released).is_dir():
            self._make("defect_bento", name, "not in BentoML's store")
        else:
            self._refresh("defect_bento", name)
        return released or proposal.release

    def _release(self, dataset: str, config: str) -> Release | None:
        """Release what is evaluated; of what is only planned, nobody knows whether it will be."""
        if not self.outlook.is_open(
            published_as("evaluation_report", _experiment(dataset, config))
        ):
            try:
                return self.release(dataset, config)
            except GatesFailed:
                raise
            except UserError as error:
                raise Blocked(str(error)) from error
        for stage in ("model_release", "defect_bento"):
            if self.scope.covers(stage):
                why = "if the evaluation changes, and passes the gates"
                self.seen.append(Verdict(stage, None, State.PERHAPS, (why,)))
        return None

    def _ready(self, dataset: str, config: str) -> str:
        """Split a snapshot and record a configuration; return the experiment's partition."""
        self._configure(config)
        self._refresh("dataset_split", dataset)
        return _experiment(dataset, config)

    def _configure(self, config: str) -> None:
        if not self.scope.covers("training_config"):
            return
        try:
            read = read_settings(CONFIGS / f"{config}.yaml", TrainingConfig)
        except SettingsError as error:
            raise Blocked(str(error)) from error
        ref = published_as("training_config", config)
        self.outlook.expect(ref, digest_of_config(read), values_of(read))
        self._refresh("training_config", config)

    def _trials(self, dataset: str, config: str) -> None:
        """Bring up to date what is made only where it is asked for by name."""
        for stage in ("cross_validation", "leak_audit"):
            settings = {"allow_unpinned": self.allow_unpinned}
            self._refresh(stage, _experiment(dataset, config), settings)

    def _stand(self, stage: str, partitions: Iterable[str]) -> set[str]:
        """Note what stands for its name for good; return its partitions."""
        found = sorted(partitions)
        if self.scope.covers(stage):
            why = ("it stands for its name for good",)
            self.seen += [Verdict(stage, name, State.FRESH, why) for name in found]
        return set(found)

    def _refresh(
        self, stage: str, partition: str | None, settings: dict[str, Any] | None = None
    ) -> None:
        """Make a partition, if it is in scope and not up to date; of several times, once."""
        if not self.scope.covers(stage) or (stage, partition) in self._done:
            return
        verdict = judge(self.outlook, STAGES[stage], partition, PROJECT, self.allow_unpinned)
        record = self.home.store().record(published_as(stage, partition))
        if verdict.state is State.FRESH and record and not self.maker.passed(record):
            verdict = Verdict(stage, partition, State.STALE, ("it did not pass its check",))
        if self.scope.forces(stage):
            verdict = Verdict(stage, partition, State.STALE, ("it is forced",))
        if verdict.state is State.FRESH:
            self.seen.append(verdict)
        else:
            self._do(verdict, settings)
        self._done.add((stage, partition))

    def _make(
        self,
        stage: str,
        partition: str | None,
        why: str,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """Make a partition for a reason that is known, if it is in scope."""
        if self.scope.covers(stage):
            self._do(Verdict(stage, partition, State.STALE, (why,)), settings)

    def _do(self, verdict: Verdict, settings: dict[str, Any] | None) -> None:
        self.seen.append(verdict)
        config = {"ops": {verdict.stage: {"config": settings}}} if settings else {}
        if not self.maker.make(verdict, config):
            self.outlook.leave_open(published_as(verdict.stage, verdict.partition))

    def _images(self, delivery: str) -> int | None:
        """Return how many images a delivery brings; None where it is still to be fetched."""
        folder = self.home.inbox / delivery
        return len(list_delivery(folder).images) if folder.is_dir() else None

    def _is_planned(self, verdict: Verdict, stage: str) -> bool:
        return verdict.stage == stage and self.outlook.is_open(
            published_as(stage, verdict.partition)
        )


def _experiment(dataset: str, config: str) -> str:
    return f"{config}|{dataset}"
