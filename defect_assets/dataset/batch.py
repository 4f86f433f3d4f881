"""A batch: one delivery, taken into the store for good."""

from dataclasses import replace
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

    What a delivery does not say of a sample that is known already, its group and its exposure,
    stays as it was; a new sample without a group is a part of its own.

    Nothing points to what is put in until the caller names the batch, so that a crash leaves
    only unnamed objects behind.

    Raises
    ------
    DeliveryRefused
        If anything is wrong with the delivery; then nothing is taken.
    """
    delivery = read_delivery(folder, description)
    known = _known_samples(store, but=delivery.name)
    samples = [_completed(sample, known) for sample in delivery.samples]
    problems = _contradictions(samples, known)
    if problems:
        raise DeliveryRefused(delivery.name, problems)
    table = pd.DataFrame([_take(store, sample, folder) for sample in samples])
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


def same_samples(store: Store, one: Batch, other: Batch) -> bool:
    """Tell whether two batches hold the same samples, whatever else their tables say of them."""
    said = ["sample", "class", "group", "exposure", "image", "mask"]
    tables = [store.objects.get_table(batch.rows)[said] for batch in (one, other)]
    return one.notes == other.notes and tables[0].equals(tables[1])


def named_batches(store: Store) -> list[tuple[str, Digest]]:
    """Return the id and digest of every batch, in the order in which they were taken in."""
    records = [(name, store.record(name)) for name in store.refs.names(REF)]
    named = [(record.created_at, name, record.content) for name, record in records if record]
    return [(name.removeprefix(REF), content) for _, name, content in sorted(named)]


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


def _known_samples(store: Store, but: str) -> dict[str, dict[str, str]]:
    """Return the latest row of each sample of all batches but one."""
    rows: dict[str, dict[str, str]] = {}
    for name, digest in named_batches(store):
        if name != but:
            table = store.objects.get_table(read_batch(store, digest).rows)
            rows |= {row["sample"]: row | {"batch": name} for row in table.to_dict("records")}
    return rows


def _completed(sample: Sample, known: dict[str, dict[str, str]]) -> Sample:
    """Fill in what the delivery does not say."""
    before = known.get(sample.sample, {})
    return replace(
        sample,
        group=sample.group or before.get("group", sample.sample),
        exposure=sample.exposure or before.get("exposure", ""),
    )


def _contradictions(samples: list[Sample], known: dict[str, dict[str, str]]) -> list[Problem]:
    """Find what cannot be true together with what is known.

    One id stands for one image for ever. One image is of one part: the same bytes under two ids
    and in two groups would be in train and in test.
    """
    problems = []
    part_of = {row["image"]: (row["sample"], row["group"]) for row in known.values()}
    for sample in samples:
        file = f"images/{sample.image.name}"
        before = known.get(sample.sample)
        if before and before["image"] != sample.image_digest:
            problems.append(
                Problem(
                    file,
                    f"{sample.sample} is already known from {before['batch']}, with other content; "
                    "a new image needs a new name",
                )
            )
        other, group = part_of.setdefault(sample.image_digest, (sample.sample, sample.group))
        if other != sample.sample and group != sample.group:
            problems.append(
                Problem(
                    file,
                    f"it is the same image as {other}, which is of another part: {group}, not "
                    f"{sample.group}",
                )
            )
    return problems
