import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.dataset.formats.areas import AreaError
from defect_assets.dataset.formats.imported import FormatError, Imported
from defect_assets.dataset.formats.label_studio import decode_brush, read_label_studio
from tests.dataset.formats.conftest import drawn, mask_of, masks, overlap, picture, pixels_inside

BLOB = drawn(
    "........",
    "..##....",
    ".####...",
    ".#####..",
    "..###.#.",
    "........",
)
# fmt: off
BRUSH = [  # label_studio_sdk.converter.brush.mask2rle(255 * BLOB), version 2.1.2
    0, 0, 0, 192, 57, 27, 254, 39, 0, 159, 255, 9, 128, 95, 255, 190, 1, 132, 255, 239, 128, 91,
    255, 140, 2, 63, 252, 70, 0,
]
COLOURED_BRUSH = [  # encode_rle of the same there, each pixel of it (0, 255, 60, 200)
    0, 0, 0, 192, 57, 27, 254, 40, 0, 3, 252, 3, 192, 50, 0, 0, 3, 252, 3, 192, 50, 48, 160, 0, 31,
    224, 30, 1, 144, 0, 0, 31, 224, 30, 1, 144, 0, 0, 31, 224, 30, 1, 144, 0, 0, 31, 224, 30, 1,
    145, 132, 0, 0, 255, 0, 240, 12, 128, 0, 0, 255, 0, 240, 12, 128, 0, 0, 255, 0, 240, 12, 128, 0,
    0, 255, 0, 240, 12, 128, 0, 0, 255, 0, 240, 12, 140, 32, 0, 7, 248, 7, 128, 100, 0, 0, 7, 248,
    7, 128, 100, 0, 0, 7, 248, 7, 128, 100, 72, 0, 7, 248, 7, 128, 100, 98, 48, 0,
]
# fmt: on


def region(kind: str, label: str = "scratch", **value: Any) -> dict[str, Any]:
    return {
        "id": "Dx_aB3",
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "origin": "manual",
        "original_width": 8,
        "original_height": 6,
        "image_rotation": 0,
        "value": {**value, kind: [label]},
    }


def brush(rle: list[int] = BRUSH, label: str = "scratch") -> dict[str, Any]:
    return region("brushlabels", label, format="rle", rle=rle)


def task(*regions: dict[str, Any], image: str = "/data/upload/1/3fa85f64-tile.png") -> Any:
    return {
        "id": 12,
        "annotations": [
            {
                "id": 5,
                "completed_by": 1,
                "result": list(regions),
                "was_cancelled": False,
                "ground_truth": False,
                "lead_time": 10.5,
            }
        ],
        "file_upload": "3fa85f64-tile.png",
        "predictions": [{"result": [brush(label="guess")]}],
        "data": {"image": image},
        "meta": {},
    }


def read(images: Path, *tasks: Any) -> Imported:
    path = images.parent / "export.json"
    path.write_text(json.dumps(tasks))
    return read_label_studio(path, images, "parts")


def mask(images: Path, *regions: dict[str, Any]) -> np.ndarray:
    (sample,) = read(images, task(*regions)).samples
    return mask_of(sample)


@pytest.mark.parametrize("rle", [BRUSH, COLOURED_BRUSH])
def test_a_brush_is_read_as_label_studio_packs_it(images: Path, rle: list[int]) -> None:
    assert (mask(images, brush(rle)) == BLOB).all()


def packed(values: list[int], draw: st.DrawFn) -> list[int]:
    """Pack bytes as the format allows, in runs and rows of any length."""
    widths = [draw(st.integers(1, 16)) for _ in range(4)]
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    place = 0
    while place < len(values):
        which = draw(st.integers(0, 3))
        longest = min(2 ** widths[which], len(values) - place)
        same = 1
        while same < longest and values[place + same] == values[place]:
            same += 1
        repeated = draw(st.booleans())
        length = draw(st.integers(1, same if repeated else longest))
        bits += f"{int(repeated)}{which:02b}{length - 1:0{widths[which]}b}"
        row = values[place : place + (1 if repeated else length)]
        bits += "".join(f"{value:08b}" for value in row)
        place += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


@given(st.data(), masks)
def test_any_packing_of_a_brush_is_read(data: st.DataObject, painted: np.ndarray) -> None:
    rgba = np.zeros((*painted.shape, 4), np.uint8)
    rgba[painted > 0] = (9, 255, 0, 120)
    rle = packed(rgba.ravel().tolist(), data.draw)
    assert (decode_brush(rle, painted.shape) == (painted > 0)).all()


