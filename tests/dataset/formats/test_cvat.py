from pathlib import Path

import numpy as np
import pytest

from defect_assets.dataset.formats.cvat import read_cvat
from defect_assets.dataset.formats.imported import FormatError, Imported
from tests.dataset.formats.conftest import drawn, mask_of, picture

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>4</id>
      <name>line 2</name>
      <labels>
        <label><name>scratch</name><type>any</type><attributes></attributes></label>
        <label><name>dent</name><type>mask</type><attributes></attributes></label>
        <label><name>good</name><type>tag</type><attributes></attributes></label>
        <label><name>s1</name><type>skeleton</type><attributes></attributes></label>
        <label><name>knee</name><type>any</type><parent>s1</parent></label>
      </labels>
    </task>
  </meta>
"""
DOCUMENTED = drawn(
    "...#####.....",
    "..#######....",
    ".#########...",
    "###########..",
    "###########..",
    "############.",
    "############.",
    "#############",
    "#############",
    ".############",
    ".############",
    "..###########",
    "...#########.",
    "....#######..",
    ".....#####...",
)
"""What the example of a mask in CVAT's documentation shows, the rear light of a car."""


def read(
    images: Path, shapes: str, size: str = 'width="8" height="6"', name: str = "tile.png"
) -> Imported:
    path = images.parent / "annotations.xml"
    image = f'<image id="0" name="{name}" {size}>\n{shapes}\n</image>'
    path.write_text(f"{HEAD}{image}\n</annotations>")
    return read_cvat(path, images, "parts")


def mask(images: Path, shapes: str, size: str = 'width="8" height="6"') -> np.ndarray:
    (sample,) = read(images, shapes, size).samples
    return mask_of(sample)


def test_labels_that_may_mark_an_area_are_the_classes(images: Path) -> None:
    found = read(images, '<tag label="good" source="manual"></tag>')
    assert found.description.class_map == {1: "scratch", 2: "dent"}
    (sample,) = found.samples
    assert (sample.sample, sample.mask) == ("tile", None)
    assert sample.image == (images / "tile.png").read_bytes()


def test_the_mask_of_the_documentation_is_read(images: Path) -> None:
    (images / "tile.png").write_bytes(picture(20, 30))
    shape = (
        '<mask label="dent" source="manual" occluded="0" rle="3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, '
        "12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, 5, 7, 7, 5, 3"
        '" left="7" top="4" width="13" height="15" z_order="0"></mask>'
    )
    expected = np.zeros((20, 30), np.uint8)
    expected[4:19, 7:20] = 2 * DOCUMENTED
    assert (mask(images, shape, 'width="30" height="20"') == expected).all()


def test_a_polygon_and_a_box_are_filled(images: Path) -> None:
    shapes = """
    <polygon label="scratch" source="manual" points="1.00,1.00;4.00,1.00;4.00,3.00;1.00,3.00"
      occluded="0" z_order="0"></polygon>
    <box label="dent" source="manual" xtl="5.00" ytl="2.00" xbr="8.00" ybr="6.00" occluded="0"
      z_order="0"><attribute name="deep">yes</attribute></box>
    """
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 1:4] = 1
    expected[2:6, 5:8] = 2
    assert (mask(images, shapes) == expected).all()


def test_a_turned_box_turns_about_its_centre(images: Path) -> None:
    (images / "tile.png").write_bytes(picture(20, 20))
    box = '<box label="scratch" xtl="4" ytl="9" xbr="16" ybr="11" rotation="{}" z_order="0"></box>'
    size = 'width="20" height="20"'
    lying = np.zeros((20, 20), np.uint8)
    lying[9:11, 4:16] = 1
    assert (mask(images, box.format("0.0"), size) == lying).all()
    assert (mask(images, box.format("90.0"), size) == lying.T).all()
    # Clockwise, as y goes down: at 45 degrees it falls from left to right.
    falling = mask(images, box.format("45.0"), size)
    assert falling[6, 6] == falling[13, 13] == 1
    assert falling[6, 13] == falling[13, 6] == 0
    assert abs(int(falling.sum()) - 24) <= 4


def test_an_ellipse_is_the_pixels_whose_centres_it_holds(images: Path) -> None:
    (images / "tile.png").write_bytes(picture(20, 30))
    ellipse = (
        '<ellipse label="scratch" cx="15.00" cy="10.00" rx="9.00" ry="4.00" rotation="{}" '
        'z_order="0"></ellipse>'
    )
    size = 'width="30" height="20"'
    y, x = np.mgrid[:20, :30] + 0.5
    lying = ((x - 15) / 9) ** 2 + ((y - 10) / 4) ** 2 <= 1
    assert (mask(images, ellipse.format(0), size) == lying).all()
    standing = ((x - 15) / 4) ** 2 + ((y - 10) / 9) ** 2 <= 1
    assert (mask(images, ellipse.format(90), size) == standing).all()
    falling = mask(images, ellipse.format(45), size)
    assert falling[5, 10] == falling[14, 19] == 1
    assert falling[5, 19] == falling[14, 10] == 0


