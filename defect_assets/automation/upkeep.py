"""What is looked after by the clock: the store, its garbage, and the model in production."""

from datetime import UTC, datetime

import dagster as dg

from defect_assets.assets.publishing import refuse, rounded
from defect_assets.automation.experiments import newest_split
from defect_assets.automation.policy import cron, read_policy
from defect_assets.dataset.split import REF as SPLITS
from defect_assets.errors import UserError
from defect_assets.registry.channels import PRODUCTION, REF, leads_to
from defect_assets.registry.code import code_version, commit
from defect_assets.registry.reevaluation import REF as REEVALUATIONS
from defect_assets.registry.reevaluation import reevaluate
from defect_assets.resources import HomeResource
from defect_assets.spreading import in_threads
from defect_assets.store import Record
from defect_assets.store.collect import find_garbage
from defect_assets.store.verify import Portion, verify


class Share(dg.Config):
    """Which of some equal portions of the store is read."""

    number: int = 0
    """From 0 on."""
    of: int = 1


@dg.op
def verify_portion(context: dg.OpExecutionContext, home: HomeResource, config: Share) -> None:
    """Read a portion of the store, and look whether all that names lead to is there."""
    place = home.open()
    store = place.store(cached=False)
    portion = Portion(config.number, config.of)
    found = verify(store, portion=portion, spread=place.spread(in_threads))
    context.add_output_metadata(
        {"keys": found.keys, "bytes": found.bytes, "damages": len(found.damages)}
    )
    if found.damages:
        raise refuse(
            "\n".join(
                [
                    f"{len(found.damages)} things in {store.backend} are missing or damaged; "
                    "defect-assets verify --repair-from STORE restores them from a copy:",
                    *map(str, found.damages[:20]),
                ]
            )
        )


@dg.op
def find_what_no_name_leads_to(context: dg.OpExecutionContext, home: HomeResource) -> None:
    """Say how much of the store could be removed. Nothing is."""
    try:
        garbage = find_garbage(home.open().store(cached=False))
    except UserError as error:
        raise refuse(error) from error
    context.log.info(
        f"{len(garbage.entries)} keys with {garbage.bytes / 2**20:.1f} MB could go: "
        "defect-assets gc"
    )
    context.add_output_metadata(
        {"keys": len(garbage.entries), "bytes": garbage.bytes, "kept": garbage.kept}
    )


@dg.op
def reevaluate_production(context: dg.OpExecutionContext, home: HomeResource) -> None:
    """Test what is in production on the newest snapshot; warn where it does worse than it did."""
    store = home.open().store()
    dataset = newest_split(context.instance, store)
    if store.content(REF + PRODUCTION) is None or dataset is None:
        context.log.info("nothing is in production, or no snapshot is split: nothing to test")
        return
    release = leads_to(store, PRODUCTION)
    split = store.content(f"{SPLITS}{dataset}")
    assert split is not None
    try:
        found = reevaluate(store, release, split)
    except UserError as error:
        raise refuse(error) from error
    store.publish(
        f"{REEVALUATIONS}{release.id}/{dataset}",
        Record(
            asset="reevaluation",
            partition=f"{release.id}|{dataset}",
            content=store.objects.put_json(found.model_dump(mode="json")),
            parents={"trained_model": release.bundle, "dataset_split": split},
            code_version=code_version("registry.reevaluation"),
            commit=commit(),
            run_id=context.run_id,
        ),
    )
    low, _ = release.intervals.get("dice", (0.0, 1.0))
    if found.test.dice is not None and found.test.dice < low:
        context.log.warning(
            f"{release.id} finds less on {dataset} than when it was released: Dice "
            f"{found.test.dice:.3f}, then {rounded(release.metrics.dice)} and at least {low:.3f}"
        )
    context.add_output_metadata(
        {
            "release": release.id,
            "dataset": dataset,
            "Dice": rounded(found.test.dice),
            "Dice when released": rounded(release.metrics.dice),
            "images": found.test.images,
            "images left out": found.left_out,
        }
    )


@dg.job(description="Reads a portion of the store and compares it with its digests.")
def verification() -> None:
    """Read a portion of the store."""
    verify_portion()


@dg.job(description="Says how much of the store no name leads to; removes nothing.")
def garbage_report() -> None:
    """Say what could be removed."""
    find_what_no_name_leads_to()


@dg.job(description="Tests what is in production on the newest snapshot.")
def reevaluation() -> None:
    """Test what is in production."""
    reevaluate_production()


@dg.schedule(
    job=verification,
    cron_schedule=cron(read_policy().upkeep.verify),
    execution_timezone="UTC",
    description="Reads another portion of the store each night; all of it in the policy's days.",
)
def nightly_verification(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Ask for tonight's portion: they follow each other, however often one night is left out."""
    night = context.scheduled_execution_time or datetime.now(UTC)
    days = read_policy().upkeep.verify_days
    share = {"number": night.toordinal() % days, "of": days}
    return dg.RunRequest(
        run_key=f"{night:%Y-%m-%d}", run_config={"ops": {"verify_portion": {"config": share}}}
    )


weekly_garbage_report = dg.ScheduleDefinition(
    name="weekly_garbage_report",
    job=garbage_report,
    cron_schedule="0 4 * * 0",
    execution_timezone="UTC",
    description="Says on Sundays how much could be removed.",
)

weekly_reevaluation = dg.ScheduleDefinition(
    name="weekly_reevaluation",
    job=reevaluation,
    cron_schedule="0 5 * * 0",
    execution_timezone="UTC",
    description="Tests on Sundays what is in production, on the newest snapshot.",
)
