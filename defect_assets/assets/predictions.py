"""What production says of a snapshot."""

import dagster as dg

from defect_assets.assets.dataset import NO_PARTITIONS, dataset_manifest
from defect_assets.assets.environment import python_environment
from defect_assets.assets.publishing import (
    OWNERS,
    environment_of,
    record_of,
    ref_of,
    refuse,
    result_of,
)
from defect_assets.assets.release import model_release
from defect_assets.dataset.snapshot import UnknownDataset, find_snapshot
from defect_assets.errors import UserError
from defect_assets.partitions import datasets
from defect_assets.registry.channels import PRODUCTION, channels, leads_to
from defect_assets.registry.stages import STAGES
from defect_assets.resources import HomeResource


@dg.asset(
    group_name="production",
    kinds={"parquet"},
    owners=OWNERS,
    partitions_def=datasets,
    deps=[
        dataset_manifest,
        # What is in production is a name that moves; which release it was stands in the record.
        dg.AssetDep(model_release, partition_mapping=NO_PARTITIONS),
        python_environment,
    ],
    code_version=STAGES["production_predictions"].code_version,
)
def production_predictions(
    context: dg.AssetExecutionContext, home: HomeResource
) -> dg.MaterializeResult:
    """What the model in production says of each image: verdicts, defects, masks.

    On a Ray cluster, where work goes to one.
    """
    from defect_assets.scoring.predictions import predict
    from defect_assets.scoring.released import as_evaluated
    from defect_assets.scoring.sources import SnapshotSource

    place = home.open()
    store = place.store()
    dataset = context.partition_key
    if PRODUCTION not in channels(store):
        raise refuse(
            "nothing is in production yet: put a release there, e.g. defect-assets promote v0.1.0 "
            "production --why …"
        )
    release = leads_to(store, PRODUCTION)
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if 10 * done // total > told:  # each is a row in Dagster's database
            told = 10 * done // total
            context.log.info(f"{release.id} looked at {done:,} of {total:,} images")

    try:
        digest, _ = find_snapshot(store, dataset)
        source = SnapshotSource(place.url, place.cache, dataset, digest)
        made = predict(release.bundle, as_evaluated(store, release), source, tell, place.access)
    except UnknownDataset as error:
        raise refuse(f"{error}; materialize dataset_manifest first") from error
    except UserError as error:
        raise refuse(error) from error
    record = record_of(
        context,
        store.objects.put_json(made.model_dump(mode="json")),
        parents={
            "dataset_manifest": digest,
            "model_release": store.content(f"releases/{release.id}") or "",
            "trained_model": release.bundle,
            **environment_of(store),
        },
        details={"release": release.id},
    )
    store.publish(ref_of(record), record)
    return result_of(
        record,
        {"release": release.id, "images": sum(made.verdicts.values()), **made.verdicts},
    )
