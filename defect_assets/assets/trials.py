"""Trials that an asset runs: each is published as it is done, so that none is run twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from defect_assets.assets.clearance import Clearance
from defect_assets.assets.experiment import TRAINING_CODE, TrainingRun
from defect_assets.assets.publishing import record_of, refuse, rounded
from defect_assets.dataset.split import Split
from defect_assets.evaluation.trial import TrialResult
from defect_assets.home import Home
from defect_assets.partitions import experiment_of
from defect_assets.registry.code import code_version
from defect_assets.registry.pinning import why_unpinned
from defect_assets.store import Digest, canonical_json, digest_of
from defect_assets.training.config import TrainingConfig

TRIALS = "trials/"
TRIAL_CODE = code_version("training.trials")


class TrialsRun(TrainingRun):
    """How trials are run. What comes out stays the same."""

    at_once: int = 1
    """Models that are trained at the same time, each in a process of its own."""


@dataclass(frozen=True)
class Division:
    """Who trains and who is tested in a trial."""

    name: str
    """The trial's, e.g. ``fold-3``."""
    split: Split
    fold: int | None = None


def run_divisions(
    context: dg.AssetExecutionContext,
    place: Home,
    run: TrialsRun,
    clearance: Clearance,
    config: TrainingConfig,
    parents: Mapping[str, Digest],
    divisions: Sequence[Division],
) -> list[TrialResult]:
    """Train and test a model on each division, unless that was done before.

    Where only the testing's code changed since, a model is tested anew but not trained.

    Parameters
    ----------
    context, place, run, clearance
        Of the asset that asks for it.
    config
        How to train.
    parents
        The contents that the trials are made from.
    divisions
        Of one snapshot.

    Raises
    ------
    dagster.Failure
        If a training diverges, or the configuration does not fit the data.
    """
    from defect_assets.training.experiment import ConfigMismatch
    from defect_assets.training.loop import TrainingDiverged
    from defect_assets.training.trials import Trial, run_trials

    store = place.store()
    dataset, config_id = experiment_of(context)
    done: dict[str, TrialResult] = {}
    trained_from: dict[str, str] = {}
    trials = []
    for division in divisions:
        what = [dict(parents), division.split.rows, division.fold, TRAINING_CODE]
        # Not whole, since it is no name of anything in the store.
        training = trained_from[division.name] = digest_of(canonical_json(what))[:16]
        record = store.record(f"{TRIALS}{dataset}/{config_id}/{division.name}")
        before = None
        # What was trained unpinned would make the whole so, without saying it.
        if (
            record
            and record.details["training"] == training
            and (run.allow_unpinned or not why_unpinned(record))
        ):
            before = TrialResult.model_validate(store.objects.get_json(record.content))
            if record.details["testing"] == TRIAL_CODE:
                done[division.name] = before
                continue
        trial = Trial(
            name=division.name,
            split=division.split,
            fold=division.fold,
            config=config,
            fitted=place.fitted,
            state=place.training(dataset, config_id),
            identity=digest_of(canonical_json([training, run.hardware.model_dump()])),
            hardware=run.hardware,
            bundle=before.bundle if before else None,
        )
        trials.append(trial)
    to_train = sum(trial.bundle is None for trial in trials)
    context.log.info(
        f"{len(divisions)} trials: {to_train} to train, {len(trials) - to_train} to test again"
    )
    try:
        for trial, result in run_trials(store, place.url, trials, run.at_once, context.log.info):
            record = record_of(
                context,
                store.objects.put_json(result.model_dump(mode="json")),
                parents,
                {
                    "training": trained_from[trial.name],
                    "testing": TRIAL_CODE,
                    **clearance.details,
                },
            )
            store.publish(f"{TRIALS}{dataset}/{config_id}/{trial.name}", record)
            done[trial.name] = result
            context.log.info(
                f"{len(done)} of {len(divisions)} trials · "
                f"{trial.name}: Dice {rounded(result.test.dice)}"
            )
    except (TrainingDiverged, ConfigMismatch) as error:
        raise refuse(error) from error
    return [done[division.name] for division in divisions]
