"""Taking a delivery into the store: all of it, or nothing."""

from collections import Counter
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa

from defect_assets.dataset.batch import Batch, BatchPin, batch_names, read_batch
from defect_assets.dataset.delivery import (
    GROUPS,
    HEADER,
    DeliveryRefused,
    Listing,
    Problem,
    list_delivery,
)
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.grouping import GroupRules, groups_by_name
from defect_assets.dataset.inspection import Sample, inspect
from defect_assets.dataset.order import ordered_batches
from defect_assets.dataset.samples import ROWS, latest_rows
from defect_assets.spreading import Spread, in_threads, while_waiting
from defect_assets.store import Store
from defect_assets.store.columns import column, table_of


def ingest(
    store: Store,
    folder: Path,
    description: DatasetDescription,
    progress: Callable[[int, int], None] = lambda done, total: None,
    spread: Spread = in_threads,
) -> Batch:
    """Check a delivery and put its images, masks and table into the store.

    What a delivery does not say of a sample that is known already, its image, its label, its group
    and its exposure, stays as it was. The group of a new sample is found by its name, where the
    description has a rule for that; else a new sample without a group is a part of its own.

    Nothing points to what is put in until the caller names the batch, so that a crash leaves
    only unnamed objects behind.

    Parameters
    ----------
    store
        Where to put it.
    folder
        The delivery.
    description
        What its images may show and how its masks are read.
    progress
        Is told how many samples were looked at, of how many.
    spread
        Divides the looking.

    Raises
    ------
    DeliveryRefused
        If anything is wrong with the delivery; then nothing is taken.
    """
    while True:
        before = ordered_batches(store)
        batch = _ingest(store, folder, description, progress, spread, before)
        # What others took in meanwhile may say something of the same samples.
        if batch_names(store) <= {pin.id for pin in before}:
            return batch


def _ingest(
    store: Store,
    folder: Path,
    description: DatasetDescription,
    progress: Callable[[int, int], None],
    spread: Spread,
    batches: tuple[BatchPin, ...],
) -> Batch:
    listing = list_delivery(folder)
    earlier = list(takewhile(lambda pin: pin.id != listing.name, batches))
    known = _known_samples(store, listing, earlier)
    problems = listing.problems
    if description.groups.reads_names:
        problems += _read_names(store, listing, description.groups, known, earlier)
    rows: list[dict[str, Any]] = []
    done, total = 0, len(listing.samples)
    with store.objects.packing() as packer:
        for inspected in inspect(listing, description, known, spread):
            for one in inspected:
                if isinstance(one.result, Problem):
                    problems.append(one.result)
                else:
                    rows.append(_row(one.result, known.get(one.result.sample, {})))
            done += len(inspected)
            progress(done, total)
            if not problems:  # of a delivery that is refused, no more is stored
                packer.add([file for one in inspected for file in one.files])
        regrouped, strangers = _regrouped(listing, known)
        rows += regrouped
        problems += strangers
        removed, strangers = _tombstones(listing, known)
        problems += strangers
        problems += _contradictions(store, listing, rows, known, earlier)
        if problems:
            raise DeliveryRefused(listing.name, problems)
    table = table_of(rows + removed, ROWS)
    return Batch(
        id=listing.name,
        notes=listing.header.notes,
        rows=store.objects.put_table(table),
        counts=_counts(rows),
        removed=_counts(removed),
    )


def same_samples(store: Store, one: Batch, other: Batch) -> bool:
    """Tell whether two batches hold the same samples, whatever else their tables say of them."""
    said = ["sample", "class", "group", "exposure", "image", "mask", "removed"]
    tables = [store.objects.get_table(batch.rows, said) for batch in (one, other)]
    return one.notes == other.notes and tables[0].equals(tables[1])


def _row(sample: Sample, before: dict[str, Any]) -> dict[str, Any]:
    """Return a sample's row, what the delivery does not say filled in from what is known."""
    return {
        "sample": sample.sample,
        "class": sample.class_name,
        "group": sample.group or before.get("group", sample.sample),
        "exposure": sample.exposure or before.get("exposure", ""),
        "image": sample.image_digest,
        "image_bytes": sample.image_bytes,
        "image_name": sample.image.base_name if sample.image else before["image_name"],
        "mask": sample.mask_digest,
        "mask_bytes": sample.mask_bytes,
        "mask_name": _mask_name(sample, before),
        "height": sample.height,
        "width": sample.width,
        "channels": sample.channels,
        "removed": False,
    }


