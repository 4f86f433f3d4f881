"""Looking into a delivery's files: every image and every mask is decoded before any is taken."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from defect_assets.spreading import Spread, in_threads
from defect_assets.store import Digest, digest_of

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
    listing: Listing, description: DatasetDescription, known: Known, spread: Spread = in_threads
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
    spread
        Divides the work.
    """
    samples = listing.samples
    chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
    return spread(partial(_inspect_some, listing, description, known), chunks)


def _inspect_some(
    listing: Listing, description: DatasetDescription, known: Known, samples: list[str]
) -> list[Inspected]:
    return [_inspect(sample, listing, description, known.get(sample)) for sample in samples]


def _inspect(
    sample: str,
    listing: Listing,
    description: DatasetDescription,
    known: Mapping[str, Any] | None,
) -> Inspected:
    image, mask = listing.images.get(sample), listing.masks.get(sample)
    row = listing.rows.get(sample, {})
    try:
        picture = _look_at_image(sample, image, mask, known)
        said = _class_said(sample, row, image, listing)
        label = _look_at_label(
            said, image, mask, (picture.height, picture.width), description, known
        )
    except _Wrong as wrong:
        return Inspected(wrong.problem)
    found = Sample(
        sample=sample,
        class_name=label.class_name,
        group=listing.groups.get(sample, ""),
        exposure=row.get("exposure", ""),
        image=image,
        mask=mask,
        image_digest=picture.digest,
        image_bytes=picture.size,
        mask_digest=label.digest,
        mask_bytes=label.size,
        height=picture.height,
        width=picture.width,
        channels=picture.channels,
    )
    files = [(of.digest, of.data) for of in (picture, label) if of.data is not None]
    return Inspected(found, tuple(files))


class _Wrong(Exception):
    """One thing that is wrong with a sample."""

    def __init__(self, file: str, reason: str) -> None:
        self.problem = Problem(file, reason)
        super().__init__(reason)


class _Picture(NamedTuple):
    """An image, found sound."""

    digest: Digest
    size: int
    height: int
    width: int
    channels: int
    data: bytes | None
    """None where nothing is delivered."""


class _Label(NamedTuple):
    """A class with its mask, found sound."""

    class_name: str
    digest: Digest
    size: int
    data: bytes | None
    """None where nothing is delivered."""


def _look_at_image(
    sample: str, image: File | None, mask: File | None, known: Mapping[str, Any] | None
) -> _Picture:
    data = _read(image) if image else None
    digest = digest_of(data) if data is not None else ""
    if known and not (image is None and known["removed"]) and digest in ("", known["image"]):
        # It was looked at when it came.
        return _Picture(
            known["image"],
            known["image_bytes"],
            known["height"],
            known["width"],
            known["channels"],
            data,
        )
    if image is None or data is None:
        assert mask is not None
        raise _Wrong(mask.name, f"a mask without an image, and there is no sample {sample} yet")
    try:
        pixels = decode_image(data)
    except ImageError as error:
        raise _Wrong(image.name, str(error)) from error
    height, width = pixels.shape[:2]
    return _Picture(digest, len(data), height, width, 1 if pixels.ndim == 2 else 3, data)


def _look_at_label(
    said: str,
    image: File | None,
    mask: File | None,
    size: tuple[int, int],
    description: DatasetDescription,
    known: Mapping[str, Any] | None,
) -> _Label:
    if known and mask is None and said in ("", known["class"]):
        return _Label(known["class"], known["mask"], known["mask_bytes"], None)  # nothing new
    if known and description.masks == "soft":
        said = said or known["class"]
    data = _read(mask) if mask else None
    try:
        class_name = _check_label(data, said, size, description)
    except ImageError as error:
        file = mask or image
        assert file is not None
        raise _Wrong(file.name, str(error)) from error
    return _Label(class_name, digest_of(data) if data is not None else "", len(data or b""), data)


def _read(file: File) -> bytes:
    try:
        return file.read()
    except OSError as error:
        raise _Wrong(file.name, f"it cannot be read: {error.strerror}") from error


def _class_said(sample: str, row: Mapping[str, str], image: File | None, listing: Listing) -> str:
    """Return the class that a table or a folder says, or nothing."""
    by_table = row.get("class", "")
    by_folder = ""
    if image and image.folder:
        by_folder = listing.header.classes.get(image.folder, image.folder)
    if by_table and by_folder and by_table != by_folder:
        raise _Wrong(SAMPLES, f"{sample} is {by_table} by the table, {by_folder} by its folder")
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
