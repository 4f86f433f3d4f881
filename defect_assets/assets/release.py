"""Releases and what is served of them."""

from typing import TYPE_CHECKING

import dagster as dg

from defect_assets.assets.dataset import NO_PARTITIONS
from defect_assets.assets.environment import python_environment
from defect_assets.assets.experiment import evaluation_report, trained_model
from defect_assets.assets.publishing import (
    OWNERS,
    environment_of,
    record_of,
    ref_of,
    refuse,
    result_of,
    rounded,
)
from defect_assets.home import PROJECT
from defect_assets.partitions import releases
from defect_assets.registry.code import code_version
from defect_assets.registry.packaging import service_files
from defect_assets.resources import HomeResource
from defect_assets.store import Store

if TYPE_CHECKING:
    from defect_assets.registry.exporting import Comparison

SERVICE = PROJECT / "bento"
"""The service's folder."""


class ReleaseConfig(dg.Config):
    """Which experiment to release. A release that exists needs none."""

    dataset: str = ""
    """E.g. DS-1.1.0; by default the experiment that was evaluated last."""
    config: str = ""
    """E.g. C-01."""


@dg.asset(
    group_name="production",
    owners=OWNERS,
    partitions_def=releases,
    deps=[
        dg.AssetDep(trained_model, partition_mapping=NO_PARTITIONS),
        dg.AssetDep(evaluation_report, partition_mapping=NO_PARTITIONS),
    ],
    code_version=code_version("registry.releases"),
)
def model_release(
    context: dg.AssetExecutionContext, home: HomeResource, config: ReleaseConfig
) -> dg.MaterializeResult:
    """An evaluated model under a version, for good, with a note."""
    from defect_assets.registry import releases as registry

    store = home.open().store()
    try:
        release = registry.find_release(store, context.partition_key)
        digest = store.content(f"{registry.REF}{context.partition_key}")
        if release is None or digest is None:
            dataset, config_id = _experiment(store, config)
            release = registry.release(store, context.partition_key, dataset, config_id)
            digest = store.objects.put_json(release.model_dump(mode="json"))
    except (registry.ReleaseRefused, ValueError) as error:
        raise refuse(error) from error
    record = record_of(
        context,
        digest,
        parents={"trained_model": release.bundle, "evaluation_report": release.report},
    )
    store.publish_once(ref_of(record), record)
    return result_of(
        record,
        {
            "model": release.bundle,
            "dataset": release.dataset,
            "config": release.config,
            "test Dice": rounded(release.metrics.dice),
            "note": dg.MetadataValue.md(release.note),
        },
    )


@dg.asset(
    group_name="production",
    kinds={"bentoml"},
    owners=OWNERS,
    partitions_def=releases,
    deps=[model_release, python_environment],
    code_version=code_version(
        "registry.packaging",
        "inference.detector",
        "inference.images",
        "inference.quality",
        "inference.runtimes.choice",
        files=service_files(SERVICE),
    ),
)
def defect_bento(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult:
    """A release as a bento, ready for ``bentoml serve`` and ``bentoml containerize``."""
    from defect_assets.registry.packaging import package
    from defect_assets.registry.releases import find_release

    place = home.open()
    store = place.store()
    release = find_release(store, context.partition_key)
    if release is None:
        raise refuse(
            f"{context.partition_key} is not released yet: materialize model_release first"
        )
    place.prepare()
    digest, tag, comparisons = package(store, release, SERVICE, place.bentoml)
    record = record_of(
        context,
        digest,
        parents={
            "model_release": store.content(f"releases/{release.id}") or "",
            **environment_of(store),
        },
        details={"tag": tag, "runtimes": [c.model_dump() for c in comparisons]},
    )
    store.publish(ref_of(record), record)
    return result_of(
        record,
        {
            "tag": tag,
            "runtimes": _runtimes_table(comparisons),
            "serve": f"BENTOML_HOME={place.bentoml} bentoml serve {tag}",
            "containerize": f"BENTOML_HOME={place.bentoml} bentoml containerize {tag}",
        },
    )


def _runtimes_table(comparisons: list["Comparison"]) -> dg.MarkdownMetadataValue:
    """Return how each runtime answers beside PyTorch in float32, which is always served."""
    lines = [
        f"| {c.runtime} | {c.agreement:.5f} | {c.dice:.4f} | {c.dice_of_pytorch:.4f} | "
        f"{c.verdicts} of {c.images} | {'yes' if c.passed else 'no'} |"
        for c in comparisons
    ]
    head = "| runtime | same pixels | Dice | of PyTorch | same verdicts | served |"
    return dg.MetadataValue.md("\n".join([head, "|---" * 6 + "|", *lines]))


def _experiment(store: Store, config: ReleaseConfig) -> tuple[str, str]:
    """Return the experiment that is asked for, or the one that was evaluated last."""
    if config.dataset and config.config:
        return config.dataset, config.config
    if config.dataset or config.config:
        raise ValueError("give both dataset and config, or neither")
    evaluated = [
        (record.created_at, name.removeprefix("reports/").split("/"))
        for name in store.refs.names("reports/")
        if (record := store.record(name))
    ]
    if not evaluated:
        raise ValueError("nothing was evaluated yet: materialize evaluation_report first")
    dataset, config_id = max(evaluated)[1]
    return dataset, config_id
