"""Exposures of one tile are found, other tiles are not; and what looks alike is of one part."""

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from defect_assets.dataset import alike, leaks
from defect_assets.dataset.alike import Alike, TooManyImages, join_groups
from defect_assets.dataset.cut import next_snapshot
from defect_assets.dataset.delivery import write_delivery
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats.magnetic_tiles import delivered, read_tiles
from defect_assets.dataset.grouping import SIMILARITY, GroupRules, NearDuplicates
from defect_assets.dataset.near_duplicates import similar_pairs, spectra
from defect_assets.dataset.split import Split, divisions, read_part, split_snapshot
from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.home import known_description
from defect_assets.inference.images import decode_image
from defect_assets.store import Store
from tests.conftest import TILE_GROUPS, deliver
from tests.dataset.test_snapshot import cut_next, publish, take_in


def _texture(number: int) -> np.ndarray:
    rng = np.random.default_rng([3, number])
    noise = sum(
        cv2.resize(rng.normal(0, 1, (size, size)), (260, 300), interpolation=cv2.INTER_CUBIC)
        for size in (12, 30)
    )
    return np.asarray(1 + 0.2 * noise).clip(0.1)


def _similarity(one: np.ndarray, other: np.ndarray) -> float:
    [(_, _, similarity)] = similar_pairs(spectra([one, other]), 1e-6)
    return similarity


def _exposed(reflectance: np.ndarray, brightness: float) -> np.ndarray:
    return (reflectance * brightness).clip(0, 255).astype(np.uint8)


def test_another_exposure_and_a_shift_are_near_duplicates() -> None:
    texture = _texture(0)
    image = _exposed(texture[20:280, 20:240], 60)
    assert _similarity(image, _exposed(texture[20:280, 20:240], 110)) > 0.98
    assert _similarity(image, _exposed(texture[26:286, 14:234], 110)) > SIMILARITY
    colour = np.repeat(image[..., None], 3, axis=2)
    assert _similarity(image, colour) > 0.98


def test_other_textures_are_not() -> None:
    images = [_exposed(_texture(n), 90) for n in range(12)]
    assert list(similar_pairs(spectra(images), SIMILARITY)) == []


def test_an_image_of_one_grey_is_similar_to_none() -> None:
    flat = np.full((40, 50), 7, np.uint8)
    assert list(similar_pairs(spectra([flat, flat]), 0.5)) == []


def test_the_bound_loses_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    of = spectra(decode_image(s.image) for s in synthetic_samples(0, 1, 12))
    everything = {
        (i, j): np.fft.irfft2(of[i] * of[j].conj(), (32, 32)).max()
        for i, j in combinations(range(len(of)), 2)
    }
    for similarity in (0.3, 0.6, 0.85):
        found = {(i, j) for i, j, _ in similar_pairs(of, similarity)}
        assert found == {pair for pair, peak in everything.items() if peak >= similarity}


def test_exposures_of_synthetic_tiles_are_found_and_no_others() -> None:
    samples = list(synthetic_samples(0, 1, 30))
    pairs = list(similar_pairs(spectra(decode_image(s.image) for s in samples), SIMILARITY))
    assert all(samples[i].group == samples[j].group for i, j, _ in pairs)
    assert len(pairs) > 0.5 * 3 * 30


def test_groups_are_joined_by_images_that_look_alike_or_are_the_same() -> None:
    samples = pa.table(
        {
            "sample": ["1", "2", "3", "4", "5"],
            "group": ["d", "c", "b", "a", "e"],
            "image": ["x", "y", "z", "w", "w"],
        }
    )
    images = pa.array(["v", "w", "x", "y", "z"])
    joined = join_groups(samples, Alike(images, np.array([[2, 3], [0, 4], [0, 2]])))
    # v, which is like x and z, is not there: it joins nothing.
    assert joined["group"].to_pylist() == ["c", "c", "b", "a", "a"]


def _unknown_groups(inbox: Path, name: str, first: int, tiles: int) -> Path:
    """Deliver tiles as if nobody knew which images show one."""
    folder = deliver(inbox, name, first, tiles)
    header, *rows = (folder / "samples.csv").read_text().splitlines()
    cells = [row.split(",") for row in rows]
    lines = [header, *(f"{sample},{of},,{exposure}" for sample, of, _, exposure in cells)]
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    return folder


def _joining(description: DatasetDescription, rule: NearDuplicates | bool) -> DatasetDescription:
    rules = GroupRules.model_validate({"near_duplicates": rule})
    return description.model_copy(update={"groups": rules})


