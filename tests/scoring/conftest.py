"""A home with a released model, and a folder of images, some of them broken."""

from pathlib import Path

import pandas as pd
import pytest

from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.home import Home
from defect_assets.scoring.sources import SnapshotSource
from defect_assets.store import Store
from tests.conftest import deliver
from tests.releases import publish_release
from tests.servers.s3 import S3Server
from tests.small import cut, ingest

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


@pytest.fixture
def snapshot(home: Home, released: Store) -> SnapshotSource:
    """A dataset's version of 72 images, in two shards."""
    deliver(home.inbox, "first", 1, 24)
    ingest(home, released, "first")
    cut(home, released)
    digest = released.content("datasets/DS-1.0.0") or ""
    return SnapshotSource(home.url, home.cache, "DS-1.0.0", digest)


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
    assert packs(output) == packs(expected)


def packs(output: Path) -> dict[str, bytes]:
    """Return the masks; a writer that was killed may have left half of one under another name."""
    return {path.name: path.read_bytes() for path in (output / "masks").glob("*.pack")}


def upload(folder: Path, server: S3Server, url: str) -> None:
    """Put all files of a folder below ``s3://bucket/prefix``."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    for path in folder.rglob("*.*"):
        key = f"{prefix}/{path.relative_to(folder).as_posix()}"
        server.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


def fetch(server: S3Server, url: str, folder: Path) -> Path:
    """Copy what lies below ``s3://bucket/prefix`` into a folder; return it."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    listed = server.client().list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/")
    for entry in listed["Contents"]:
        path = folder / entry["Key"].removeprefix(f"{prefix}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        found = server.client().get_object(Bucket=bucket, Key=entry["Key"])
        path.write_bytes(found["Body"].read())
    return folder
