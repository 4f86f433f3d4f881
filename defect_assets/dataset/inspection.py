"""Looking into a delivery's files: every image and every mask is decoded before any is taken."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from defect_assets.dataset.delivery import (
    SAMPLES,
    DeliveryRefused,
    File,
    Listing,
    Problem,
    list_delivery,
)
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.masks import decode_mask
from defect_assets.inference.images import ImageError, decode_image
from defect_assets.store import Digest, digest_of

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 256
"""Samples that are inspected by one task."""

Known = Mapping[str, Mapping[str, Any]]
"""The newest row of each sample that is in the store already; see `samples.ROWS`."""


@dataclass(frozen=True)
class Sample:
    """One image with its mask, found sound."""

    sample: str
    class_name: str
    group: str
    """Empty where the delivery does not say it."""
    exposure: str
    """Empty where the delivery does not say it."""
    image: File | None
    """None where only the mask is delivered."""
    mask: File | None
    image_digest: Digest
    image_bytes: int
    mask_digest: Digest
    """Empty where there is no mask."""
    mask_bytes: int
    height: int
    width: int
    channels: int


@dataclass(frozen=True)
class Inspected:
    """What became of one sample."""

    result: Sample | Problem
    files: tuple[tuple[Digest, bytes], ...] = ()
    """The content of its files."""


@dataclass(frozen=True)
class Delivery:
    """A delivery in which nothing is wrong."""

    name: str
    notes: str
    samples: list[Sample]


def read_delivery(folder: Path, description: DatasetDescription) -> Delivery:
    """Read and check a delivery that does not refer to known samples; change nothing.

    Raises
    ------
    DeliveryRefused
        If anything is wrong, with all that is.
    """
    listing = list_delivery(folder)
    results = [i.result for some in inspect(listing, description, {}) for i in some]
    problems = [*listing.problems, *(r for r in results if isinstance(r, Problem))]
    if problems:
        raise DeliveryRefused(folder.name, problems)
    return Delivery(
        folder.name, listing.header.notes, [r for r in results if isinstance(r, Sample)]
    )


def inspect(
    listing: Listing, description: DatasetDescription, known: Known
) -> Iterator[list[Inspected]]:
    """Read and check the files of a delivery; yield them sample by sample, some at a time.

    Parameters
    ----------
    listing
        The delivery.
    description
        What its images may show and how its masks are read.
    known
        What is known of its samples already.
    """
    samples = listing.samples
    chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]

    def look(chunk: list[str]) -> list[Inspected]:
        return [_inspect(sample, listing, description, known.get(sample)) for sample in chunk]

    return _in_order(look, chunks)


def _in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield a function's results in the order of the items, computed a few ahead in threads."""
    rest = iter(items)
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: list[Future[Result]] = [pool.submit(function, i) for i in islice(rest, workers + 1)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(function, item) for item in islice(rest, 1)]


def _inspect(
    sample: str,
    listing: Listing,
    description: DatasetDescription,
    known: Mapping[str, Any] | None,
) -> Inspected:
    image, mask = listing.images.get(sample), listing.masks.get(sample)
    row = listing.rows.get(sample, {})
    if image is None and (known is None or known["removed"]):
        assert mask is not None
        return _wrong(mask, f"a mask without an image, and there is no sample {sample} yet")
    try:
        image_data = image.read() if image else None
        mask_data = mask.read() if mask else None
    except OSError as error:
        file = image or mask
        assert file is not None
        return _wrong(file, f"it cannot be read: {error.strerror}")
    image_digest = digest_of(image_data) if image_data is not None else ""
    if known and (image_data is None or image_digest == known["image"]):
        # It was looked at when it came.
        image_digest, image_bytes = known["image"], known["image_bytes"]
        height, width, channels = known["height"], known["width"], known["channels"]
    else:
        assert image is not None
        assert image_data is not None
        try:
            pixels = decode_image(image_data)
        except ImageError as error:
            return _wrong(image, str(error))
        image_bytes = len(image_data)
        height, width = pixels.shape[:2]
        channels = 1 if pixels.ndim == 2 else 3

    said = _class_said(sample, row, image, listing)
    if isinstance(said, Problem):
        return Inspected(said)
    if known and mask is None and not said:
        # Nothing new is said of its label.
        class_name, mask_digest, mask_bytes = known["class"], known["mask"], known["mask_bytes"]
    else:
        if known and description.masks == "soft":
            said = said or known["class"]
        try:
            class_name = _check_label(mask_data, said, (height, width), description)
        except ImageError as error:
            file = mask or image
            assert file is not None
            return _wrong(file, str(error))
        mask_digest = digest_of(mask_data) if mask_data is not None else ""
        mask_bytes = len(mask_data or b"")
    files = [
        (digest, data)
        for digest, data in ((image_digest, image_data), (mask_digest, mask_data))
        if data is not None
    ]
    return Inspected(
        Sample(
            sample=sample,
            class_name=class_name,
            group=row.get("group") or listing.header.groups.get(sample, ""),
            exposure=row.get("exposure", ""),
            image=image,
            mask=mask,
            image_digest=image_digest,
            image_bytes=image_bytes,
            mask_digest=mask_digest,
            mask_bytes=mask_bytes,
            height=height,
            width=width,
            channels=channels,
        ),
        tuple(files),
    )


def _class_said(
    sample: str, row: Mapping[str, str], image: File | None, listing: Listing
) -> str | Problem:
    """Return the class that a table or a folder says, or nothing."""
    by_table = row.get("class", "")
    by_folder = ""
    if image and image.folder:
        by_folder = listing.header.classes.get(image.folder, image.folder)
    if by_table and by_folder and by_table != by_folder:
        return Problem(
            SAMPLES, f"{sample} is {by_table} by the table and {by_folder} by its folder"
        )
    return by_table or by_folder


def _check_label(
    mask: bytes | None, said: str, size: tuple[int, int], description: DatasetDescription
) -> str:
    """Return an image's class: the one that is said, or that of most of its defective pixels.

    Raises
    ------
    ImageError
        If class and mask contradict each other, or the mask cannot be read.
    """
    if said and said not in description.class_ids:
        known = ", ".join(description.class_ids)
        raise ImageError(f"its class {said!r} is not in the class map ({known})")
    if mask is None and said not in ("", description.defect_free):
        raise ImageError(f"its class is {said}, but it has no mask")
    assumed = said or (description.classes[0].name if len(description.classes) == 1 else "")
    if description.masks == "soft" and mask is not None and not assumed:
        raise ImageError(f"{SAMPLES} gives no class for it, and there is more than one")
    ids = decode_mask(mask, assumed or description.defect_free, size, description)
    if said == description.defect_free and ids.any():
        raise ImageError(f"its class is {said}, but its mask is not empty")
    if said:
        return said
    found = Counter(ids[ids > 0].tolist())
    return description.class_map[found.most_common(1)[0][0]] if found else description.defect_free


def _wrong(file: File, reason: str) -> Inspected:
    return Inspected(Problem(file.name, reason))
