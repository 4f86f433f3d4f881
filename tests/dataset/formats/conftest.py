"""Small pictures, and masks drawn with characters."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from defect_assets.dataset.delivery import DeliveredSample
from defect_assets.dataset.description import DatasetDescription, DefectClass
from defect_assets.dataset.formats.sample import ExportedSample

DESCRIPTION = DatasetDescription(
    name="parts",
    defect_free="defect-free",
    masks="indexed",
    classes=(
        DefectClass(id=1, name="scratch", color="#f23030"),
        DefectClass(id=2, name="dent", color="#30f230"),
        DefectClass(id=3, name="stain", color="#3030f2"),
    ),
)
masks = arrays(
    np.uint8, st.tuples(st.integers(1, 16), st.integers(1, 16)), elements=st.integers(0, 3)
)


@st.composite
def blobs(draw: st.DrawFn) -> np.ndarray:
    """Masks of ellipses and bars a few pixels thick, some with a part cut out."""
    height, width = draw(st.integers(20, 60)), draw(st.integers(20, 60))
    mask = np.zeros((height, width), np.uint8)
    y, x = np.mgrid[:height, :width]
    for _ in range(draw(st.integers(1, 6))):
        value = draw(st.integers(0, 3))
        cy, cx = draw(st.integers(0, height)), draw(st.integers(0, width))
        ry, rx = draw(st.integers(3, 20)), draw(st.integers(3, 20))
        if draw(st.booleans()):
            mask[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1] = value
        else:
            mask[(abs(y - cy) <= ry) & (abs(x - cx) <= rx)] = value
    return mask


def drawn(*rows: str) -> np.ndarray:
    """Return the mask that some rows show: ``.`` is none, ``#`` is class 1, a digit its class."""
    return np.array([[{".": 0, "#": 1}.get(c, ord(c) - 48) for c in row] for row in rows], np.uint8)


def pixels_inside(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the pixels whose centres are in a polygon: from them, an odd number of its edges.

    ``points`` are x and y, continuous: the first pixel's centre is at (0.5, 0.5).
    """
    inside = np.zeros((height, width), bool)
    y, x = np.mgrid[:height, :width] + 0.5
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 != y1:
            crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            inside ^= ((y0 <= y) != (y1 <= y)) & (crossing > x)
    return inside


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection of two masks over their union; 1 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def picture(height: int, width: int, kind: str = "PNG", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def mask_of(sample: DeliveredSample) -> np.ndarray:
    assert sample.mask is not None
    return np.asarray(Image.open(io.BytesIO(sample.mask)))


def exported(
    mask: np.ndarray, name: str = "part-1", seed: int = 0, **others: str | None
) -> ExportedSample:
    found = np.bincount(mask.ravel(), minlength=4)[1:]
    class_name = {0: "defect-free", **DESCRIPTION.class_map}[
        int(found.argmax()) + 1 if found.any() else 0
    ]
    values = {"group": "", "exposure": "", "part": None, "image_name": f"{name}.png", **others}
    image = picture(*mask.shape, seed=seed)
    return ExportedSample(sample=name, class_name=class_name, image=image, mask=mask, **values)  # type: ignore[arg-type]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with one picture, 8 wide and 6 high: ``tile.png``."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "tile.png").write_bytes(picture(6, 8))
    return folder
