"""Deliveries, taken into the store."""

import dagster as dg

from defect_assets.assets.environment import python_environment
from defect_assets.assets.publishing import (
    OWNERS,
    counts_table,
    environment_of,
    picture,
    record_of,
    ref_of,
    refuse,
    result_of,
)
from defect_assets.dataset.batch import REF, Batch, ingest, read_batch, same_samples
from defect_assets.dataset.delivery import COMPLETE, DeliveryRefused, check_name
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import read_images
from defect_assets.dataset.pictures import contact_sheet, overlay
from defect_assets.home import Home, HomeError
from defect_assets.inference.images import encode_png
from defect_assets.partitions import batches
from defect_assets.registry.code import code_version
from defect_assets.resources import HomeResource
from defect_assets.settings import SettingsError
from defect_assets.store import Digest, Store


@dg.asset(
    group_name="data",
    kinds={"image"},
    owners=OWNERS,
    partitions_def=batches,
    deps=[python_environment],
    code_version=code_version("dataset.batch"),
)
def raw_images(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult:
    """One delivery: its images and masks, checked, each in the store under its own digest.

    A delivery in which anything is wrong is refused whole, with the list of all that is.
    """
    store = home.open().store()
    name = context.partition_key
    try:
        description = home.open().description()
        digest, batch = _take_in(home.open(), store, name, description)
    except DeliveryRefused as refusal:
        problems = [dg.TableRecord({"file": p.file, "reason": p.reason}) for p in refusal.problems]
        raise refuse(refusal, problems=dg.MetadataValue.table(problems)) from refusal
    except (HomeError, SettingsError) as error:
        raise refuse(error) from error
    record = record_of(context, digest, parents=environment_of(store))
    store.publish_once(ref_of(record), record)
    table = store.objects.get_table(batch.rows)
    return result_of(
        record,
        {
            "images": len(table),
            "parts": table["group"].nunique(),
            "bytes": int(table["image_bytes"].sum() + table["mask_bytes"].sum()),
            "notes": batch.notes,
            "classes": counts_table({"images": batch.counts}, "class"),
            "examples": _examples(store, batch, description),
        },
    )


def _take_in(
    home: Home, store: Store, name: str, description: DatasetDescription
) -> tuple[Digest, Batch]:
    """Ingest a delivery; one that was taken in before must not have changed, or may be gone."""
    folder = home.inbox / check_name(name)
    known = store.content(f"{REF}{name}")
    if known and not folder.exists():
        return known, read_batch(store, known)
    if not folder.is_dir():
        raise HomeError(f"there is no delivery {name} in {home.inbox}")
    if not (folder / COMPLETE).exists():
        raise HomeError(f"the delivery {name} is not complete yet: it has no {COMPLETE}")
    batch = ingest(store, folder, description)
    if known is None:
        return store.objects.put_json(batch.model_dump(mode="json")), batch
    before = read_batch(store, known)
    if not same_samples(store, before, batch):
        raise HomeError(
            f"the delivery {name} was taken in before and has changed since: put what is new "
            "into a delivery of its own, and restore this one or remove it from the inbox"
        )
    return known, before


def _examples(
    store: Store, batch: Batch, description: DatasetDescription
) -> dg.MarkdownMetadataValue:
    """Show two images of each class, of different parts, with their masks."""
    table = store.objects.get_table(batch.rows)
    chosen = table.drop_duplicates("group").groupby("class").head(2).sort_values("class")
    pictures = [
        overlay(image.image, image.mask, description.palette)
        for image in read_images(store, chosen, description)
    ]
    return picture(encode_png(contact_sheet(pictures, columns=6)), "examples with their masks")