@given(st.lists(st.integers(0, 255), max_size=60))
def test_noise_is_no_brush(noise: list[int]) -> None:
    for rle in (noise, [0, 0, 0, 192, *noise]):
        try:
            assert decode_brush(rle, (6, 8)).shape == (6, 8)
        except AreaError:
            pass


def test_polygons_are_in_percent(images: Path) -> None:
    corners = [[12.5, 100 / 6], [50, 100 / 6], [50, 50], [12.5, 50]]
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 1:4] = 1
    assert (mask(images, region("polygonlabels", points=corners, closed=True)) == expected).all()


def test_a_slanted_polygon_is_near_the_pixels_inside_it(images: Path) -> None:
    (images / "tile.png").write_bytes(picture(200, 300))
    corners = np.array([(30.0, 20.0), (270.0, 55.0), (180.0, 180.0), (90.0, 90.0)])
    polygon = region("polygonlabels", points=(corners / [3, 2]).tolist()) | {
        "original_width": 300,
        "original_height": 200,
    }
    assert overlap(mask(images, polygon) > 0, pixels_inside(corners, 200, 300)) > 0.99


def test_rectangles_turn_about_their_corner(images: Path) -> None:
    flat = region("rectanglelabels", x=50, y=0, width=25, height=100 / 3, rotation=0)
    expected = np.zeros((6, 8), np.uint8)
    expected[0:2, 4:6] = 1
    assert (mask(images, flat) == expected).all()
    # Two wide and two high, a quarter clockwise about (4, 0): now on the left of that corner.
    turned = region("rectanglelabels", x=50, y=0, width=25, height=100 / 3, rotation=90)
    expected = np.zeros((6, 8), np.uint8)
    expected[0:2, 2:4] = 1
    assert (mask(images, turned) == expected).all()


def test_ellipses_are_about_their_centre(images: Path) -> None:
    ellipse = region("ellipselabels", x=50, y=50, radiusX=37.5, radiusY=100 / 3, rotation=0)
    expected = drawn(
        "........",
        "..####..",
        ".######.",
        ".######.",
        "..####..",
        "........",
    )
    y, x = np.mgrid[:6, :8] + 0.5
    assert (expected == (((x - 4) / 3) ** 2 + ((y - 3) / 2) ** 2 <= 1)).all()
    assert (mask(images, ellipse) == expected).all()


def test_where_areas_overlap_the_later_wins(images: Path) -> None:
    whole = region("rectanglelabels", "dent", x=0, y=0, width=100, height=100)
    # Labels sorted: dent is 1, scratch 2.
    assert (mask(images, whole, brush()) == 1 + BLOB).all()
    assert (mask(images, brush(), whole) == 1).all()


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("/data/upload/1/3fa85f64-tile.png", "tile.png"),
        ("/data/upload/1/3fa85f64-tile.png", "3fa85f64-tile.png"),
        ("/data/local-files/?d=line%202/tile.png", "tile.png"),
        ("/data/local-files/?d=line 2/part%2B1.png", "part+1.png"),
        ("/data/local-files/?d=line-2/part+1.png", "part+1.png"),
        ("s3://bucket/line/tile.png", "tile.png"),
        ("https://host/images/tile%20one.png?signature=a.b", "tile one.png"),
        ("deadbeef-tile.png", "deadbeef-tile.png"),
    ],
)
def test_images_are_found_by_their_names(images: Path, address: str, file: str) -> None:
    (images / "tile.png").rename(images / file)
    (sample,) = read(images, task(brush(), image=address)).samples
    assert f"{sample.sample}{sample.image_suffix}" == file
    assert sample.image == (images / file).read_bytes()


def test_an_empty_annotation_says_that_there_is_no_defect(images: Path) -> None:
    (images / "free.png").write_bytes(picture(6, 8, seed=1))
    found = read(images, task(brush()), task(image="free.png"))
    assert [s.mask is None for s in found.samples] == [False, True]
    assert found.left_out == ()


def test_tasks_that_nobody_labelled_are_left_out(images: Path) -> None:
    new = task(image="/data/upload/1/00000000-new.png") | {"annotations": []}
    skipped = task(image="skipped.png")
    skipped["annotations"][0]["was_cancelled"] = True
    found = read(images, new, task(brush()), skipped)
    assert found.count == 1
    assert found.left_out == ("00000000-new.png", "skipped.png")