def _split(store: Store, description: DatasetDescription) -> Split:
    snapshot = cut_next(store, description)
    return split_snapshot(store, store.content(f"datasets/{snapshot.id}") or "")


def test_near_duplicates_leak_unless_they_are_joined_or_said_to_be_two_parts(
    store: Store, inbox: Path, description: DatasetDescription
) -> None:
    take_in(store, _unknown_groups(inbox, "first", 1, 10), description)
    torn = leaks.leaks(store, _split(store, description))
    assert torn
    assert torn.compared == 30
    assert not torn.groups
    assert all(one[:9] == other[:9] for one, other, _ in torn.near_duplicates)

    off = _split(store, _joining(description, False))
    assert not leaks.leaks(store, off)

    joined = _split(store, _joining(description, NearDuplicates()))
    assert (off.dataset, joined.dataset) == ("DS-2.0.0", "DS-3.0.0")
    assert not leaks.leaks(store, joined)
    assert joined.moved is not None
    images = [
        image for part in ("train", "val", "test") for image in read_part(store, joined, part)
    ]
    assert len({image.group for image in images}) < 30


def test_a_bridge_between_two_groups_moves_one_of_them(
    store: Store, inbox: Path, description: DatasetDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining = _joining(description, NearDuplicates())
    take_in(store, deliver(inbox, "first", 1, 10), joining)
    first = store.objects.get_table(_split(store, joining).rows).to_pandas().set_index("sample")
    one = first.index[first["part"] == "train"][0]
    other = first.index[first["part"] == "test"][0]
    take_in(store, deliver(inbox, "second", 11, 1), joining)
    bridge = "tile-0011-exp1"
    image_of = {}

    def bridged(store: Store, images: list, similarity: float) -> Alike:
        found = real(store, images, similarity)
        at = {digest: i for i, digest in enumerate(found.images.to_pylist())}
        pairs = [[at[image_of[bridge]], at[image_of[s]]] for s in (one, other)]
        return Alike(found.images, np.concatenate([found.pairs, pairs]))

    real = alike.find_alike
    monkeypatch.setattr("defect_assets.dataset.split.find_alike", bridged)
    snapshot = next_snapshot(store, joining)
    assert snapshot is not None
    publish(store, snapshot)
    for pin in snapshot.batches:
        batch = store.objects.get_json(pin.digest)
        rows = store.objects.get_table(batch["rows"])
        image_of |= dict(zip(rows["sample"].to_pylist(), rows["image"].to_pylist(), strict=True))
    split = split_snapshot(store, store.content(f"datasets/{snapshot.id}") or "")
    rows = store.objects.get_table(split.rows)
    after = rows.to_pandas().set_index("sample")
    assert after.loc[[one, other, bridge], "group"].nunique() == 1
    assert after.loc[[one, other, bridge], "part"].nunique() == 1
    assert split.moved is not None
    moved = set(store.objects.get_table(split.moved)["sample"].to_pylist())
    places = divisions(rows)
    stayed = (after.loc[first.index, places] == first[places]).all(axis=1)
    assert moved == set(first.index[~stayed])
    assert moved <= {s for s in first.index if s[:9] in (one[:9], other[:9])}


def test_too_many_images_are_refused_to_join_and_sampled_to_check(
    store: Store, inbox: Path, description: DatasetDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in(store, deliver(inbox, "first", 1, 4), description)
    split = _split(store, description)
    for module in (alike, leaks):
        monkeypatch.setattr(module, "LIMIT", 9)
    assert leaks.leaks(store, split).compared == 9
    with pytest.raises(TooManyImages, match="12 images are too many"):
        _split(store, _joining(description, NearDuplicates()))


def test_the_real_tiles_are_divided_without_a_leak(
    magnetic_tiles: Path, store: Store, inbox: Path
) -> None:
    description = known_description("magnetic-tiles")
    # Tiles that the file says are of two groups, and that look alike.
    tiles = [t for t in read_tiles(magnetic_tiles, TILE_GROUPS) if t.group[-4:] in TWICE]
    take_in(store, write_delivery(inbox, "tiles", delivered(tiles), ""), description)
    split = _split(store, description)
    assert sum(split.groups.values()) == len({tile.group for tile in tiles}) - 2
    assert not leaks.leaks(store, split)


TWICE = ("0034", "0039", "0005", "0011", "0001", "0002")