@pytest.mark.parametrize(
    ("first", "second", "wins"), [(0, 0, 2), (0, 1, 2), (1, 0, 1), (-1, -2, 1)]
)
def test_the_higher_z_order_wins_and_of_equal_ones_the_later(
    images: Path, first: int, second: int, wins: int
) -> None:
    box = '<box label="{}" xtl="{}" ytl="0" xbr="{}" ybr="6" z_order="{}"></box>'
    shapes = box.format("scratch", 0, 5, first) + box.format("dent", 3, 8, second)
    expected = np.repeat([[1, 1, 1, wins, wins, 2, 2, 2]], 6, axis=0)
    assert (mask(images, shapes) == expected).all()


def test_a_file_without_labels_has_those_of_its_shapes(images: Path) -> None:
    read(images, '<box label="dent" xtl="0" ytl="0" xbr="5" ybr="6" z_order="0"></box>')
    path = images.parent / "annotations.xml"
    text = path.read_text()
    path.write_text(text[: text.index("  <meta>")] + text[text.index("<image") :])
    assert read_cvat(path, images, "parts").description.class_map == {1: "dent"}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            '<polyline label="scratch" points="1,1;2,2"/>',
            "the polyline at place 1 of tile.png mark",
        ),
        ('<points label="scratch" points="1,1"/>', "points at place 1 of tile.png marks no area"),
        ('<cuboid label="scratch" xtl1="1"/>', "the cuboid at place 1 of tile.png marks no area"),
        ('<skeleton label="s1"/>', "the skeleton at place 1 of tile.png marks no area"),
        ('<polygon label="scratch"/>', "the polygon at place 1 of tile.png: points: Field requir"),
        ('<box label="scratch" xtl="a" ytl="0" xbr="5" ybr="6"/>', "box at place 1 .* xtl: Input"),
        (
            '<box label="good" xtl="0" ytl="0" xbr="5" ybr="6"/>',
            "labelled 'good', which is none of",
        ),
    ],
)
def test_shapes_that_cannot_be_are_refused(images: Path, shapes: str, message: str) -> None:
    with pytest.raises(FormatError, match=rf"annotations\.xml: .*{message}"):
        read(images, shapes)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<polygon label="dent" points="1,1;2,2;x"/>', "its points are not x,y"),
        ('<polygon label="dent" points="1,1;2,2"/>', "three points"),
        ('<polygon label="dent" points="1,1;2,2;nan,1"/>', "far outside"),
        ('<polygon label="dent" points="1,1;2,2;9999,1"/>', "far outside"),
        ('<ellipse label="dent" cx="1" cy="1" rx="0" ry="2"/>', "positive radii"),
        ('<ellipse label="dent" cx="1" cy="1" rx="0.1" ry="0.1"/>', "covers no pixel"),
        ('<mask label="dent" rle="1, 2" left="0" top="0" width="2" height="2"/>', "of 3 pixels"),
        ('<mask label="dent" rle="1, b" left="0" top="0" width="2" height="2"/>', "its rle is not"),
        ('<mask label="dent" rle="0, 4" left="7" top="0" width="2" height="2"/>', "not inside"),
        ('<mask label="dent" rle="0, 4" left="-1" top="0" width="2" height="2"/>', "not inside"),
    ],
)
def test_damaged_shapes_are_refused(images: Path, shape: str, message: str) -> None:
    with pytest.raises(
        FormatError, match=rf"annotations\.xml: .* place 1 of tile\.png: .*{message}"
    ):
        list(read(images, shape).samples)


def test_other_files_are_refused(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "annotations.xml"
    with pytest.raises(FormatError, match="No such file"):
        read_cvat(path, images, "parts")
    path.write_text("{}")
    with pytest.raises(FormatError, match="is not XML"):
        read_cvat(path, images, "parts")
    path.write_text("<annotation/>")
    with pytest.raises(FormatError, match="export the task as that"):
        read_cvat(path, images, "parts")
    path.write_text('<annotations><track id="0" label="scratch"/></annotations>')
    with pytest.raises(FormatError, match="export the task as that"):
        read_cvat(path, images, "parts")


@pytest.mark.parametrize("name", ["../images/tile.png", "/tile.png", "gone.png"])
def test_images_elsewhere_are_refused(images: Path, name: str) -> None:
    with pytest.raises(FormatError, match=f"{name}.*(leaves the folder|does not hold it)"):
        read(images, "", name=name)


def test_an_image_of_another_size_is_refused(images: Path) -> None:
    with pytest.raises(FormatError, match=r"tile\.png is 8 × 7 pixels, but it is 8 × 6"):
        list(read(images, "", 'width="8" height="7"').samples)
