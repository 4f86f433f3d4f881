import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from defect_assets.dataset.formats.imported import FormatError
from defect_assets.dataset.formats.labelme import read_labelme
from defect_assets.inference.images import encode_png
from tests.dataset.formats.conftest import drawn, mask_of, overlap, picture


def shape(kind: str, points: list[list[float]], label: str = "scratch", **more: Any) -> Any:
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
        **more,
    }


def write(images: Path, *shapes: Any, name: str = "tile.json", **more: Any) -> Path:
    values = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "tile.png",
        "imageData": None,
        "imageHeight": 6,
        "imageWidth": 8,
        **more,
    }
    path = images / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def mask(images: Path, *shapes: Any) -> np.ndarray:
    write(images, *shapes)
    (sample,) = read_labelme(images, "parts").samples
    return mask_of(sample)


def embedded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_polygons_hold_their_corners_as_in_labelme(images: Path) -> None:
    expected = drawn(
        "........",
        ".####...",
        ".####...",
        ".####...",
        "........",
        "........",
    )
    assert (mask(images, shape("polygon", [[1, 1], [4, 1], [4, 3], [1, 3]])) == expected).all()
    assert (mask(images, shape("rectangle", [[4, 3], [1, 1]])) == expected).all()
    turned = shape("oriented_rectangle", [[1, 1], [4, 1], [4, 3], [1, 3]])
    assert (mask(images, turned) == expected).all()


def test_a_circle_is_its_centre_and_a_point_of_its_edge(images: Path) -> None:
    (images / "tile.png").write_bytes(picture(40, 40))
    write(images, shape("circle", [[20, 18], [20, 28]]), imageHeight=40, imageWidth=40)
    (sample,) = read_labelme(images, "parts").samples
    y, x = np.mgrid[:40, :40]
    # Pillow counts the pixels of the edge in: 21 are as wide as the circle.
    expected = (x - 20) ** 2 + (y - 18) ** 2 <= 10.5**2
    found = mask_of(sample) > 0
    assert overlap(found, expected) > 0.97
    assert found[8, 20]
    assert found[28, 20]
    assert not found[7].any()
    assert not found[29].any()


def test_a_mask_lies_in_its_box(images: Path) -> None:
    part = drawn("#.#", "###")
    png = embedded(encode_png(part * np.uint8(255)))
    expected = np.zeros((6, 8), np.uint8)
    expected[2:4, 4:7] = part
    assert (mask(images, shape("mask", [[4, 2], [6, 3]], mask=png)) == expected).all()


def test_where_areas_overlap_the_later_wins(images: Path) -> None:
    first = shape("rectangle", [[0, 0], [3, 3]], "scratch")
    second = shape("rectangle", [[2, 2], [5, 5]], "dent")
    expected = np.zeros((6, 8), np.uint8)
    # Labels sorted: dent is 1, scratch 2.
    expected[0:4, 0:4] = 2
    expected[2:6, 2:6] = 1
    assert (mask(images, first, second) == expected).all()


def test_a_file_without_shapes_says_that_there_is_no_defect(images: Path) -> None:
    (images / "free.jpg").write_bytes(picture(6, 8, "JPEG"))
    write(images, shape("rectangle", [[0, 0], [3, 3]]))
    write(images, name="free.json", imagePath="free.jpg")
    (images / "unlabelled.png").write_bytes(picture(6, 8))
    found = read_labelme(images, "parts")
    assert [(s.sample, s.mask is None) for s in found.samples] == [("free", True), ("tile", False)]
    assert found.count == 2


def test_the_image_is_taken_before_its_copy(images: Path) -> None:
    copy = picture(6, 8, "JPEG", seed=1)
    write(images, shape("rectangle", [[0, 0], [3, 3]]), imageData=embedded(copy))
    (sample,) = read_labelme(images, "parts").samples
    assert sample.image == (images / "tile.png").read_bytes()


@pytest.mark.parametrize(
    ("path", "suffix"),
    [("gone.tif", ".jpeg"), ("gone.jpg", ".jpg"), ("gone.JPEG", ".JPEG"), ("gone", ".jpeg")],
)
def test_the_copy_is_taken_where_there_is_no_image(images: Path, path: str, suffix: str) -> None:
    copy = picture(6, 8, "JPEG")
    area = shape("rectangle", [[0, 0], [3, 3]])
    write(images, area, imagePath=path, imageData=embedded(copy))
    (sample,) = read_labelme(images, "parts").samples
    assert (sample.sample, sample.image_suffix, sample.image) == ("gone", suffix, copy)