def _mask_name(sample: Sample, before: dict[str, Any]) -> str:
    if not sample.mask_digest:
        return ""
    return sample.mask.base_name if sample.mask else before["mask_name"]


def _known_samples(
    store: Store, listing: Listing, earlier: list[BatchPin]
) -> dict[str, dict[str, Any]]:
    """Return the newest row of those samples that a delivery names and that there are already."""
    said = {*listing.samples, *listing.header.remove, *listing.groups}
    samples = column(sorted(said), pa.string())
    return _newest(store, earlier, {"sample": samples}) if len(samples) else {}


def _newest(
    store: Store, batches: list[BatchPin], wanted: dict[str, pa.Array]
) -> dict[str, dict[str, Any]]:
    """Return the newest row of samples in some batches."""
    newest: dict[str, dict[str, Any]] = {}
    found = while_waiting(
        lambda pin: store.objects.find_rows(read_batch(store, pin.digest).rows, wanted), batches
    )
    for pin, rows in zip(batches, found, strict=True):
        newest |= {row["sample"]: row | {"batch": pin.id} for row in rows.to_pylist()}
    return newest


def _read_names(
    store: Store,
    listing: Listing,
    rules: GroupRules,
    known: dict[str, dict[str, Any]],
    earlier: list[BatchPin],
) -> list[Problem]:
    """Group the new samples of which the delivery says no group, or say why it cannot be done.

    Without a group they would be parts of their own, and the scores would flatter.
    """
    new = listing.images.keys() - listing.groups.keys() - known.keys()
    there: dict[str, str] = {}
    if rules.capture_sequence is not None and new:  # it may go on in this delivery
        samples = latest_rows(store, earlier, ("sample", "group"))
        there = dict(zip(*(column.to_pylist() for column in samples.columns), strict=True))
    found = groups_by_name(rules, new, there)
    listing.groups |= found
    return [
        Problem(
            listing.images[sample].name,
            f"its name does not fit the rule for groups in the dataset's description: name it "
            f"otherwise, or say its group in {GROUPS}",
        )
        for sample in sorted(new - found.keys())
    ]


def _regrouped(
    listing: Listing, known: dict[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the rows of known samples that are not delivered, but are of another part now."""
    rows, problems = [], []
    for sample in sorted(listing.groups.keys() - {*listing.samples, *listing.header.remove}):
        group, there = listing.groups[sample], known.get(sample)
        if there and not there["removed"]:
            if there["group"] != group:
                rows.append({name: there[name] for name in ROWS.names} | {"group": group})
        elif listing.regroups_only:
            problems.append(Problem(GROUPS, f"there is no sample {sample}"))
    return rows, problems


def _tombstones(
    listing: Listing, known: dict[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Problem]]:
    rows, problems = [], []
    for sample in sorted(set(listing.header.remove)):
        if sample in known and not known[sample]["removed"]:
            rows.append({name: known[sample][name] for name in ROWS.names} | {"removed": True})
        else:
            problems.append(Problem(HEADER, f"remove: there is no sample {sample}"))
    return rows, problems


def _contradictions(
    store: Store,
    listing: Listing,
    rows: list[dict[str, Any]],
    known: dict[str, dict[str, Any]],
    earlier: list[BatchPin],
) -> list[Problem]:
    """Find what cannot be true together with what is known.

    One id stands for one image for ever. One image is of one part: the same bytes under two ids
    and in two groups would be in train and in test.
    """
    problems = []
    images = column((row["image"] for row in rows), pa.string())
    seen = _newest(store, earlier, {"image": images}) if rows else {}
    # What a delivery says of a sample replaces what was known of it.
    replaced = {row["sample"] for row in rows}.union(listing.header.remove)
    part_of = {
        row["image"]: (sample, row["group"])
        for sample, row in seen.items()
        if sample not in replaced and not row["removed"]
    }
    for row in rows:
        sample, before = row["sample"], known.get(row["sample"])
        file = f"images/{row['image_name']}"
        if before and before["image"] != row["image"]:
            problems.append(
                Problem(
                    file,
                    f"{sample} is already known from {before['batch']}, with other content; "
                    "a new image needs a new name",
                )
            )
        other, group = part_of.setdefault(row["image"], (sample, row["group"]))
        if other != sample and group != row["group"]:
            problems.append(
                Problem(
                    file,
                    f"it is the same image as {other}, which is of another part: {group}, not "
                    f"{row['group']}",
                )
            )
    return problems


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    return dict(sorted(Counter(row["class"] for row in rows).items()))