def test_of_several_annotations_the_ground_truth_counts(images: Path) -> None:
    twice = task(brush())
    empty = {"result": [], "was_cancelled": False, "ground_truth": False}
    twice["annotations"].append(empty)
    with pytest.raises(FormatError, match="task 12 has 2 annotations: mark one of them"):
        read(images, twice)
    twice["annotations"][0]["ground_truth"] = True
    (sample,) = read(images, twice).samples
    assert (mask_of(sample) == BLOB).all()


def test_what_is_said_besides_areas_is_passed_over(images: Path) -> None:
    words = region("textarea") | {"value": {"text": ["see Anna"]}}
    link = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    assert (mask(images, words, brush(), link) == BLOB).all()


def edited(change: Callable[[Any], Any]) -> Any:
    values = task(brush())
    change(values)
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("annotations"), "holds no Label Studio tasks .*export them as JSON"),
        (lambda t: t["data"].update(image="/data/upload/1/gone.png"), r"gone\.png, but"),
        (lambda t: t["data"].update(image="no picture"), "task 12 name 0 images"),
        (lambda t: t["data"].update(image="http://[x.png"), "task 12 name 0 images"),
        (
            lambda t: t["annotations"][0]["result"].append(brush() | {"original_width": 9}),
            "regions of tile.png are of images of two sizes",
        ),
        (lambda t: t.update(data={"a": "x.png", "b": "y.png"}), "task 12 name 2 images"),
        (
            lambda t: t["annotations"][0]["result"][0].update(type="keypointlabels"),
            "Dx_aB3 of tile.png is of type keypointlabels, which marks no area",
        ),
        (
            lambda t: t["annotations"][0]["result"][0].update(type="labels"),
            "Dx_aB3 of tile.png is of type labels",
        ),
        (
            lambda t: t["annotations"][0]["result"][0].update(image_rotation=90),
            "Dx_aB3 of tile.png was labelled on the image turned by 90°",
        ),
        (
            lambda t: t["annotations"][0]["result"][0]["value"].update(brushlabels=["a", "b"]),
            r"Dx_aB3 of tile.png must have one label, it has \['a', 'b'\]",
        ),
        (
            lambda t: t["annotations"][0]["result"][0]["value"].pop("brushlabels"),
            "must have one label, it has None",
        ),
        (
            lambda t: t["annotations"][0]["result"][0]["value"].update(rle=[300]),
            r"Dx_aB3 of tile.png: rle\.0: Input should be less than",
        ),
        (
            lambda t: t["annotations"][0]["result"][0]["value"].pop("format"),
            "Dx_aB3 of tile.png: format: Field required",
        ),
        (
            lambda t: t["annotations"][0]["result"][0]["value"].update(brushlabels=["*"]),
            "String should match",
        ),
    ],
)
def test_exports_that_cannot_be_are_refused(
    images: Path, change: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(FormatError, match=message) as error:
        read(images, edited(change))
    assert "export.json" in str(error.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (brush(BRUSH[:-5]), "cut short"),
        (brush([]), "cut short"),
        (brush([0, 0, 1, *BRUSH[3:]]), "448 values, not 4 for each of 8 × 6"),
        (region("polygonlabels", points=[[0, 0], [900, 0], [0, 9]]), "far outside"),
        (region("ellipselabels", x=5, y=5, radiusX=-1, radiusY=5), "positive radii"),
        (brush() | {"original_width": 9}, "is 9 × 6 pixels, but it is 8 × 6"),
    ],
)
def test_damaged_regions_are_refused(images: Path, bad: dict[str, Any], message: str) -> None:
    found = read(images, task(bad))
    with pytest.raises(FormatError, match=rf"export\.json.*tile\.png.*{message}"):
        list(found.samples)


def test_links_and_same_names_are_refused(images: Path, tmp_path: Path) -> None:
    one, other = task(brush(), image="a/tile.png"), task(brush(), image="b/tile.png")
    with pytest.raises(FormatError, match=r"tile\.png and tile\.png would both be the sample tile"):
        read(images, one, other)
    (images / "tile.png").rename(tmp_path / "tile.png")
    (images / "tile.png").symlink_to(tmp_path / "tile.png")
    with pytest.raises(FormatError, match=r"tile\.png is a link"):
        read(images, one)
