"""What has a name and was evaluated: experiments, releases, channels."""

import re
from dataclasses import dataclass

from defect_assets.errors import UserError
from defect_assets.evaluation.report import REPORT
from defect_assets.registry.channels import REF as CHANNELS
from defect_assets.registry.release.releases import REF as RELEASES
from defect_assets.registry.release.releases import Release
from defect_assets.store import Digest, Record, Store, short

EXPERIMENTS, REPORTS = "experiments/", "reports/"
_EXPERIMENT = re.compile(r"(DS-[^\s/×|]+)\s*[/×|]\s*(C-[^\s/×|]+)")

_WORD = re.compile(r"\w[\w.-]*")


class UnknownSubject(UserError):
    """A name that leads to no evaluated model; the message says which do."""


@dataclass(frozen=True)
class Subject:
    """A model and its evaluation, as someone named them."""

    name: str
    """As shown to people, e.g. ``v0.2.0``, ``production`` or ``DS-1.1.0 × C-01``."""
    dataset: str
    config: str
    model: Record
    """Its content is the bundle."""
    evaluation: Record
    """Its content is the report."""

    @property
    def experiment(self) -> str:
        """The experiment, as shown to people."""
        return f"{self.dataset} × {self.config}"


def find_subject(store: Store, name: str) -> Subject:
    """Return what a name stands for.

    Parameters
    ----------
    store
        Where to look.
    name
        A release (``v0.2.0``), a channel (``production``) or an experiment (``DS-1.1.0/C-01``, or
        as it is shown, ``DS-1.1.0 × C-01``), of which the latest evaluation is meant.

    Raises
    ------
    UnknownSubject
        If it stands for nothing, or for a model that was not evaluated.
    """
    if match := _EXPERIMENT.fullmatch(name.strip()):
        return _experiment(store, *match.groups())
    for folder in (RELEASES, CHANNELS) if _WORD.fullmatch(name) else ():
        record = store.record(f"{folder}{name}")
        if record is not None:
            release = Release.model_validate(store.objects.get_json(record.content))
            return _released(store, name, release, record)
    raise UnknownSubject(
        f"there is no release, channel or experiment {name}; known: {known(store)}"
    )


def find_evaluation(store: Store, dataset: str, config: str, evaluation: Record) -> Subject:
    """Return one of an experiment's evaluations, the latest or one before, with its model.

    Raises
    ------
    UnknownSubject
        If the model that was evaluated is in the store under no name.
    """
    name = f"{dataset} × {config}"
    bundle = evaluated_bundle(store, evaluation)
    model = _with_content(store, f"{EXPERIMENTS}{dataset}/{config}", bundle, evaluation)
    return Subject(name, dataset, config, model, evaluation)


def evaluated_bundle(store: Store, evaluation: Record) -> Digest:
    """Return the model that an evaluation's report is about."""
    report = store.objects.get_json(store.objects.get_json(evaluation.content)[REPORT])
    return str(report["bundle"])


def known(store: Store) -> str:
    """Say what can be named."""
    reports = (name.removeprefix(REPORTS) for name in store.refs.names(REPORTS))
    named = (
        name.removeprefix(folder)
        for folder in (CHANNELS, RELEASES)
        for name in store.refs.names(folder)
    )
    return ", ".join([*named, *reports]) or "nothing, for nothing was evaluated yet"


def _experiment(store: Store, dataset: str, config: str) -> Subject:
    experiment = f"{dataset}/{config}"
    model, evaluation = (store.record(f"{f}{experiment}") for f in (EXPERIMENTS, REPORTS))
    if model is None and evaluation is None:
        raise UnknownSubject(f"there is no experiment {experiment}; known: {known(store)}")
    if model is None or evaluation is None or evaluated_bundle(store, evaluation) != model.content:
        raise UnknownSubject(
            f"{dataset} × {config} is not evaluated as it stands now: materialize "
            "evaluation_report first; defect-assets repro does it on its way"
        )
    return Subject(f"{dataset} × {config}", dataset, config, model, evaluation)


def _released(store: Store, name: str, release: Release, record: Record) -> Subject:
    experiment = f"{release.dataset}/{release.config}"
    return Subject(
        name,
        release.dataset,
        release.config,
        _with_content(store, f"{EXPERIMENTS}{experiment}", release.bundle, record),
        _with_content(store, f"{REPORTS}{experiment}", release.report, record),
    )


def _with_content(store: Store, name: str, content: Digest, of: Record) -> Record:
    """Return a name's newest record of some content from before something was made of it."""
    found = [record for record in store.history(name) if record.content == content]
    before = [record for record in found if record.created_at <= of.created_at]
    if not found:
        raise UnknownSubject(
            f"{of.asset} {of.partition} was made of {short(content)}, which {name} never stood "
            "for in this store: pull from the store in which it was made"
        )
    return (before or found)[0]
