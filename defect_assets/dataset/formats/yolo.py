"""YOLO segmentation, as Ultralytics reads it.

Described at https://docs.ultralytics.com/datasets/segment/.
"""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import yaml

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats.imported import FormatError
from defect_assets.dataset.formats.regions import regions
from defect_assets.dataset.formats.sample import ExportedSample
from defect_assets.dataset.formats.written import whole_folder, write_new


def write_yolo(
    folder: Path, description: DatasetDescription, samples: Iterable[ExportedSample]
) -> None:
    """Write samples as polygons, one for each connected region of a class.

    ::

        data.yaml                                  the parts, and the classes from 0 on
        images/train/tile-0001-exp1.jpg …          without parts directly in images
        labels/train/tile-0001-exp1.txt …          empty for images without a defect

    Without parts, ``data.yaml`` names no ``val``, which Ultralytics asks for: which images are to
    be validated on, it is not for us to say. Lost are the groups and the exposures.

    Raises
    ------
    FormatError
        If the folder is not empty, two images have one stem, only some samples have a part, or
        there is no sample.
    """
    parts = set()
    with whole_folder(folder) as partial:
        for sample in samples:
            part = sample.part or ""
            parts.add(part)
            write_new(partial / "images" / part, sample.image_name, sample.image)
            stem = Path(sample.image_name).stem
            lines = "".join(
                f"{class_id - 1} {' '.join(f'{c:.6f}' for c in outline(region).ravel())}\n"
                for class_id, region in regions(sample.mask)
            )
            write_new(partial / "labels" / part, f"{stem}.txt", lines.encode())
        if not parts:
            raise FormatError("there is no sample to write")
        if "" in parts and len(parts) > 1:
            raise FormatError("some samples have a part and some have none: split them all")
        values: dict[str, object] = {
            name or "train": f"images/{name}".rstrip("/")
            for name in ("", "train", "val", "test")
            if name in parts
        }
        values["names"] = {c.id - 1: c.name for c in description.classes}
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        (partial / "data.yaml").write_text(text)


def outline(region: np.ndarray) -> np.ndarray:
    """Return one polygon around a connected region, its holes left out.

    It runs a quarter of a pixel inside of the region's edge: so it is the same region again to who
    asks which pixels' centres are inside, and to who cuts off the fractions of its coordinates and
    fills it edge included, as Ultralytics does. (Contours of pixel indices, as converters usually
    write them, lose half a pixel on every side to the former: much, where a crack is two wide.)

    YOLO has no holes. Each is joined to what is left of it by a cut of no width, there and back.

    Parameters
    ----------
    region
        bool of shape (H, W), one connected region; corners connect.

    Returns
    -------
    numpy.ndarray
        float64 of shape (N, 2): x and y, as parts of width and height.
    """
    top, left = (int(axis.min()) for axis in np.nonzero(region))
    bottom, right = (int(axis.max()) + 1 for axis in np.nonzero(region))
    twice = region[top:bottom, left:right].repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(
        twice.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    # The contour without a parent is the outer one. Holes are joined from left to right, so that
    # what is next on the left of one is already part of the polygon.
    outer = next(c for c, (*_, parent) in zip(contours, hierarchy[0], strict=True) if parent < 0)
    polygon = outer[:, 0]
    holes = [c[:, 0] for c, (*_, parent) in zip(contours, hierarchy[0], strict=True) if parent >= 0]
    for hole in sorted(holes, key=lambda hole: int(hole[:, 0].min())):
        start = int(hole[:, 0].argmin())
        x, y = hole[start]
        row = np.flatnonzero((polygon[:, 1] == y) & (polygon[:, 0] <= x))
        at = int(row[polygon[row, 0].argmax()])
        there_and_back = np.concatenate([hole[start:], hole[: start + 1]])
        polygon = np.concatenate([polygon[: at + 1], there_and_back, polygon[at:]])
    before = np.sign(polygon - np.roll(polygon, 1, axis=0))
    after = np.sign(np.roll(polygon, -1, axis=0) - polygon)
    corners = polygon[(before != after).any(axis=1)]
    return (np.array([left, top]) + (corners + 0.5) / 2) / region.shape[::-1]
