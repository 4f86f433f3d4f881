"""A batch: one delivery, taken into the store for good."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.delivery import (
    DeliveryRefused,
    Problem,
    Sample,
    read_delivery,
)
from defect_assets.dataset.description import DatasetDescription
from defect_assets.store import Digest, Store

REF = "batches/"


class Batch(BaseModel):
    """A delivery's content; its digest is the data version of ``raw_images``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    notes: str
    rows: Digest
    """The table of its samples: sample, class, group, exposure, digests, names, sizes."""
    counts: dict[str, int]
    """Samples per class."""


def ingest(store: Store, folder: Path, description: DatasetDescription) -> Batch:
    """Check a delivery and put its images, masks and table into the store.

    Nothing points to what is put in until the caller names the batch, so that a crash leaves
    only unnamed objects behind.

    Raises
    ------
    DeliveryRefused
        If anything is wrong with the delivery; then nothing is taken.
    """
    delivery = read_delivery(folder, description)
    _refuse_changed_images(store, delivery.name, delivery.samples)
    rows = [_take(store, s, folder) for s in delivery.samples]
    table = pd.DataFrame(rows)
    counts = table["class"].value_counts()
    return Batch(
        id=delivery.name,
        notes=delivery.notes,
        rows=store.objects.put_table(table),
        counts={str(name): int(count) for name, count in sorted(counts.items())},
    )


def read_batch(store: Store, digest: Digest) -> Batch:
    """Return the batch with a digest."""
    return Batch.model_validate(store.objects.get_json(digest))


def named_batches(store: Store) -> Iterator[tuple[str, Digest]]:
    """Yield the id and digest of every batch that was taken in, sorted by id."""
    for name in store.refs.names(REF):
        digest = store.content(name)
        assert digest is not None
        yield name.removeprefix(REF), digest


def _take(store: Store, sample: Sample, folder: Path) -> dict[str, str | int]:
    def put(path: Path | None, digest: Digest | None) -> int:
        if path is None or digest is None:
            return 0
        data = path.read_bytes()
        if store.objects.put(data) != digest:
            problem = Problem(path.relative_to(folder).as_posix(), "it changed while it was read")
            raise DeliveryRefused(folder.name, [problem])
        return len(data)

    return {
        "sample": sample.sample,
        "class": sample.class_name,
        "group": sample.group,
        "exposure": sample.exposure,
        "image": sample.image_digest,
        "image_bytes": put(sample.image, sample.image_digest),
        "image_name": sample.image.name,
        "mask": sample.mask_digest or "",
        "mask_bytes": put(sample.mask, sample.mask_digest),
        "mask_name": sample.mask.name if sample.mask else "",
        "height": sample.height,
        "width": sample.width,
        "channels": sample.channels,
    }


def _refuse_changed_images(store: Store, delivery: str, samples: list[Sample]) -> None:
    """One id stands for one image for ever: refuse other content under a known id."""
    incoming = {s.sample: s for s in samples}
    problems = []
    for batch_id, digest in named_batches(store):
        if batch_id == delivery:
            continue
        table = store.objects.get_table(read_batch(store, digest).rows)
        for sample, image in zip(table["sample"], table["image"], strict=True):
            if sample in incoming and incoming[sample].image_digest != image:
                problems.append(
                    Problem(
                        f"images/{incoming[sample].image.name}",
                        f"{sample} is already known from {batch_id}, with other content; "
                        "a new image needs a new name",
                    )
                )
    if problems:
        raise DeliveryRefused(delivery, problems)
