"""Many deliveries at once, each in a process of its own; one run for all of them.

A run a delivery, as sensors ask for, costs some seconds before it begins: that is much for
hundreds that are small. Here the processes of one run share what they import.
"""

from collections.abc import Iterator

import dagster as dg
import yaml

from defect_assets.assets.publishing import refuse
from defect_assets.automation.telling import tell
from defect_assets.cluster.connection import on_ray
from defect_assets.dataset.delivery import DeliveryRefused
from defect_assets.home import CONFIGS, LOCK, HomeError
from defect_assets.inbox import State, arrivals, take_in
from defect_assets.registry.provenance import publish_batch
from defect_assets.resources import HomeResource
from defect_assets.run_workers import STEPS_APART

PROCESSES = 4
"""That work at the same time on one machine, and portions by default."""


class Waiting(dg.Config):
    """Which deliveries are taken in."""

    first: str = ""
    """The first one, by name; by default the first that waits."""
    last: str = ""
    """The last one, by name; by default the last that waits."""
    processes: int = PROCESSES
    """Portions, each for a process."""


@dg.op(out=dg.DynamicOut())
def portions(
    context: dg.OpExecutionContext, home: HomeResource, config: Waiting
) -> Iterator[dg.DynamicOutput[list[str]]]:
    """Divide the deliveries that wait, in a range of names, among processes."""
    place = home.open()
    names = [
        arrival.name
        for arrival in arrivals(place, place.store())
        if arrival.state is State.NEW
        and config.first <= arrival.name
        and (not config.last or arrival.name <= config.last)
    ]
    context.log.info(f"{len(names)} deliveries wait")
    for number in range(min(config.processes, len(names))):
        yield dg.DynamicOutput(names[number :: config.processes], mapping_key=f"portion_{number}")


@dg.op
def take_in_portion(
    context: dg.OpExecutionContext, home: HomeResource, names: list[str]
) -> list[str]:
    """Take deliveries in; return why some are refused, which keeps no other from being taken."""
    place = home.open()
    store = place.store()
    refused = []
    for name in names:
        try:
            digest, batch = take_in(place, store, name)
        except (DeliveryRefused, HomeError) as error:
            refused.append(str(error))
            continue
        publish_batch(store, name, digest, LOCK)
        context.log.info(f"{name}: {sum(batch.counts.values())} images")
    return refused


@dg.op
def tell_of_batches(
    context: dg.OpExecutionContext, home: HomeResource, refused: list[list[str]]
) -> None:
    """Tell Dagster which batches there are now; fail where deliveries were refused."""
    told = tell(context.instance, home.open())
    context.add_output_metadata({"results told of": told})
    if why := [reason for portion in refused for reason in portion]:
        raise refuse("\n".join(why))


def _executor() -> dg.ExecutorDefinition:
    """Return what gives each portion a process: of this machine, or a job of the Ray cluster."""
    if not on_ray():
        forkserver = {"forkserver": {"preload_modules": [__name__]}}
        return dg.multiprocess_executor.configured(
            {"max_concurrent": PROCESSES, "start_method": forkserver}
        )
    from dagster_ray import ray_executor

    # A portion spreads its work as a run does, so it asks for what a run asks for.
    instance = yaml.safe_load((CONFIGS / "deploy" / "ray" / "dagster.yaml").read_text())
    return ray_executor.configured({"ray": instance["run_launcher"]["config"]["ray"]})


@dg.job(
    executor_def=_executor(),
    tags={STEPS_APART: "yes", "dagster/max_runtime": str(24 * 3600)},
)
def batches_in_parallel() -> None:
    """Take in all deliveries that wait, or a range of them, by several processes."""
    tell_of_batches(portions().map(take_in_portion).collect())
