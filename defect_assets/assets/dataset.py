"""Snapshots and their splits."""

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from defect_assets.assets.conditions import follows
from defect_assets.assets.environment import python_environment
from defect_assets.assets.publishing import (
    OWNERS,
    counts_table,
    environment_of,
    record_of,
    ref_of,
    refuse,
    result_of,
)
from defect_assets.assets.raw_images import raw_images
from defect_assets.dataset import snapshot as snapshots
from defect_assets.dataset import split as splits
from defect_assets.dataset.alike import TooManyImages
from defect_assets.dataset.comparison import write_comparison
from defect_assets.dataset.cut import CutRefused, cut
from defect_assets.dataset.difference import difference
from defect_assets.home import HomeError
from defect_assets.partitions import datasets
from defect_assets.registry.stages import STAGES
from defect_assets.resources import HomeResource
from defect_assets.settings import SettingsError
from defect_assets.store import Store


class CutConfig(dg.Config):
    """What a person may say of a new snapshot."""

    notes: str = ""
    """What people should know of it."""


NO_PARTITIONS = dg.SpecificPartitionsPartitionMapping([])
"""An arrow of lineage without a dependency: what is pinned does not age with what comes later."""


@dg.asset(
    group_name="data",
    kinds={"parquet"},
    owners=OWNERS,
    partitions_def=datasets,
    deps=[dg.AssetDep(raw_images, partition_mapping=NO_PARTITIONS), python_environment],
    code_version=STAGES["dataset_manifest"].code_version,
)
def dataset_manifest(
    context: dg.AssetExecutionContext, home: HomeResource, config: CutConfig
) -> dg.MaterializeResult:
    """A snapshot: which batches, which class map, and what changed since the one before.

    Its number follows from what changed, and once given it stands for this content for ever.
    """
    place = home.open()
    store = place.store()
    name = context.partition_key
    try:
        digest, snapshot = cut(store, name, place.description(), config.notes)
    except (CutRefused, HomeError, SettingsError, ValueError) as error:
        raise refuse(error) from error
    record = record_of(
        context,
        digest,
        parents={f"raw_images/{pin.id}": pin.digest for pin in snapshot.batches}
        | environment_of(store),
    )
    store.publish_once(ref_of(record), record)
    metadata: dict[str, object] = {}
    if snapshot.parent and snapshot.parent_id:
        parent = snapshots.read_snapshot(store, snapshot.parent)
        changes = difference(store, parent.batches, snapshot.batches)
        page = place.reports / f"{snapshot.parent_id}-to-{snapshot.id}.html"
        write_comparison(store, parent, snapshot, changes, page)
        metadata["what changed, in pictures"] = dg.MetadataValue.path(str(page))
    if snapshot.changelog.relabelled:
        metadata["relabelled"] = _relabelled(store, snapshot)
    return result_of(
        record,
        metadata
        | {
            "images": snapshot.samples,
            "parts": snapshot.groups,
            "notes": snapshot.notes or "none",
            "changelog": str(snapshot.changelog),
            "parent": snapshot.parent_id or "none",
            "classes": counts_table({"images": snapshot.counts}, "class"),
            "batches": dg.MetadataValue.json({p.id: p.digest for p in snapshot.batches}),
            "description": dg.MetadataValue.json(snapshot.description.model_dump(mode="json")),
        },
    )


def _relabelled(store: Store, snapshot: snapshots.Snapshot) -> dg.TableMetadataValue:
    """Show the samples whose label changed, the most changed masks first."""
    changes = store.objects.get_table(snapshot.changes)
    rows = changes.filter(pc.equal(changes["change"], "relabelled")).sort_by("dice").to_pylist()
    return dg.MetadataValue.table(
        [
            dg.TableRecord({k: row[k] for k in ("sample", "class_before", "class", "dice")})
            for row in rows[:50]
        ],
        schema=dg.TableSchema(
            [dg.TableColumn(name) for name in ("sample", "class_before", "class")]
            + [dg.TableColumn("dice", type="float")]
        ),
    )


@dg.asset(
    group_name="data",
    kinds={"parquet"},
    owners=OWNERS,
    partitions_def=datasets,
    deps=[dataset_manifest, python_environment],
    automation_condition=follows("dataset_manifest"),
    code_version=STAGES["dataset_split"].code_version,
)
def dataset_split(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult:
    """Which samples train, which validate, which test: no physical part is in two of them."""
    store = home.open().store()
    name = context.partition_key
    try:
        digest, _ = snapshots.find_snapshot(store, name)
    except snapshots.UnknownDataset as error:
        raise refuse(error) from error
    try:
        split = splits.split_snapshot(store, digest)
    except TooManyImages as error:
        raise refuse(error) from error
    record = record_of(
        context,
        store.objects.put_json(split.model_dump(mode="json")),
        parents={
            "dataset_manifest": digest,
            **environment_of(store),
        },
    )
    store.publish(ref_of(record), record)
    metadata: dict[str, object] = {}
    if split.folds:
        metadata["folds"] = _folds(split)
    if empty := [str(k) for k, fold in enumerate(split.folds, 1) if not fold.groups["test"]]:
        metadata["folds without a test"] = f"{', '.join(empty)}: too few parts, deliver more"
    if split.moved:
        moved = store.objects.get_table(split.moved)
        metadata["samples moved"] = len(moved)
        metadata["moved"] = _moved(moved)
    return result_of(
        record,
        metadata
        | {
            "seed": split.policy.seed,
            "parts": dg.MetadataValue.json(
                {str(part): count for part, count in split.groups.items()}
            ),
            "classes": counts_table({str(part): n for part, n in split.counts.items()}, "split"),
        },
    )


def _folds(split: splits.Split) -> dg.TableMetadataValue:
    """Show what each fold tests: parts, and images of each class."""
    classes = sorted({name for fold in split.folds for name in fold.counts["test"]})
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {"fold": k, "parts": fold.groups["test"]}
                | {name: fold.counts["test"].get(name, 0) for name in classes}
            )
            for k, fold in enumerate(split.folds, start=1)
        ],
        schema=dg.TableSchema(
            [dg.TableColumn(name, type="int") for name in ("fold", "parts", *classes)]
        ),
    )


def _moved(moved: pa.Table) -> dg.TableMetadataValue:
    """Show the samples that had to move, those first that changed between train, val and test."""
    rows = moved.to_pylist()
    rows.sort(key=lambda row: (row["part"] == row["part_before"], row["sample"]))
    names = [name for name in moved.column_names if f"{name}_before" in moved.column_names]
    records = [
        {"sample": row["sample"], "group": row["group"]}
        | {
            name: f"{was} → {now}" if (was := row[f"{name}_before"]) != (now := row[name]) else now
            for name in names
        }
        for row in rows[:50]
    ]
    return dg.MetadataValue.table(
        [dg.TableRecord(record) for record in records],
        schema=dg.TableSchema([dg.TableColumn(name) for name in ("sample", "group", *names)]),
    )
