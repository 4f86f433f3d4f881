"""COCO instance annotations.

T.-Y. Lin et al.: Microsoft COCO: Common Objects in Context. ECCV 2014; the file's format is
described at https://cocodataset.org/#format-data, and its masks by pycocotools.
"""

import json
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks
from pydantic import BaseModel, Field, FiniteFloat

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats.areas import AreaError, Size, fill_polygon, fill_runs
from defect_assets.dataset.formats.imported import (
    AnnotatedImage,
    Area,
    FormatError,
    Imported,
    image_file,
    imported,
    read_json,
)
from defect_assets.dataset.formats.regions import regions
from defect_assets.dataset.formats.sample import ExportedSample
from defect_assets.dataset.formats.written import whole_folder, write_new

# Each number is up to six characters that say "more follows" and one that does not.
_COMPRESSED = re.compile(r"(?:[P-o]{0,6}[0-O])*")


class _Image(BaseModel):
    id: int
    file_name: str
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    group: str = ""
    exposure: str = ""


class _Category(BaseModel):
    id: int
    name: str


class _Runs(BaseModel):
    size: Size
    counts: list[int] | str


class _Annotation(BaseModel):
    id: int
    image_id: int
    category_id: int
    segmentation: list[list[FiniteFloat]] | _Runs = []


class _Instances(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_coco(
    annotations: Path, images: Path, dataset: str, known: DatasetDescription | None = None
) -> Imported:
    """Read COCO instances: polygons, and run lengths, compressed or not.

    Where areas overlap, the later annotation wins. An image without an annotation shows no defect.
    The extra fields ``group`` and ``exposure`` of an image, as `write_coco` writes them, are read.

    Parameters
    ----------
    annotations
        The JSON file.
    images
        The folder that the file names in it are relative to.
    dataset
        What the images show. Its classes are the categories, by their ids.
    known
        The dataset that they join; None where they begin one.

    Raises
    ------
    FormatError
        If the file is not COCO's, contradicts itself, or names images that are not there.
    """
    instances = read_json(annotations, _Instances, "COCO instance annotations")
    categories = {c.id: c.name for c in sorted(instances.categories, key=lambda c: c.id)}
    by_image: dict[int, list[Area]] = {image.id: [] for image in instances.images}
    if len(by_image) < len(instances.images) or len(categories) < len(instances.categories):
        raise FormatError(f"{annotations} has one id for several images, or several categories")
    for annotation in instances.annotations:
        name = f"annotation {annotation.id}"
        if annotation.image_id not in by_image:
            raise FormatError(f"{annotations}: {name} is of image {annotation.image_id}, not in it")
        if annotation.category_id not in categories:
            raise FormatError(
                f"{annotations}: {name} is of category {annotation.category_id}, not in it"
            )
        if not annotation.segmentation:
            raise FormatError(
                f"{annotations}: {name} has a box alone, but masks are needed: export segmentations"
            )
        by_image[annotation.image_id].append(
            Area(name, categories[annotation.category_id], partial(_fill, annotation.segmentation))
        )
    return imported(
        annotations,
        [
            AnnotatedImage(
                name=path.relative_to(images).as_posix(),
                read=path.read_bytes,
                areas=by_image[image.id],
                size=(image.height, image.width),
                group=image.group,
                exposure=image.exposure,
            )
            for image in instances.images
            for path in [image_file(annotations, images, image.file_name)]
        ],
        list(categories.values()),
        dataset,
        known,
    )


def _fill(segmentation: list[list[float]] | _Runs, size: Size) -> np.ndarray:
    if isinstance(segmentation, _Runs):
        if segmentation.size != size:
            height, width = segmentation.size
            raise AreaError(f"its mask is {width} × {height}, the image {size[1]} × {size[0]}")
        counts = segmentation.counts
        runs = _uncompressed(counts) if isinstance(counts, str) else counts
        return fill_runs(runs, size, by_column=True)
    filled = np.zeros(size, bool)
    for flat in segmentation:
        if len(flat) % 2:
            raise AreaError(f"its polygon has {len(flat)} coordinates, an odd number")
        filled |= fill_polygon(list(zip(flat[::2], flat[1::2], strict=True)), size)
    return filled


def _uncompressed(text: str) -> list[int]:
    """Return the run lengths that pycocotools has compressed to a text.

    Each character holds five bits, the lowest first, and one that says whether more follow. From
    the fourth on, a number is the difference to the last but one. This is ``rleFrString`` of
    pycocotools, whose ``decode`` is not used because it gives what lay in memory before where a
    text is cut short.
    """
    if not _COMPRESSED.fullmatch(text):
        raise AreaError("its compressed run lengths are damaged: export it again")
    runs: list[int] = []
    number = shift = 0
    for code in (ord(character) - 48 for character in text):
        number |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                number -= 1 << shift
            runs.append(number + runs[-2] if len(runs) > 2 else number)
            number = shift = 0
    return runs


def write_coco(
    folder: Path, description: DatasetDescription, samples: Iterable[ExportedSample]
) -> None:
    """Write samples as COCO instances, one for each connected region of a class.

    ::

        images/tile-0001-exp1.jpg …
        annotations/instances_train.json      one for each part; instances.json without parts

    Masks are compressed run lengths: nothing of them is lost. The part, ``group`` and ``exposure``
    of an image are kept; the latter two are extra fields, which other readers pass over. While it
    writes, it holds one image, and the run lengths of all.

    Raises
    ------
    FormatError
        If the folder is not empty, two images have one file name, or there is no sample.
    """
    categories = [{"id": c.id, "name": c.name} for c in description.classes]
    parts: dict[str | None, dict[str, list[dict[str, Any]]]] = {}
    with whole_folder(folder) as partial_folder:
        for number, sample in enumerate(samples, start=1):
            write_new(partial_folder / "images", sample.image_name, sample.image)
            part = parts.setdefault(sample.part, {"images": [], "annotations": []})
            height, width = sample.mask.shape
            part["images"].append(
                {
                    "id": number,
                    "file_name": sample.image_name,
                    "height": height,
                    "width": width,
                    "group": sample.group,
                    "exposure": sample.exposure,
                }
            )
            for class_id, region in regions(sample.mask):
                runs = coco_masks.encode(np.asfortranarray(region, np.uint8))
                part["annotations"].append(
                    {
                        "id": len(part["annotations"]) + 1,
                        "image_id": number,
                        "category_id": class_id,
                        "segmentation": {
                            "size": [height, width],
                            "counts": runs["counts"].decode(),
                        },
                        "area": int(coco_masks.area(runs)),
                        "bbox": coco_masks.toBbox(runs).tolist(),
                        "iscrowd": 0,
                    }
                )
        if not parts:
            raise FormatError("there is no sample to write")
        (partial_folder / "annotations").mkdir()
        for name, part in parts.items():
            path = partial_folder / "annotations" / f"instances{f'_{name}' if name else ''}.json"
            info = {"description": description.name}
            path.write_text(json.dumps({"info": info, **part, "categories": categories}))
