"""Images at the network's resolution."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.store import Corrupted, Store
from defect_assets.training.data import KEPT, fit_mask, fit_snapshot
from tests.conftest import deliver
from tests.dataset.test_snapshot import cut_next, take_in

SMALL = Preprocessing(height=64, width=64)


@pytest.fixture
def snapshot(store: Store, delivery: Path, description: DatasetDescription) -> str:
    take_in(store, delivery, description)
    return find_snapshot(store, cut_next(store, description).id)[0]


def test_a_thin_crack_is_not_torn() -> None:
    mask = np.zeros((320, 320), np.uint8)
    mask[:, 100:105] = 3
    fitted = fit_mask(mask, SMALL)
    assert (fitted == 3).any(axis=1).all()
    assert set(np.unique(fitted)) == {0, 3}


@given(st.integers(16, 300), st.integers(16, 300), st.sampled_from(["stretch", "pad"]))
def test_masks_lie_where_their_images_lie(height: int, width: int, resizing: str) -> None:
    preprocessing = Preprocessing.model_validate({"height": 64, "width": 96, "resizing": resizing})
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2 + 1, width // 4 :] = 1
    fitted = fit_mask(mask, preprocessing)
    bright = preprocessing.fit(mask * 255)[..., 0]
    inside = preprocessing.fit_cover(np.ones(mask.shape, np.float32)) > 0
    assert ((fitted > 0) == (bright > 127))[inside].mean() > 0.9
    assert not fitted[~inside].any()


def test_images_are_decoded_once(store: Store, snapshot: str, tmp_path: Path) -> None:
    first = fit_snapshot(store, snapshot, SMALL, tmp_path / "fitted")
    assert len(first) == 36
    assert isinstance(first.images, np.memmap)
    assert (first.classes > 0).sum() == (first.masks > 0).any(axis=(1, 2)).sum()
    assert len(np.unique(first.groups)) == 12
    assert first.sizes.shape == (36, 2)
    assert first.sizes.min() > 64
    [kept] = (tmp_path / "fitted").iterdir()
    before = (kept / "images.npy").stat().st_mtime_ns
    again = fit_snapshot(store, snapshot, SMALL, tmp_path / "fitted")
    assert (again.images == first.images).all()
    assert (kept / "images.npy").stat().st_mtime_ns == before


def test_another_snapshot_or_size_is_kept_apart_and_old_ones_go(
    store: Store, snapshot: str, inbox: Path, description: DatasetDescription, tmp_path: Path
) -> None:
    folder = tmp_path / "fitted"
    fit_snapshot(store, snapshot, SMALL, folder)
    take_in(store, deliver(inbox, "second", 13, 2), description)
    newer = find_snapshot(store, cut_next(store, description).id)[0]
    assert len(fit_snapshot(store, newer, SMALL, folder)) == 42
    for side in (32, 96, 128, 160):
        fitted = fit_snapshot(store, snapshot, Preprocessing(height=side, width=side), folder)
        assert fitted.images.shape[1:] == (side, side, 1)
    assert len(list(folder.iterdir())) == KEPT


def test_a_damaged_image_is_named_and_leaves_nothing_behind(
    store: Store, snapshot: str, tmp_path: Path
) -> None:
    objects = tmp_path / "store" / "objects"
    pack = max(objects.glob("*/*"), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[200] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    with pytest.raises(Corrupted, match="tile-0001-exp1"):
        fit_snapshot(store, snapshot, SMALL, tmp_path / "fitted")
    assert not list((tmp_path / "fitted").iterdir())


def test_a_set_of_some_samples(store: Store, snapshot: str, tmp_path: Path) -> None:
    fitted = fit_snapshot(store, snapshot, SMALL, tmp_path)
    some = fitted.only(["tile-0002-exp1", "tile-0001-exp3"])
    assert some.samples[some.rows].tolist() == ["tile-0001-exp3", "tile-0002-exp1"]
    assert set(np.unique(fitted.as_binary().masks)) == {0, 1}
