"""CVAT for images 1.1.

Described at https://docs.cvat.ai/docs/manual/advanced/xml_format/.
"""

import operator
from abc import abstractmethod
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats.areas import (
    AreaError,
    Size,
    box_corners,
    fill_ellipse,
    fill_polygon,
    fill_runs,
    placed,
)
from defect_assets.dataset.formats.imported import (
    AnnotatedImage,
    Area,
    FormatError,
    Imported,
    Model,
    explain_briefly,
    image_file,
    imported,
)

_NO_AREA = ("tag", "points", "polyline", "skeleton", "cuboid")
"""Types of labels that can mark no area, and so are no class of defects."""


class _Image(BaseModel):
    name: str
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class _Shape(BaseModel):
    label: str
    z_order: int = 0

    @abstractmethod
    def fill(self, size: Size) -> np.ndarray: ...


class _Polygon(_Shape):
    points: str

    def fill(self, size: Size) -> np.ndarray:
        try:
            pairs = [tuple(map(float, pair.split(","))) for pair in self.points.split(";")]
            points = [(x, y) for x, y in pairs]
        except ValueError:
            raise AreaError(f"its points are not x,y;x,y;… but {self.points[:40]!r}") from None
        return fill_polygon(points, size)


class _Box(_Shape):
    xtl: FiniteFloat
    ytl: FiniteFloat
    xbr: FiniteFloat
    ybr: FiniteFloat
    rotation: FiniteFloat = 0

    def fill(self, size: Size) -> np.ndarray:
        center = ((self.xtl + self.xbr) / 2, (self.ytl + self.ybr) / 2)
        box = (self.xtl, self.ytl, self.xbr, self.ybr)
        return fill_polygon(box_corners(box, self.rotation, center), size)


class _Ellipse(_Shape):
    cx: FiniteFloat
    cy: FiniteFloat
    rx: FiniteFloat
    ry: FiniteFloat
    rotation: FiniteFloat = 0

    def fill(self, size: Size) -> np.ndarray:
        return fill_ellipse((self.cx, self.cy), (self.rx, self.ry), self.rotation, size)


class _Mask(_Shape):
    rle: str
    left: int
    top: int
    width: int = Field(ge=1)
    height: int = Field(ge=1)

    def fill(self, size: Size) -> np.ndarray:
        try:
            runs = [int(run) for run in self.rle.split(",")]
        except ValueError:
            raise AreaError(f"its rle is not n, n, … but {self.rle[:40]!r}") from None
        return placed(fill_runs(runs, (self.height, self.width)), self.left, self.top, size)


_SHAPES: dict[str, type[_Shape]] = {
    "polygon": _Polygon,
    "box": _Box,
    "ellipse": _Ellipse,
    "mask": _Mask,
}


def read_cvat(
    annotations: Path, images: Path, dataset: str, known: DatasetDescription | None = None
) -> Imported:
    """Read polygons, boxes, ellipses and masks of "CVAT for images 1.1".

    Where areas overlap, that of the higher ``z_order`` wins, and of equal ones the later. An image
    without a shape shows no defect. Tags, which mark no area, are passed over.

    Parameters
    ----------
    annotations
        The file ``annotations.xml``.
    images
        The folder that the names in it are relative to.
    dataset
        What the images show. Its classes are the labels in the order of the file.
    known
        The dataset that they join; None where they begin one.

    Raises
    ------
    FormatError
        If the file is not CVAT's, has shapes without an area, or names images that are not there.
    """
    try:
        root = ElementTree.parse(annotations).getroot()
    except OSError as error:
        raise FormatError(f"{annotations}: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise FormatError(f"{annotations} is not XML: {error}") from error
    if root.tag != "annotations" or root.find("track") is not None:
        raise FormatError(f'{annotations} is not "CVAT for images 1.1": export the task as that')
    annotated = []
    for element in root.iterfind("image"):
        image = _read(_Image, element, annotations, "an image")
        path = image_file(annotations, images, image.name)
        shapes = []
        for number, child in enumerate(element, start=1):
            name = f"the {child.tag} at place {number}"
            if child.tag in _SHAPES:
                shape = _read(_SHAPES[child.tag], child, annotations, f"{name} of {image.name}")
                shapes.append((shape.z_order, Area(name, shape.label, shape.fill)))
            elif child.tag != "tag":
                raise FormatError(
                    f"{annotations}: {name} of {image.name} marks no area; only "
                    f"{', '.join(_SHAPES)} do: delete it in CVAT"
                )
        shapes.sort(key=operator.itemgetter(0))
        areas = [area for _, area in shapes]
        size = (image.height, image.width)
        annotated.append(AnnotatedImage(image.name, path.read_bytes, areas, size))
    # A file without its labels has at least those of its shapes.
    labels = _labels(root) or sorted({area.label for image in annotated for area in image.areas})
    return imported(annotations, annotated, labels, dataset, known)


def _labels(root: ElementTree.Element) -> list[str]:
    """Return the names of the labels that may mark an area, each once."""
    names = [
        label.findtext("name", "").strip()
        for label in root.iterfind("meta//labels/label")
        if label.findtext("type") not in _NO_AREA and label.find("parent") is None
    ]
    return list(dict.fromkeys(names))


def _read(model: type[Model], element: ElementTree.Element, source: Path, what: str) -> Model:
    try:
        return model.model_validate(element.attrib)
    except ValidationError as error:
        raise FormatError(f"{source}: {what}: {explain_briefly(error)}") from error
