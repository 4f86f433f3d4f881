"""LabelMe's JSON files, one beside each image.

https://github.com/wkentaro/labelme; areas are filled as its ``shape_to_mask`` does, with Pillow.
"""

import base64
import binascii
import io
import math
import posixpath
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image, ImageDraw
from pydantic import BaseModel, Field, FiniteFloat

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats.areas import AreaError, Size, check_near, not_empty, placed
from defect_assets.dataset.formats.imported import (
    AnnotatedImage,
    Area,
    FormatError,
    Imported,
    image_file,
    imported,
    read_json,
)
from defect_assets.inference.images import FORMATS, ImageError, decode_image

_POINTS = {"polygon": None, "rectangle": 2, "circle": 2, "oriented_rectangle": 4, "mask": 2}
"""Shapes with an area, and how many points they have."""


class _Shape(BaseModel):
    label: str
    points: list[tuple[FiniteFloat, FiniteFloat]]
    shape_type: str = "polygon"
    mask: str | None = None

    def fill(self, size: Size) -> np.ndarray:
        needed = _POINTS[self.shape_type]
        if len(self.points) < 3 if needed is None else len(self.points) != needed:
            raise AreaError(
                f"a {self.shape_type} needs {needed or 'three'} points, it has {len(self.points)}"
            )
        check_near(self.points, size)
        if self.shape_type == "mask":
            return self._fill_mask(size)
        canvas = Image.new("L", (size[1], size[0]))
        draw = ImageDraw.Draw(canvas)
        if self.shape_type == "circle":
            (x, y), edge = self.points
            radius = math.dist((x, y), edge)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
        elif self.shape_type == "rectangle":
            (x0, x1), (y0, y1) = (sorted(c) for c in zip(*self.points, strict=True))
            draw.rectangle((x0, y0, x1, y1), outline=1, fill=1)
        else:
            draw.polygon(self.points, outline=1, fill=1)
        return not_empty(np.asarray(canvas, bool))

    def _fill_mask(self, size: Size) -> np.ndarray:
        if self.mask is None:
            raise AreaError("it is of type mask, but has none")
        try:
            part = decode_image(_from_base64(self.mask))
        except ImageError as error:
            raise AreaError(f"its mask: {error}") from error
        part = part if part.ndim == 2 else part.max(axis=2)
        # The corner points are of the first and the last pixel.
        (left, top), (right, bottom) = ((int(x), int(y)) for x, y in self.points)
        if part.shape != (bottom - top + 1, right - left + 1):
            raise AreaError(
                f"its mask is {part.shape[1]} × {part.shape[0]}, "
                f"its box {right - left + 1} × {bottom - top + 1}"
            )
        return placed(part > 0, left, top, size)


class _LabelFile(BaseModel):
    shapes: list[_Shape]
    image_path: str = Field(alias="imagePath")
    image_data: str | None = Field(default=None, alias="imageData")
    image_height: int | None = Field(default=None, alias="imageHeight")
    image_width: int | None = Field(default=None, alias="imageWidth")


def read_labelme(folder: Path, dataset: str, known: DatasetDescription | None = None) -> Imported:
    """Read polygons, rectangles, circles and masks of all JSON files in a folder and those in it.

    Where areas overlap, the later one wins. A file without a shape says that its image shows no
    defect; an image without a file is not taken. The image is that of ``imagePath``, relative to
    its JSON file, if it is in the folder, since ``imageData`` may be a compressed copy; else
    that of ``imageData``.

    Parameters
    ----------
    folder
        Holds the JSON files and the images.
    dataset
        What the images show. Its classes are the labels, sorted: the files do not say their order.
    known
        The dataset that they join; None where they begin one.

    Raises
    ------
    FormatError
        If there is no JSON file, one is not LabelMe's, has shapes without an area, or names an
        image that is not there.
    """
    files = sorted(folder.rglob("*.json"))
    annotated = [_read(path, folder) for path in files]
    labels = sorted({area.label for image in annotated for area in image.areas})
    return imported(folder, annotated, labels, dataset, known)


def _read(path: Path, folder: Path) -> AnnotatedImage:
    label_file = read_json(path, _LabelFile, "LabelMe annotations")
    for number, shape in enumerate(label_file.shapes, start=1):
        if shape.shape_type not in _POINTS:
            raise FormatError(
                f"{path}: shape {number} is a {shape.shape_type}, which marks no area; only "
                f"{', '.join(_POINTS)} do: delete it in LabelMe"
            )
    name, read = _image(path, folder, label_file)
    height, width = label_file.image_height, label_file.image_width
    return AnnotatedImage(
        name=name,
        read=read,
        areas=[
            Area(f"shape {number} in {path.name}", shape.label, shape.fill)
            for number, shape in enumerate(label_file.shapes, start=1)
        ],
        size=(height, width) if height and width else None,
    )


def _image(path: Path, folder: Path, label_file: _LabelFile) -> tuple[str, Callable[[], bytes]]:
    """Return the name of the image and how to read it."""
    name = label_file.image_path
    if not PureWindowsPath(name).anchor:
        # Relative to the JSON file, so that it may go up and down again inside of the folder.
        beside = path.parent.relative_to(folder).as_posix()
        name = posixpath.normpath(posixpath.join(beside, PureWindowsPath(name).as_posix()))
    inside = not PureWindowsPath(name).anchor and not name.startswith("../")
    if inside and label_file.image_data is not None and not (folder / name).exists():
        return _embedded(path, name, label_file.image_data)
    image = image_file(path, folder, name)
    return name, image.read_bytes


def _embedded(path: Path, name: str, image_data: str) -> tuple[str, Callable[[], bytes]]:
    """Return the name of the image that is in the file itself, and how to read it.

    LabelMe embeds a PNG or JPEG of what is neither, so that the name's end may be another's.
    """
    try:
        data = _from_base64(image_data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            kind = str(image.format)
    except (AreaError, OSError) as error:
        raise FormatError(f"{path}: its imageData is no image") from error
    stem, suffix = posixpath.splitext(name)
    if Image.registered_extensions().get(suffix.lower()) != kind:
        suffix = f".{kind.lower()}"
    return stem + suffix, lambda: data


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AreaError("it is not base64") from None
