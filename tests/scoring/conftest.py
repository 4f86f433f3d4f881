"""A home with a released model, and a folder of images, some of them broken."""

from pathlib import Path

import pandas as pd
import pytest

from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.home import Home
from defect_assets.store import Store
from tests.releases import publish_release

BROKEN = {
    "broken/empty.png": "the file is empty",
    "broken/text.jpg": "it is not an image of a known format",
    "broken/torn.jpg": "cannot be decoded",
}
IMAGES = 36
"""Sound ones."""
SEED = 85
"""Of an untrained model that takes some of the images for defective, and some not."""


@pytest.fixture
def released(home: Home) -> Store:
    store = home.store()
    publish_release(store, "v0.1.0", SEED)
    return store


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with images in subfolders, and files that are no images."""
    folder = tmp_path / "images"
    for sample in synthetic_samples(0, 1, IMAGES // 3):
        path = folder / sample.group / f"{sample.sample}{_suffix(sample.image)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.image)
    sound = sample.image
    (folder / "broken").mkdir()
    (folder / "broken" / "empty.png").touch()
    (folder / "broken" / "text.jpg").write_text("nothing to see")
    (folder / "broken" / "torn.jpg").write_bytes(sound[: len(sound) // 2])
    (folder / "notes.txt").write_text("to be left alone")
    return folder


def _suffix(image: bytes) -> str:
    return ".png" if image.startswith(b"\x89PNG") else ".JPG"


def tables(output: Path) -> dict[str, pd.DataFrame]:
    """Return what was written, without what differs between two runs of the same work."""
    images = pd.read_parquet(output / "images").drop(columns=["decode_ms", "infer_ms"])
    return {
        "images": images.sort_values("image", ignore_index=True),
        "defects": pd.read_parquet(output / "defects").sort_values(
            ["image", "defect"], ignore_index=True
        ),
    }


def assert_same(output: Path, expected: Path) -> None:
    """Compare two outputs row for row, masks included."""
    for name, table in tables(output).items():
        pd.testing.assert_frame_equal(table, tables(expected)[name])
    packs = {path.name: path.read_bytes() for path in (expected / "masks").iterdir()}
    assert {path.name: path.read_bytes() for path in (output / "masks").iterdir()} == packs
