"""Label Studio's JSON export.

Described at https://labelstud.io/guide/export and, tag by tag, at https://labelstud.io/tags/.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, RootModel, ValidationError

from defect_assets.dataset.delivery import IMAGE_SUFFIXES
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats.areas import (
    AreaError,
    Size,
    box_corners,
    fill_ellipse,
    fill_polygon,
)
from defect_assets.dataset.formats.imported import (
    AnnotatedImage,
    Area,
    FormatError,
    Imported,
    explain_briefly,
    image_file,
    imported,
    read_json,
)

_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")
_NO_AREA = ("choices", "textarea", "rating", "number", "datetime", "taxonomy", "relation")
"""What an annotator says besides areas; it has no place in a mask."""


class _Result(BaseModel):
    type: str
    id: str = ""
    original_width: int | None = Field(default=None, ge=1)
    original_height: int | None = Field(default=None, ge=1)
    image_rotation: FiniteFloat = 0
    value: dict[str, Any] = {}


class _Annotation(BaseModel):
    result: list[_Result]
    was_cancelled: bool = False
    ground_truth: bool = False


class _Task(BaseModel):
    id: int
    data: dict[str, Any]
    annotations: list[_Annotation]


class _Tasks(RootModel[list[_Task]]):
    pass


# Coordinates and lengths are percentages of the image's width and height.


class _Polygon(BaseModel):
    points: list[tuple[FiniteFloat, FiniteFloat]]

    def fill(self, size: Size) -> np.ndarray:
        return fill_polygon([(x / 100 * size[1], y / 100 * size[0]) for x, y in self.points], size)


class _Rectangle(BaseModel):
    x: FiniteFloat
    y: FiniteFloat
    width: FiniteFloat
    height: FiniteFloat
    rotation: FiniteFloat = 0

    def fill(self, size: Size) -> np.ndarray:
        left, top = self.x / 100 * size[1], self.y / 100 * size[0]
        right, bottom = left + self.width / 100 * size[1], top + self.height / 100 * size[0]
        corners = box_corners((left, top, right, bottom), self.rotation, (left, top))
        return fill_polygon(corners, size)


class _Ellipse(BaseModel):
    # The documentation calls x and y a corner; the editor draws, and so means, the centre.
    x: FiniteFloat
    y: FiniteFloat
    radius_x: FiniteFloat = Field(alias="radiusX")
    radius_y: FiniteFloat = Field(alias="radiusY")
    rotation: FiniteFloat = 0

    def fill(self, size: Size) -> np.ndarray:
        height, width = size
        return fill_ellipse(
            (self.x / 100 * width, self.y / 100 * height),
            (self.radius_x / 100 * width, self.radius_y / 100 * height),
            self.rotation,
            size,
        )


class _Brush(BaseModel):
    format: Literal["rle"]
    rle: list[Annotated[int, Field(ge=0, le=255)]]

    def fill(self, size: Size) -> np.ndarray:
        return decode_brush(self.rle, size)


_SHAPES: dict[str, type[_Polygon | _Rectangle | _Ellipse | _Brush]] = {
    "polygonlabels": _Polygon,
    "rectanglelabels": _Rectangle,
    "ellipselabels": _Ellipse,
    "brushlabels": _Brush,
}


def read_label_studio(
    export: Path, images: Path, dataset: str, known: DatasetDescription | None = None
) -> Imported:
    """Read brushes, polygons, rectangles and ellipses of a JSON export.

    Where areas overlap, the later one wins. An image whose annotation was submitted empty shows no
    defect; one without an annotation, or with a skipped one, is left out. Of several annotations
    the one that is marked as ground truth is taken.

    Images are found by their file names, wherever Label Studio has them. Where the eight
    characters that an upload has put before a name are not in the folder's, they are dropped.

    Parameters
    ----------
    export
        The JSON file (not JSON-MIN).
    images
        The folder that holds the images.
    dataset
        What the images show. Its classes are the labels, sorted: the export does not say their
        order.
    known
        The dataset that they join; None where they begin one.

    Raises
    ------
    FormatError
        If the file is not Label Studio's, has labels without an area, does not say which of
        several annotations counts, or names images that are not there.
    """
    annotated, left_out = [], []
    for task in read_json(export, _Tasks, "Label Studio tasks (export them as JSON)").root:
        name = _image_name(export, task)
        annotation = _annotation(export, task)
        if annotation is None:
            left_out.append(name)
            continue
        path = _find(export, images, name)
        areas, size = _areas(export, path.name, annotation)
        annotated.append(AnnotatedImage(path.name, path.read_bytes, areas, size))
    labels = sorted({area.label for image in annotated for area in image.areas})
    return imported(export, annotated, labels, dataset, known, left_out)


def _image_name(export: Path, task: _Task) -> str:
    """Return the file name of a task's image, without the folders of another machine."""
    names = {}
    for key, value in task.data.items():
        try:
            address = urlsplit(value if isinstance(value, str) else "")
        except ValueError:
            continue
        # /data/local-files/?d=folder/name.jpg, or the name at the end of any other address.
        local = address.query.startswith("d=")
        path = PurePosixPath(unquote(address.query[2:] if local else address.path))
        if path.suffix.lower() in IMAGE_SUFFIXES:
            names[key] = path.name
    if "image" in names:
        return names["image"]
    if len(names) != 1:
        raise FormatError(
            f"{export}: the data of task {task.id} name {len(names)} images, not one; where there "
            "are several, call the labelled one 'image'"
        )
    return names.popitem()[1]


