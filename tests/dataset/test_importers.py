"""Every way into the inbox: synthetic, magnetic tiles (made, real, downloaded), any folder."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defect_assets.dataset.delivery import DeliveryRefused, write_delivery
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats import folder as folder_importer
from defect_assets.dataset.formats.magnetic_tiles import (
    LayoutError,
    delivered,
    download,
    in_batches,
    read_tiles,
)
from defect_assets.dataset.inspection import read_delivery
from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.home import known_description
from defect_assets.settings import SettingsError
from tests.conftest import TILE_GROUPS


def test_the_synthetic_line_is_deterministic() -> None:
    assert list(synthetic_samples(3, 1, 4)) == list(synthetic_samples(3, 1, 4))
    assert list(synthetic_samples(3, 1, 4)) != list(synthetic_samples(4, 1, 4))


def test_a_synthetic_tile_is_the_same_in_any_delivery() -> None:
    assert list(synthetic_samples(0, 5, 2)) == list(synthetic_samples(0, 1, 6))[12:]


def test_synthetic_tiles_are_as_real_ones(inbox: Path, description: DatasetDescription) -> None:
    folder = write_delivery(inbox, "many", synthetic_samples(0, 1, 60), "")
    samples = read_delivery(folder, description).samples
    assert {s.class_name for s in samples} == set(description.class_ids)
    assert all(222 <= s.height <= 403 and 103 <= s.width <= 632 for s in samples)
    by_group: dict[str, int] = {}
    for sample in samples:
        by_group[sample.group] = by_group.get(sample.group, 0) + 1
    assert set(by_group.values()) == {3}


def _tile(root: Path, name: str, stem: str, defect: bool) -> None:
    folder = root / f"MT_{name}" / "Imgs"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(abs(hash(stem)) % 2**32)
    Image.fromarray(rng.integers(0, 255, (40, 30), np.uint8)).save(folder / f"{stem}.jpg")
    mask = np.zeros((40, 30), np.uint8)
    mask[10:20, 10:20] = 255 * defect
    Image.fromarray(mask).save(folder / f"{stem}.png")


@pytest.fixture
def made_tiles(tmp_path: Path) -> Path:
    """A folder in the dataset's layout: three parts, told apart by the capture sequence."""
    root = tmp_path / "made"
    for name, captures in {
        "Free": [100, 130, 160],
        "Crack": [1000, 1020, 1040],
        "Fray": [2000, 2100],
    }.items():
        for exposure, capture in enumerate(captures, start=1):
            _tile(root, name, f"exp{exposure}_num_{capture}", name != "Free")
    return root


def test_the_layout_says_class_exposure_and_part(made_tiles: Path) -> None:
    tiles = read_tiles(made_tiles)
    assert [t.capture for t in tiles] == [100, 130, 160, 1000, 1020, 1040, 2000, 2100]
    assert [t.class_name for t in tiles] == ["Free"] * 3 + ["Crack"] * 3 + ["Fray"] * 2
    assert len({t.group for t in tiles}) == 3
    assert tiles[4].exposure == "exp2"


def test_given_groups_go_before_the_capture_sequence(made_tiles: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    stems = [t.stem for t in read_tiles(made_tiles)]
    pd.DataFrame({"stem": stems, "group": range(len(stems))}).to_csv(groups, index=False)
    assert len({t.group for t in read_tiles(made_tiles, groups)}) == len(stems)
    pd.DataFrame({"stem": stems[1:], "group": 0}).to_csv(groups, index=False)
    with pytest.raises(LayoutError, match=f"no row for {stems[0]}"):
        read_tiles(made_tiles, groups)


@pytest.mark.parametrize("batches", [1, 2, 3, 8])
def test_batches_divide_the_captures_but_no_part(made_tiles: Path, batches: int) -> None:
    tiles = read_tiles(made_tiles)
    divided = in_batches(tiles, batches)
    assert sorted((t for b in divided for t in b), key=lambda t: t.capture) == tiles
    assert len(divided) <= batches
    for group in {t.group for t in tiles}:
        assert sum(any(t.group == group for t in batch) for batch in divided) == 1


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="MT_Blowhole"):
        read_tiles(tmp_path)


