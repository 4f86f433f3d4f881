"""Deliveries, taken into the store."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from defect_assets.assets.environment import python_environment
from defect_assets.assets.publishing import (
    OWNERS,
    counts_table,
    environment_of,
    picture,
    record_of,
    refuse,
    result_of,
)
from defect_assets.dataset.batch import Batch, read_batch
from defect_assets.dataset.delivery import DeliveryRefused
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import read_images
from defect_assets.dataset.order import name_batch, ordered_batches
from defect_assets.dataset.pictures import contact_sheet, overlay
from defect_assets.home import HomeError
from defect_assets.inbox import take_in
from defect_assets.inference.images import encode_png
from defect_assets.partitions import batches
from defect_assets.registry.stages import STAGES
from defect_assets.resources import HomeResource
from defect_assets.settings import SettingsError
from defect_assets.store import Store
from defect_assets.store.columns import column

SOUND = "delivery_is_sound"


@dg.asset(
    group_name="data",
    kinds={"image"},
    owners=OWNERS,
    partitions_def=batches,
    # A line that delivers nothing for so long stands still, or what carries its images does.
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=14), warn_window=timedelta(days=7)
    ),
    deps=[python_environment],
    code_version=STAGES["raw_images"].code_version,
    check_specs=[
        dg.AssetCheckSpec(
            SOUND,
            asset="raw_images",
            description="Nothing is wrong with the delivery, or else it is in rejected, with why.",
        )
    ],
)
def raw_images(
    context: dg.AssetExecutionContext, home: HomeResource
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """One delivery: its images and masks, checked, each in the store under its own digest.

    A delivery in which anything is wrong is refused whole, with the list of all that is.
    """
    store = home.open().store()
    name = context.partition_key
    try:
        description = home.open().description()
        digest, batch = take_in(home.open(), store, name)
    except DeliveryRefused as refusal:
        problems = [dg.TableRecord({"file": p.file, "reason": p.reason}) for p in refusal.problems]
        # Before the run fails: what was refused is to be seen where one looks for it.
        yield dg.AssetCheckResult(
            passed=False,
            check_name=SOUND,
            description=str(refusal),
            metadata={"delivery": name, "problems": dg.MetadataValue.table(problems)},
        )
        raise refuse(refusal, problems=dg.MetadataValue.table(problems)) from refusal
    except (HomeError, SettingsError) as error:
        raise refuse(error) from error
    record = record_of(context, digest, parents=environment_of(store))
    name_batch(store, name, record)
    table = store.objects.get_table(batch.rows)
    sizes = [pc.sum(table[name]).as_py() or 0 for name in ("image_bytes", "mask_bytes")]
    told: dict[str, object] = {}
    if same := _same_as(store, name, batch):
        context.log.warning(f"{name} holds the very same samples as {same}: it changes nothing")
        told["same samples as"] = same
    yield dg.AssetCheckResult(passed=True, check_name=SOUND, metadata={"delivery": name})
    yield result_of(
        record,
        told
        | {
            "images": sum(batch.counts.values()),
            "parts": pc.count_distinct(table["group"]).as_py(),
            "bytes": sum(sizes),
            "notes": batch.notes,
            "classes": counts_table(
                {"images": batch.counts} | ({"removed": batch.removed} if batch.removed else {}),
                "class",
            ),
            "examples": _examples(store, batch, description),
        },
    )


def _same_as(store: Store, name: str, batch: Batch) -> str:
    """Return the name of an earlier delivery with the same table, as of one that was renamed."""
    for other in ordered_batches(store):
        if other.id != name and read_batch(store, other.digest).rows == batch.rows:
            return other.id
    return ""


def _examples(
    store: Store, batch: Batch, description: DatasetDescription
) -> dg.MarkdownMetadataValue:
    """Show two images of each class, of different parts, with their masks."""
    table = store.objects.get_table(batch.rows)
    shown: dict[str, dict[str, int]] = {}
    """By class, the parts that are shown, and at which row."""
    for row, (name, group) in enumerate(
        zip(table["class"].to_pylist(), table["group"].to_pylist(), strict=True)
    ):
        groups = shown.setdefault(name, {})
        if len(groups) < 2:
            groups.setdefault(group, row)
    rows = [row for _, groups in sorted(shown.items()) for row in groups.values()]
    chosen = table.take(column(rows, pa.int64()))
    pictures = [
        overlay(image.image, image.mask, description.palette)
        for image in read_images(store, chosen, description)
    ]
    return picture(encode_png(contact_sheet(pictures, columns=6)), "examples with their masks")
