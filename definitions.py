"""The platform on one screen: what Dagster sees of it."""

import dagster as dg
from dagster_aws.s3 import S3Resource

from defect_assets.assets.cross_validation import cross_validation
from defect_assets.assets.dataset import dataset_manifest, dataset_split
from defect_assets.assets.environment import python_environment, training_config
from defect_assets.assets.experiment import evaluation_report, trained_model
from defect_assets.assets.leak_audit import leak_audit
from defect_assets.assets.predictions import production_predictions
from defect_assets.assets.raw_images import raw_images
from defect_assets.assets.release import defect_bento, model_release
from defect_assets.automation.conditions import follow_the_data
from defect_assets.automation.cutting import enough_is_new, nightly_cut
from defect_assets.automation.deliveries import new_images
from defect_assets.automation.experiments import changed_configs, training_by_policy
from defect_assets.automation.failures import failed_runs
from defect_assets.automation.parallel import batches_in_parallel
from defect_assets.automation.releasing import promotion_by_policy, release_by_gates
from defect_assets.automation.upkeep import (
    garbage_report,
    nightly_verification,
    reevaluation,
    verification,
    weekly_garbage_report,
    weekly_reevaluation,
)
from defect_assets.checks.classes import class_balance, classes_are_covered
from defect_assets.checks.duplicates import no_duplicates
from defect_assets.checks.intact import images_are_intact
from defect_assets.checks.leaks import no_part_in_several_places
from defect_assets.checks.scores import gates_ahead
from defect_assets.checks.service import bento_answers
from defect_assets.resources import HomeResource

defs = dg.Definitions(
    assets=[
        python_environment,  # what everything is computed in
        raw_images,  #          per delivery: checked and stored
        dataset_manifest,  #    DS-1.2.0: which batches, what changed
        dataset_split,  #       train, val, test: no part in two of them
        training_config,  #     C-01: how to train
        trained_model,  #       dataset × config: the bundle
        evaluation_report,  #   dataset × config: how good it is
        cross_validation,  #    dataset × config: how good the configuration is, on every part
        leak_audit,  #          dataset × config: what a random split would make one believe
        model_release,  #       v1.4.2: a model under a version
        defect_bento,  #        v1.4.2: ready to serve
        production_predictions,  # DS-1.2.0: what production says of it
    ],
    asset_checks=[
        images_are_intact,  #         a dataset: what is stored is what was stored
        no_duplicates,  #             a dataset: no image twice
        class_balance,  #             a dataset: about the mix of the one before
        no_part_in_several_places,  # a split, blocking: what is tested was never seen
        classes_are_covered,  #       a split: each class in each part
        gates_ahead,  #               an evaluation: floors, production, latency
        bento_answers,  #             a bento, blocking: it serves
    ],
    # All are off until someone switches them on; configs/policy.yaml says what they do.
    sensors=[
        new_images,  #          an inbox's delivery → raw_images
        enough_is_new,  #       enough batches → dataset_manifest
        follow_the_data,  #     → dataset_split, evaluation_report, defect_bento
        changed_configs,  #     a configuration's file → training_config
        training_by_policy,  #  a split → trained_model
        release_by_gates,  #    an evaluation → model_release
        promotion_by_policy,  # a bento → the policy's channel
        failed_runs,  #         a failed run → log, webhook
    ],
    jobs=[batches_in_parallel, verification, garbage_report, reevaluation],
    schedules=[nightly_cut, nightly_verification, weekly_garbage_report, weekly_reevaluation],
    resources={"home": HomeResource(s3=S3Resource())},
    # Steps are few and heavy: a process a step would only add its start. A training has one of its
    # own, and batches_in_parallel several.
    executor=dg.in_process_executor,
)