@pytest.fixture
def archive_server(made_tiles: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a server that has the made tiles as the public archive is packed."""
    packed = tmp_path / "packed" / "Magnetic-tile-defect-datasets.-master"
    shutil.copytree(made_tiles, packed)
    web = tmp_path / "web"
    web.mkdir()
    shutil.make_archive(str(web / "master"), "zip", packed.parent)
    handler = partial(SimpleHTTPRequestHandler, directory=str(web))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/master.zip"
        server.shutdown()


def test_the_archive_is_downloaded_and_unpacked(archive_server: str, tmp_path: Path) -> None:
    folder = download(tmp_path / "cache", archive_server)
    assert len(read_tiles(folder)) == 8


def test_an_archive_with_another_hash_is_refused(archive_server: str, tmp_path: Path) -> None:
    right = hashlib.sha256((tmp_path / "web" / "master.zip").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="does not match the known hash"):
        download(tmp_path / "cache", archive_server, f"sha256:{'0' * 64}")
    assert download(tmp_path / "cache", archive_server, f"sha256:{right}").is_dir()


def test_the_real_tiles_are_a_sound_delivery(magnetic_tiles: Path, inbox: Path) -> None:
    tiles = read_tiles(magnetic_tiles, TILE_GROUPS)
    folder = write_delivery(inbox, "real", delivered(tiles), "")
    read = read_delivery(folder, known_description("magnetic-tiles"))
    assert len(read.samples) == len(tiles) == len(list(magnetic_tiles.glob("MT_*/Imgs/*.jpg")))
    assert len({s.group for s in read.samples}) == len(
        set(pd.read_csv(TILE_GROUPS).set_index("stem").loc[[t.stem for t in tiles], "group"])
    )


@pytest.fixture
def any_folder(tmp_path: Path) -> Path:
    root = tmp_path / "any"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for i, value in enumerate([0, 10, 200]):
        Image.new("RGB", (50, 40), (i, 100, 200)).save(root / "images" / f"part{i}.png")
        mask = np.zeros((40, 50), np.uint8)
        mask[5:10, 5:10] = value
        Image.fromarray(mask).save(root / "masks" / f"part{i}.png")
    (tmp_path / "classes.yaml").write_text("10: scratch\n200: dent\n")
    return root


def test_any_folder_with_a_class_map_is_delivered(
    any_folder: Path, tmp_path: Path, inbox: Path
) -> None:
    description = folder_importer.describe("parts", tmp_path / "classes.yaml")
    folder = write_delivery(inbox, "any", folder_importer.delivered(any_folder, description), "")
    samples = read_delivery(folder, description).samples
    assert [s.class_name for s in samples] == ["defect-free", "scratch", "dent"]
    assert {s.channels for s in samples} == {3}


def test_one_class_means_soft_masks_and_images_may_be_without(
    any_folder: Path, tmp_path: Path, inbox: Path
) -> None:
    (tmp_path / "classes.yaml").write_text("1: scratch\n")
    for name in ("part0.png", "part1.png"):
        (any_folder / "masks" / name).unlink()
    description = folder_importer.describe("parts", tmp_path / "classes.yaml")
    folder = write_delivery(inbox, "any", folder_importer.delivered(any_folder, description), "")
    samples = read_delivery(folder, description).samples
    assert [s.class_name for s in samples] == ["defect-free", "defect-free", "scratch"]


def test_a_folder_whose_masks_do_not_match_is_refused(any_folder: Path, tmp_path: Path) -> None:
    description = folder_importer.describe("parts", tmp_path / "classes.yaml")
    (any_folder / "masks" / "part1.png").rename(any_folder / "masks" / "part1_mask.png")
    with pytest.raises(DeliveryRefused, match=r"part1_mask\.png: a mask without an image"):
        folder_importer.delivered(any_folder, description)


def test_deep_masks_keep_their_values(any_folder: Path, tmp_path: Path) -> None:
    mask = np.zeros((40, 50), np.uint16)
    mask[5:10, 5:10] = 10
    Image.fromarray(mask).save(any_folder / "masks" / "part1.png")
    description = folder_importer.describe("parts", tmp_path / "classes.yaml")
    assert folder_importer.delivered(any_folder, description)[1].class_name == "scratch"
    mask[0, 0] = 300
    Image.fromarray(mask).save(any_folder / "masks" / "part1.png")
    with pytest.raises(DeliveryRefused, match=r"\[300\], which the class map lacks"):
        folder_importer.delivered(any_folder, description)


@pytest.mark.parametrize(
    "text",
    [
        "- scratch",
        "scratch: 1",
        "0: background",
        "{}",
        "1: [",
        "yes: scratch",
        "1:",
        "1: [a, b]",
        "1: '*'",
    ],
)
def test_what_is_no_class_map_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"class_map|classes\.yaml"):
        folder_importer.describe("parts", path)
