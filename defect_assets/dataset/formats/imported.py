"""From annotated images to delivered samples, whatever tool annotated them."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from defect_assets.dataset.delivery import IMAGE_SUFFIXES, DeliveredSample
from defect_assets.dataset.description import DatasetDescription, DefectClass, class_color
from defect_assets.dataset.formats.areas import AreaError, Size
from defect_assets.errors import UserError
from defect_assets.inference.images import ImageError, decode_image, encode_png
from defect_assets.settings import explain

_CONTROL = re.compile(r"[\x00-\x1f]")
Model = TypeVar("Model", bound=BaseModel)


class FormatError(UserError):
    """Annotations that cannot be taken, or samples that a format cannot hold.

    The message names the file and says what is wrong with it.
    """


@dataclass(frozen=True)
class Area:
    """One labelled area of an image."""

    name: str
    """Where to find it, for messages, e.g. ``annotation 17``."""
    label: str
    """Its class's name."""
    fill: Callable[[Size], np.ndarray]
    """Gives bool (H, W) for the image's size; raises `AreaError`."""


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and what is said of it."""

    name: str
    """Its file name, relative to the folder of the images."""
    read: Callable[[], bytes]
    areas: Sequence[Area]
    """In the order of painting: where two overlap, the later one wins."""
    size: Size | None
    """As the annotation says it, if it does."""
    group: str = ""
    exposure: str = ""


@dataclass(frozen=True)
class Imported:
    """What was found in annotations."""

    description: DatasetDescription
    count: int
    """Number of samples."""
    samples: Iterator[DeliveredSample]
    """Read, and their sizes and areas checked, one by one: raises `FormatError`."""
    left_out: tuple[str, ...] = ()
    """Images that nobody has labelled, which is not to say that they show no defect."""


def imported(
    source: Path,
    images: Sequence[AnnotatedImage],
    classes: Sequence[str],
    dataset: str,
    known: DatasetDescription | None,
    left_out: Sequence[str] = (),
) -> Imported:
    """Make samples of annotated images.

    Parameters
    ----------
    source
        What is imported, for messages.
    images
        All of them.
    classes
        Names of the classes, in the order of their ids.
    dataset
        What the images show.
    known
        The dataset that they join; None where they begin one.
    left_out
        Names of the images that nobody has labelled.

    Raises
    ------
    FormatError
        If there is no image, two would be one sample, or a class is unknown or cannot be one.
    """
    if not images:
        raise FormatError(f"{source} holds no labelled image")
    description = known or _describe(source, classes, dataset)
    seen: dict[str, str] = {}
    for image in images:
        stem = Path(image.name).stem
        if stem in seen:
            raise FormatError(
                f"{source}: {seen[stem]} and {image.name} would both be the sample {stem}; "
                "each image once, and stems must differ"
            )
        seen[stem] = image.name
        for area in image.areas:
            if area.label not in description.class_map.values():
                raise FormatError(
                    f"{source}: {area.name} of {image.name} is labelled {area.label!r}, which is "
                    f"none of the classes {', '.join(description.class_map.values())}"
                )
    samples = (_sample(source, image, description) for image in images)
    return Imported(description, len(images), samples, tuple(left_out))


def image_file(source: Path, images: Path, name: str) -> Path:
    """Return the path of an image by its name, which may have folders before it.

    Parameters
    ----------
    source
        What names it, for messages.
    images
        The folder in which it must lie.
    name
        Relative to that folder; ``/`` and ``\\`` both part folders, as tools run anywhere.

    Raises
    ------
    FormatError
        If the name leaves the folder, is a link, or no image file by its name, or there is none.
    """
    parts = PureWindowsPath(name).parts
    if PureWindowsPath(name).anchor or ".." in parts or not parts or _CONTROL.search(name):
        raise FormatError(f"{source} names an image {name!r}, which leaves the folder {images}")
    path = images.joinpath(*parts)
    if any(p.is_symlink() for p in (path, *path.parents[: len(parts) - 1])):
        raise FormatError(f"{source} names the image {name}, but {path} is a link, not a file")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise FormatError(f"{source} names an image {name}, no image file by its name")
    if not path.is_file():
        raise FormatError(f"{source} names the image {name}, but {images} does not hold it")
    return path


def read_json(path: Path, model: type[Model], of: str) -> Model:
    """Read a JSON file.

    Parameters
    ----------
    path
        The file.
    model
        What it must hold.
    of
        What that is, for messages, e.g. ``COCO annotations``.

    Raises
    ------
    FormatError
        If it cannot be read or holds something else.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        raise FormatError(f"{path} holds no {of}: {explain_briefly(error)}") from error


def explain_briefly(error: ValidationError) -> str:
    """Say what is wrong, the first three things of possibly thousands."""
    lines = explain(error).split("; ")
    return "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")


def _describe(source: Path, classes: Sequence[str], dataset: str) -> DatasetDescription:
    try:
        return DatasetDescription(
            name=dataset,
            classes=tuple(
                DefectClass(id=i, name=name, color=class_color(i, len(classes)))
                for i, name in enumerate(classes, start=1)
            ),
            defect_free="defect-free",
            masks="indexed",
        )
    except ValidationError as error:
        raise FormatError(f"{dataset} with the classes of {source}: {explain(error)}") from error


def _sample(
    source: Path, image: AnnotatedImage, description: DatasetDescription
) -> DeliveredSample:
    data = image.read()
    try:
        height, width = decode_image(data).shape[:2]
    except ImageError as error:
        raise FormatError(f"{source}: {image.name}: {error}") from error
    if image.size not in (None, (height, width)):
        said_height, said_width = image.size
        raise FormatError(
            f"{source} says that {image.name} is {said_width} × {said_height} pixels, "
            f"but it is {width} × {height}: it was labelled on another version of the image"
        )
    mask = np.zeros((height, width), np.uint8)
    for area in image.areas:
        try:
            mask[area.fill((height, width))] = description.class_ids[area.label]
        except AreaError as error:
            raise FormatError(f"{source}: {area.name} of {image.name}: {error}") from error
    class_name, values = _delivered_mask(source, image.name, mask, description)
    return DeliveredSample(
        sample=Path(image.name).stem,
        class_name=class_name,
        group=image.group,
        exposure=image.exposure,
        image=data,
        image_suffix=Path(image.name).suffix,
        mask=None if values is None else encode_png(values),
    )


def _delivered_mask(
    source: Path, name: str, mask: np.ndarray, description: DatasetDescription
) -> tuple[str, np.ndarray | None]:
    """Return the class and the mask of an image as a delivery of this dataset says them."""
    found = np.unique(mask[mask > 0]).tolist()
    if not found:
        return description.defect_free, None
    if description.masks == "soft":
        if len(found) > 1:
            names = ", ".join(description.class_map[i] for i in found)
            raise FormatError(
                f"{source}: {name} shows {names}, but masks of {description.name} are soft, one "
                "class an image; relabel it, or begin a dataset of its own"
            )
        return description.class_map[found[0]], np.where(mask > 0, 255, 0).astype(np.uint8)
    values = np.zeros(256, np.uint8)
    for defect_class in description.classes:
        values[defect_class.id] = defect_class.value or defect_class.id
    return "", values[mask]