def _annotation(export: Path, task: _Task) -> _Annotation | None:
    submitted = [a for a in task.annotations if not a.was_cancelled]
    chosen = [a for a in submitted if a.ground_truth] if len(submitted) > 1 else submitted
    if len(chosen) > 1 or (submitted and not chosen):
        raise FormatError(
            f"{export}: task {task.id} has {len(submitted)} annotations: mark one of them as "
            "ground truth in Label Studio"
        )
    return chosen[0] if chosen else None


def _find(export: Path, images: Path, name: str) -> Path:
    original = _UPLOAD_PREFIX.sub("", name, count=1) if _UPLOAD_PREFIX.match(name) else name
    if not (images / name).exists() and (images / original).exists():
        name = original
    return image_file(export, images, name)


def _areas(export: Path, image: str, annotation: _Annotation) -> tuple[list[Area], Size | None]:
    areas = []
    size: Size | None = None
    for number, result in enumerate(annotation.result, start=1):
        if result.type in _NO_AREA:
            continue
        name = f"region {result.id or number}"
        if result.type not in _SHAPES:
            raise FormatError(
                f"{export}: {name} of {image} is of type {result.type}, which marks no area; only "
                f"{', '.join(_SHAPES)} do: delete it in Label Studio"
            )
        if result.image_rotation:
            raise FormatError(
                f"{export}: {name} of {image} was labelled on the image turned by "
                f"{result.image_rotation:g}°: turn it upright in Label Studio"
            )
        labels = result.value.get(result.type)
        if not isinstance(labels, list) or len(labels) != 1:
            raise FormatError(f"{export}: {name} of {image} must have one label, it has {labels}")
        try:
            shape = _SHAPES[result.type].model_validate(result.value)
        except ValidationError as error:
            raise FormatError(f"{export}: {name} of {image}: {explain_briefly(error)}") from error
        if result.original_width and result.original_height:
            said = (result.original_height, result.original_width)
            if size not in (None, said):
                raise FormatError(f"{export}: the regions of {image} are of images of two sizes")
            size = said
        areas.append(Area(name, str(labels[0]), shape.fill))
    return areas, size


def decode_brush(data: Sequence[int], size: Size) -> np.ndarray:
    """Decode the run lengths of Label Studio's brush.

    They are of the packing ``rle-pack`` by K. Schmidt (https://thi.ng/rle-pack), of the bytes of
    an RGBA image; what is painted is not transparent. Bits follow each other, the highest first:
    the number of values (32 bits), the bits a value less one (5), four widths less one (4 each);
    then, in turns, whether one value is repeated (1), which width (2), how many values less one
    (of that width), and the value, or all values.

    Parameters
    ----------
    data
        The bytes.
    size
        The image's.

    Raises
    ------
    AreaError
        If they are of another size, or damaged.
    """
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def number(width: int) -> int:
        nonlocal place
        place += width
        if place > len(bits):
            raise AreaError("its brush is cut short: export it again")
        return int(bits[place - width : place], 2)

    count = number(32)
    if count != size[0] * size[1] * 4:
        raise AreaError(f"its brush has {count} values, not 4 for each of {size[1]} × {size[0]}")
    value_width = number(5) + 1
    widths = [number(4) + 1 for _ in range(4)]
    values: list[int] = []
    lengths: list[int] = []
    filled = 0
    while filled < count:
        repeated = number(1)
        length = number(widths[number(2)]) + 1
        if repeated:
            values.append(number(value_width))
            lengths.append(length)
        else:
            values += [number(value_width) for _ in range(length)]
            lengths += [1] * length
        filled += length
    if filled > count:
        raise AreaError("its brush is damaged: export it again")
    painted = np.repeat(np.array(values) > 0, lengths)
    return painted.reshape(*size, 4)[..., 3]