def test_labels_may_lie_beside_the_images(images: Path) -> None:
    (images / "pictures").mkdir()
    (images / "tile.png").rename(images / "pictures" / "tile.png")
    area = shape("rectangle", [[0, 0], [3, 3]])
    write(images, area, name="labels/tile.json", imagePath="..\\pictures\\tile.png")
    (sample,) = read_labelme(images, "parts").samples
    assert (sample.sample, sample.image_suffix) == ("tile", ".png")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"shapes": [shape("linestrip", [[0, 0], [1, 1]])]}, "shape 1 is a linestrip, which marks"),
        ({"shapes": [shape("point", [[0, 0]])]}, "shape 1 is a point, which marks no area"),
        ({"shapes": [{"label": "a"}]}, r"holds no LabelMe annotations: shapes\.0\.points"),
        ({"imagePath": "gone.png"}, r"gone\.png, but"),
        ({"imagePath": "../tile.png"}, "leaves the folder"),
        ({"imagePath": "a/../../tile.png"}, "leaves the folder"),
        ({"imagePath": "/tmp/tile.png"}, "leaves the folder"),
        ({"imagePath": "C:\\pictures\\tile.png"}, "leaves the folder"),
        ({"imagePath": "../tile.png", "imageData": "AAAA"}, "leaves the folder"),
        ({"imagePath": "gone.png", "imageData": "AAAA"}, "imageData is no image"),
        ({"imagePath": "gone.png", "imageData": "?"}, "imageData is no image"),
    ],
)
def test_files_that_cannot_be_are_refused(images: Path, more: dict[str, Any], message: str) -> None:
    path = write(images, **{"shapes": [], **more})
    with pytest.raises(FormatError, match=message) as error:
        read_labelme(images, "parts")
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (shape("polygon", [[0, 0], [1, 1]]), "a polygon needs three points, it has 2"),
        (shape("rectangle", [[0, 0]]), "a rectangle needs 2 points, it has 1"),
        (shape("circle", [[0, 0], [1, 1], [2, 2]]), "a circle needs 2 points, it has 3"),
        (shape("polygon", [[0, 0], [1, 1], [99, 0]]), "far outside"),
        (shape("polygon", [[-3, -3], [-2, -2], [-3, -2]]), "covers no pixel"),
        (shape("mask", [[0, 0], [1, 1]]), "of type mask, but has none"),
        (shape("mask", [[0, 0], [1, 1]], mask="?"), "not base64"),
        (shape("mask", [[0, 0], [1, 1]], mask="AAAA"), "its mask: it is not an image"),
        (
            shape("mask", [[0, 0], [1, 1]], mask=embedded(picture(3, 2))),
            "its mask is 2 × 3, its box 2 × 2",
        ),
        (shape("mask", [[7, 5], [8, 6]], mask=embedded(picture(2, 2))), "not inside the image"),
    ],
)
def test_damaged_shapes_are_refused(images: Path, bad: Any, message: str) -> None:
    write(images, bad)
    found = read_labelme(images, "parts")
    with pytest.raises(FormatError, match=rf"shape 1 in tile\.json of tile\.png: .*{message}"):
        list(found.samples)


def test_a_folder_without_labels_is_refused(images: Path) -> None:
    with pytest.raises(FormatError, match="holds no labelled image"):
        read_labelme(images, "parts")


def test_an_image_that_two_files_label_is_refused(images: Path) -> None:
    write(images, shape("rectangle", [[0, 0], [3, 3]]))
    write(images, name="again.json")
    with pytest.raises(FormatError, match="would both be the sample tile"):
        read_labelme(images, "parts")


def test_links_are_refused(images: Path, tmp_path: Path) -> None:
    (images / "tile.png").rename(tmp_path / "tile.png")
    (images / "tile.png").symlink_to(tmp_path / "tile.png")
    write(images)
    with pytest.raises(FormatError, match=r"tile\.png is a link"):
        read_labelme(images, "parts")


def test_an_image_of_another_size_is_refused(images: Path) -> None:
    write(images, shape("rectangle", [[0, 0], [3, 3]]), imageWidth=9)
    found = read_labelme(images, "parts")
    with pytest.raises(FormatError, match=r"tile\.png is 9 × 6 pixels, but it is 8 × 6"):
        list(found.samples)
