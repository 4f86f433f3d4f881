"""Releases and what is served of them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg

from defect_assets.assets.conditions import follows
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
from defect_assets.dataset.version import Version
from defect_assets.errors import UserError
from defect_assets.home import PROJECT
from defect_assets.partitions import releases
from defect_assets.registry.release.gates import GateResult
from defect_assets.registry.stages import STAGES
from defect_assets.resources import HomeResource
from defect_assets.store import Store

if TYPE_CHECKING:
    from defect_assets.registry.exporting import Comparison
    from defect_assets.registry.release.releases import Release

SERVICE = PROJECT / "bento"
"""The service's folder."""


class ReleaseConfig(dg.Config):
    """What to release, as the partition's version. A release that exists needs nothing of it."""

    dataset: str = ""
    """E.g. DS-1.1.0; by default the experiment that was evaluated last."""
    config: str = ""
    """E.g. C-01."""
    override: str = ""
    """Why to release it though gates fail; recorded with who says so."""
    notes: str = ""
    """What people should know of the release."""


@dg.asset(
    group_name="production",
    owners=OWNERS,
    partitions_def=releases,
    deps=[
        dg.AssetDep(trained_model, partition_mapping=NO_PARTITIONS),
        dg.AssetDep(evaluation_report, partition_mapping=NO_PARTITIONS),
    ],
    code_version=STAGES["model_release"].code_version,
)
def model_release(
    context: dg.AssetExecutionContext, home: HomeResource, config: ReleaseConfig
) -> dg.MaterializeResult:
    """An evaluated model under a version, for good: it passed its gates, or someone said why not.

    The version must be one that the changes since the release before allow.
    """
    from defect_assets.registry.release import releases as registry

    store = home.open().store()
    release_id = context.partition_key
    release = registry.find_release(store, release_id)
    if release is None:
        try:
            release, details = _release(store, release_id, config)
        except dg.Failure:  # then there is no such release, and its number stays free
            assert releases.name is not None
            context.instance.delete_dynamic_partition(releases.name, release_id)
            raise
        digest = store.objects.put_json(release.model_dump(mode="json"))
    else:
        record = store.record(f"{registry.REF}{release_id}")
        assert record is not None
        digest, details = record.content, record.details
    record = record_of(
        context,
        digest,
        parents={"trained_model": release.bundle, "evaluation_report": release.report},
        details=details,
    )
    store.publish_once(ref_of(record), record)
    metadata: dict[str, Any] = {
        "model": release.bundle,
        "dataset": release.dataset,
        "config": release.config,
        "test Dice": rounded(release.metrics.dice),
    }
    if gates := details.get("gates"):
        metadata["gates"] = _gates_table([GateResult.model_validate(gate) for gate in gates])
    if override := details.get("override"):
        metadata["released though it failed"] = "{by}: {reason}".format(**override)
    if note := registry.read_documents(store, release_id).get(registry.NOTE):
        metadata["note"] = dg.MetadataValue.md(note.decode())
    return result_of(record, metadata)


def _release(
    store: Store, release_id: str, config: ReleaseConfig
) -> tuple["Release", dict[str, Any]]:
    """Return a new release, and what its record tells."""
    from defect_assets.registry.release.candidates import last_evaluated
    from defect_assets.registry.release.releasing import GatesFailed, propose

    if bool(config.dataset) != bool(config.config):
        raise refuse("give both dataset and config, or neither")
    try:
        version = Version.parse(release_id)
        dataset, config_id = (
            (config.dataset, config.config) if config.dataset else last_evaluated(store)
        )
        proposal = propose(store, PROJECT, dataset, config_id, version, config.notes)
        override = proposal.admit(config.override, PROJECT)
    except GatesFailed as error:
        raise refuse(error, gates=_gates_table(error.results)) from error
    except (UserError, ValueError) as error:
        raise refuse(error) from error
    return proposal.release, proposal.details(store, override)


def _gates_table(results: Iterable[GateResult]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"gate": r.gate, "passed": r.passed, "found": r.why, "mend": r.mend})
            for r in results
        ],
        schema=dg.TableSchema(
            [
                dg.TableColumn("gate"),
                dg.TableColumn("passed", type="bool"),
                dg.TableColumn("found"),
                dg.TableColumn("mend"),
            ]
        ),
    )


@dg.asset(
    group_name="production",
    kinds={"bentoml"},
    owners=OWNERS,
    partitions_def=releases,
    deps=[model_release, python_environment],
    automation_condition=follows("model_release"),
    code_version=STAGES["defect_bento"].code_version,
)
def defect_bento(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult:
    """A release as a bento, ready for ``bentoml serve`` and ``bentoml containerize``."""
    from defect_assets.registry.packaging import package
    from defect_assets.registry.release.releases import find_release

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
