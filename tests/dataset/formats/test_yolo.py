import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given

from defect_assets.dataset.formats.imported import FormatError
from defect_assets.dataset.formats.sample import ExportedSample
from defect_assets.dataset.formats.yolo import outline, write_yolo
from tests.dataset.formats.conftest import (
    DESCRIPTION,
    blobs,
    drawn,
    exported,
    masks,
    overlap,
    pixels_inside,
)


def labels(path: Path) -> list[tuple[int, np.ndarray]]:
    """Read a label file: classes, and polygons of x and y as parts of width and height."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return [(int(row[0]), np.array(row[1:], float).reshape(-1, 2)) for row in rows]


def written(sample: ExportedSample) -> list[tuple[int, np.ndarray]]:
    with tempfile.TemporaryDirectory() as place:
        write_yolo(Path(place) / "yolo", DESCRIPTION, [sample])
        return labels(Path(place) / "yolo" / "labels" / f"{sample.sample}.txt")


def by_centres(mask: np.ndarray) -> np.ndarray:
    """Read a mask back by the pixels whose centres are inside."""
    height, width = mask.shape
    read = np.zeros_like(mask)
    for number, polygon in written(exported(mask)):
        read[pixels_inside(polygon * [width, height], height, width)] = number + 1
    return read


def as_ultralytics(mask: np.ndarray) -> np.ndarray:
    """Read a mask back as ``ultralytics.data.utils.polygon2mask`` does, at the image's size."""
    height, width = mask.shape
    read = np.zeros_like(mask)
    for number, polygon in written(exported(mask)):
        cv2.fillPoly(read, [(polygon * [width, height]).astype(np.int32)], number + 1)
    return read


@given(blobs())
def test_regions_are_the_same_again_to_either_reader(mask: np.ndarray) -> None:
    for class_id in (1, 2, 3):
        assert overlap(by_centres(mask) == class_id, mask == class_id) >= 0.95
        assert overlap(as_ultralytics(mask) == class_id, mask == class_id) >= 0.95


@given(masks)
def test_nothing_at_all_is_lost_even_of_single_pixels_and_their_holes(mask: np.ndarray) -> None:
    assert (by_centres(mask) == mask).all()


@given(masks)
def test_ultralytics_fills_nothing_but_what_is_ours(mask: np.ndarray) -> None:
    assert (as_ultralytics(mask) == mask).all()


def test_holes_are_cut_out_by_one_polygon() -> None:
    mask = drawn(
        "#########",
        "#..#...##",
        "#..#.#.##",
        "####...##",
        "#.#######",
        "#########",
    )
    # The inner pixel is a region of its own, and the rest one with three holes.
    assert len(written(exported(mask))) == 2
    assert (by_centres(mask) == mask).all()


def test_a_rectangle_is_four_corners() -> None:
    mask = np.zeros((8, 10), bool)
    mask[2:5, 3:9] = True
    corners = outline(mask) * [10, 8]
    assert sorted(map(tuple, corners.round(9).tolist())) == [
        (3.25, 2.25),
        (3.25, 4.75),
        (8.75, 2.25),
        (8.75, 4.75),
    ]


def test_the_layout_is_ultralytics(tmp_path: Path) -> None:
    parts = ("train", "val", "test")
    samples = [exported(drawn(".2", ".2"), f"p{i}", part=p) for i, p in enumerate(parts)]
    free = exported(drawn("..", ".."), "free", part="train")
    write_yolo(tmp_path / "yolo", DESCRIPTION, iter([*samples, free]))
    found = {p.relative_to(tmp_path / "yolo").as_posix() for p in tmp_path.rglob("*.*")}
    assert found == {
        "data.yaml",
        *(f"images/{p}/p{i}.png" for i, p in enumerate(parts)),
        *(f"labels/{p}/p{i}.txt" for i, p in enumerate(parts)),
        "images/train/free.png",
        "labels/train/free.txt",
    }
    assert yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "test": "images/test",
        "names": {0: "scratch", 1: "dent", 2: "stain"},
    }
    assert (tmp_path / "yolo" / "labels" / "train" / "free.txt").read_text() == ""
    assert (tmp_path / "yolo" / "images" / "val" / "p1.png").read_bytes() == samples[1].image
    ((number, _),) = labels(tmp_path / "yolo" / "labels" / "test" / "p2.txt")
    assert number == 1


def test_without_parts_there_is_no_val(tmp_path: Path) -> None:
    write_yolo(tmp_path / "yolo", DESCRIPTION, [exported(drawn("#"))])
    values = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    assert values["train"] == "images"
    assert "val" not in values


def test_exports_that_cannot_be_are_refused(tmp_path: Path) -> None:
    sample = exported(drawn("#"))
    with pytest.raises(FormatError, match="no sample"):
        write_yolo(tmp_path / "yolo", DESCRIPTION, [])
    with pytest.raises(FormatError, match="split them all"):
        write_yolo(tmp_path / "yolo", DESCRIPTION, [sample, exported(drawn("#"), "b", part="val")])
    other = exported(drawn("#"), image_name="part-1.jpg")
    with pytest.raises(FormatError, match=r"both be written as labels/part-1\.txt"):
        write_yolo(tmp_path / "yolo", DESCRIPTION, [sample, other])
    assert list(tmp_path.iterdir()) == []
