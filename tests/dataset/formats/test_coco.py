import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from defect_assets.dataset.delivery import write_delivery
from defect_assets.dataset.description import DatasetDescription, DefectClass
from defect_assets.dataset.formats.coco import read_coco, write_coco
from defect_assets.dataset.formats.imported import FormatError
from defect_assets.dataset.inspection import read_delivery
from tests.dataset.formats.conftest import (
    DESCRIPTION,
    drawn,
    exported,
    mask_of,
    masks,
    picture,
)

BLOB = drawn(
    "........",
    "..##....",
    ".####...",
    ".#.###..",
    "..####..",
    "........",
)


def instances(*segmentations: Any, categories: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "tile.png", "height": 6, "width": 8}],
        "categories": [{"id": 30, "name": "dent"}, {"id": 4, "name": "scratch"}],
        "annotations": [
            {
                "id": i,
                "image_id": 7,
                "category_id": categories[i - 1] if categories else 4,
                "segmentation": segmentation,
                "bbox": [0, 0, 1, 1],
                "iscrowd": 0,
            }
            for i, segmentation in enumerate(segmentations, start=1)
        ],
    }


def write(folder: Path, values: Any) -> Path:
    path = folder.parent / "instances.json"
    path.write_text(json.dumps(values))
    return path


def read_mask(images: Path, values: Any) -> np.ndarray:
    (sample,) = read_coco(write(images, values), images, "parts").samples
    return mask_of(sample)


def test_a_polygon_is_filled(images: Path) -> None:
    square = [1, 1, 4, 1, 4, 3, 1, 3]
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 1:4] = 1
    assert (read_mask(images, instances([square])) == expected).all()


def test_parts_of_an_annotation_are_united(images: Path) -> None:
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 1:4] = expected[4:6, 5:8] = 1
    both = [[1, 1, 4, 1, 4, 3, 1, 3], [5, 4, 8, 4, 8, 6, 5, 6]]
    assert (read_mask(images, instances(both)) == expected).all()


def test_compressed_and_uncompressed_run_lengths_are_read(images: Path) -> None:
    compressed = coco_masks.encode(np.asfortranarray(BLOB))["counts"].decode()
    assert (read_mask(images, instances({"size": [6, 8], "counts": compressed})) == BLOB).all()
    down = BLOB.ravel(order="F")
    edges = np.flatnonzero(np.diff(down)) + 1
    runs = np.diff([0, *edges, down.size]).tolist()
    assert (read_mask(images, instances({"size": [6, 8], "counts": runs})) == BLOB).all()


@given(masks.map(lambda mask: (mask > 1).astype(np.uint8)))
def test_compressed_run_lengths_are_as_pycocotools_has_them(mask: np.ndarray) -> None:
    height, width = mask.shape
    counts = coco_masks.encode(np.asfortranarray(mask))["counts"].decode()
    values = instances({"size": [height, width], "counts": counts})
    values["images"][0] |= {"height": height, "width": width}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        (images / "tile.png").write_bytes(picture(height, width))
        (sample,) = read_coco(write(images, values), images, "parts").samples
    assert (mask_of(sample) == mask).all() if mask.any() else sample.mask is None


def test_where_areas_overlap_the_later_wins(images: Path) -> None:
    first, second = [[0, 0, 4, 0, 4, 4, 0, 4]], [[2, 2, 6, 2, 6, 6, 2, 6]]
    expected = np.zeros((6, 8), np.uint8)
    expected[0:4, 0:4] = 1
    expected[2:6, 2:6] = 2
    assert (read_mask(images, instances(first, second, categories=(4, 30))) == expected).all()


def test_the_description_and_the_image_are_the_sources(images: Path) -> None:
    found = read_coco(write(images, instances()), images, "parts")
    assert found.description.class_map == {1: "scratch", 2: "dent"}
    assert found.description.masks == "indexed"
    (sample,) = found.samples
    assert (sample.sample, sample.image_suffix, sample.mask) == ("tile", ".png", None)
    assert sample.image == (images / "tile.png").read_bytes()
    assert found.count == 1


def test_what_is_read_is_a_sound_delivery(images: Path, tmp_path: Path, inbox: Path) -> None:
    (images / "free.png").write_bytes(picture(6, 8, seed=1))
    values = instances({"size": [6, 8], "counts": [7, 3, 38]})
    values["images"].append({"id": 8, "file_name": "free.png", "height": 6, "width": 8})
    found = read_coco(write(images, values), images, "parts")
    folder = write_delivery(inbox, "coco", found.samples, "")
    read = read_delivery(folder, found.description).samples
    assert {s.sample: s.class_name for s in read} == {"tile": "scratch", "free": "defect-free"}


def test_images_join_a_known_dataset(images: Path) -> None:
    known = DESCRIPTION.model_copy(
        update={
            "classes": (
                *DESCRIPTION.classes[:1],
                DefectClass(id=2, name="dent", color="#000000", value=200),
            )
        }
    )
    annotations = write(images, instances([[0, 0, 8, 0, 8, 6, 0, 6]], categories=(30,)))
    found = read_coco(annotations, images, "parts", known)
    assert found.description is known
    assert (mask_of(next(found.samples)) == 200).all()


def test_images_join_a_dataset_of_soft_masks_with_one_class_each(images: Path) -> None:
    soft = DatasetDescription(name="parts", classes=DESCRIPTION.classes)
    square, other = [[0, 0, 4, 0, 4, 4, 0, 4]], [[4, 4, 8, 4, 8, 6, 4, 6]]
    annotations = write(images, instances(square, categories=(30,)))
    (sample,) = read_coco(annotations, images, "parts", soft).samples
    assert sample.class_name == "dent"
    assert set(np.unique(mask_of(sample))) == {0, 255}
    annotations = write(images, instances(square, other, categories=(30, 4)))
    with pytest.raises(FormatError, match="tile.png shows scratch, dent, but masks of parts are"):
        list(read_coco(annotations, images, "parts", soft).samples)


@given(st.lists(masks, min_size=1, max_size=4))
def test_what_is_written_is_read_again(written: list[np.ndarray]) -> None:
    samples = [
        exported(mask, f"part-{i}", i, group=f"g{i}", exposure="dark")
        for i, mask in enumerate(written)
    ]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "coco"
        write_coco(folder, DESCRIPTION, iter(samples))
        found = read_coco(folder / "annotations" / "instances.json", folder / "images", "parts")
        read = list(found.samples)
    assert found.description.class_map == DESCRIPTION.class_map
    for sample, back in zip(samples, read, strict=True):
        assert (back.mask is None) == (not sample.mask.any())
        if back.mask is not None:
            assert (mask_of(back) == sample.mask).all()
        assert (back.sample, back.group, back.exposure) == (sample.sample, sample.group, "dark")
        assert back.image == sample.image


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    mask = drawn(
        "##....22",
        "##....22",
        "..#.....",
        "....#.33",
        "33333333",
    )
    write_coco(tmp_path / "coco", DESCRIPTION, [exported(mask, part="val")])
    coco = COCO(tmp_path / "coco" / "annotations" / "instances_val.json")
    found = coco.loadAnns(coco.getAnnIds())
    # A corner connects: the first five pixels of class 1 are one region.
    assert [(a["category_id"], a["area"]) for a in found] == [(1, 5), (1, 1), (2, 4), (3, 10)]
    assert found[0]["bbox"] == [0, 0, 3, 3]
    painted = np.zeros_like(mask)
    for annotation in found:
        painted[coco.annToMask(annotation) > 0] = annotation["category_id"]
    assert (painted == mask).all()


def test_each_part_has_its_file(tmp_path: Path) -> None:
    parts = ("train", "val", "test", "train")
    samples = [exported(drawn(".#"), f"p{i}", part=part) for i, part in enumerate(parts)]
    write_coco(tmp_path / "coco", DESCRIPTION, samples)
    files = sorted((tmp_path / "coco" / "annotations").iterdir())
    assert [f.name for f in files] == [f"instances_{p}.json" for p in ("test", "train", "val")]
    names = [i["file_name"] for i in json.loads(files[1].read_text())["images"]]
    assert names == ["p0.png", "p3.png"]


def test_an_interrupted_export_leaves_nothing(tmp_path: Path) -> None:
    def stops() -> Any:
        yield exported(drawn(".#"))
        assert not (tmp_path / "coco").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_coco(tmp_path / "coco", DESCRIPTION, stops())
    assert list(tmp_path.iterdir()) == []


def test_exports_that_cannot_be_are_refused(tmp_path: Path) -> None:
    sample = exported(drawn(".#"))
    with pytest.raises(FormatError, match=r"two samples would both be written as images/part-1"):
        write_coco(tmp_path / "a", DESCRIPTION, [sample, sample])
    with pytest.raises(FormatError, match="no sample"):
        write_coco(tmp_path / "a", DESCRIPTION, [])
    for name in ("../out.png", "a/b.png", "a\\b.png", "..", ""):
        with pytest.raises(FormatError, match="cannot be the name of a file"):
            write_coco(tmp_path / "a", DESCRIPTION, [exported(drawn("#"), image_name=name)])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(FormatError, match="exists already"):
        write_coco(tmp_path / "full", DESCRIPTION, [sample])
    (tmp_path / "empty").mkdir()
    write_coco(tmp_path / "empty", DESCRIPTION, [sample])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "full"]


def edited(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    values = instances([[1, 1, 4, 1, 4, 3, 1, 3]])
    change(values)
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("categories"), "holds no COCO instance annotations: categories"),
        (lambda v: v["images"].append(v["images"][0]), "one id for several images"),
        (lambda v: v["categories"].append(v["categories"][0]), "one id for several images"),
        (lambda v: v["categories"][0].update(name="scratch"), "must differ"),
        (lambda v: v["categories"][0].update(name="a/b"), "String should match"),
        (lambda v: v["annotations"][0].update(image_id=1), "annotation 1 is of image 1"),
        (lambda v: v["annotations"][0].update(category_id=1), "annotation 1 is of category 1"),
        (lambda v: v["annotations"][0].update(segmentation=[]), "annotation 1 has a box alone"),
        (lambda v: v["images"][0].update(file_name="gone.png"), r"gone\.png, but .* does not hold"),
        (lambda v: v["images"][0].update(file_name="a.txt"), r"a\.txt, no image file"),
        (lambda v: v["images"][0].update(file_name="../images/tile.png"), "leaves the folder"),
        (lambda v: v["images"][0].update(file_name="..\\images\\tile.png"), "leaves the folder"),
        (lambda v: v["images"][0].update(file_name="/etc/tile.png"), "leaves the folder"),
        (lambda v: v["images"][0].update(file_name="C:\\tile.png"), "leaves the folder"),
        (lambda v: v["images"][0].update(file_name="a\0.png"), "leaves the folder"),
        (lambda v: v["images"][0].update(file_name=""), "leaves the folder"),
        (lambda v: v.update(images=[], annotations=[]), "holds no labelled image"),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    images: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises(FormatError, match=message) as error:
        read_coco(write(images, edited(change)), images, "parts")
    assert "instances.json" in str(error.value)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, 4, 1]], "needs three points, it has 2"),
        ([[1, 1, 4, 1, 4, 4, 1]], "an odd number"),
        ([[1, 1, 4, 1, 4, 1e9]], "far outside"),
        ([[2.1, 2.1, 2.2, 2.1, 2.2, 2.2]], "covers no pixel"),
        ({"size": [8, 6], "counts": [48]}, "its mask is 6 × 8, the image 8 × 6"),
        ({"size": [6, 8], "counts": [40]}, "run lengths are of 40 pixels"),
        ({"size": [6, 8], "counts": [50, -2]}, "run lengths are of 48 pixels"),
        ({"size": [6, 8], "counts": ""}, "run lengths are of 0 pixels"),
        ({"size": [6, 8], "counts": "0"}, "run lengths are of 0 pixels"),
        ({"size": [6, 8], "counts": "0o"}, "damaged"),
        ({"size": [6, 8], "counts": "\u00e9"}, "damaged"),
        ({"size": [6, 8], "counts": "oooooooooo0"}, "damaged"),
    ],
)
def test_damaged_areas_are_refused(images: Path, segmentation: Any, message: str) -> None:
    found = read_coco(write(images, instances(segmentation)), images, "parts")
    with pytest.raises(FormatError, match=rf"annotation 1 of tile\.png: .*{message}"):
        list(found.samples)


def test_an_image_of_another_size_is_refused(images: Path) -> None:
    (images / "tile.png").write_bytes(picture(5, 8))
    found = read_coco(write(images, instances()), images, "parts")
    with pytest.raises(FormatError, match=r"tile\.png is 8 × 6 pixels, but it is 8 × 5"):
        list(found.samples)


def test_an_image_that_is_none_is_refused(images: Path) -> None:
    (images / "tile.png").write_bytes(b"no image")
    found = read_coco(write(images, instances()), images, "parts")
    with pytest.raises(FormatError, match=r"tile\.png: it is not an image"):
        list(found.samples)


def test_two_images_of_one_stem_are_refused(images: Path) -> None:
    (images / "night").mkdir()
    (images / "night" / "tile.jpg").write_bytes(picture(6, 8, "JPEG"))
    values = instances()
    values["images"].append({"id": 8, "file_name": "night/tile.jpg", "height": 6, "width": 8})
    with pytest.raises(
        FormatError, match=r"tile\.png and night/tile\.jpg would both be the sample tile"
    ):
        read_coco(write(images, values), images, "parts")


def test_links_are_refused(images: Path, tmp_path: Path) -> None:
    (images / "tile.png").rename(tmp_path / "tile.png")
    (images / "tile.png").symlink_to(tmp_path / "tile.png")
    with pytest.raises(FormatError, match=r"tile\.png is a link"):
        read_coco(write(images, instances()), images, "parts")
    (images / "linked").symlink_to(tmp_path)
    values = edited(lambda v: v["images"][0].update(file_name="linked/tile.png"))
    with pytest.raises(FormatError, match=r"linked/tile\.png is a link"):
        read_coco(write(images, values), images, "parts")


def test_a_label_that_the_known_dataset_lacks_is_refused(images: Path) -> None:
    known = DESCRIPTION.model_copy(update={"classes": DESCRIPTION.classes[:1]})
    annotations = write(images, instances([[1, 1, 4, 1, 4, 3]], categories=(30,)))
    with pytest.raises(FormatError, match="labelled 'dent', which is none of the classes scratch"):
        read_coco(annotations, images, "parts", known)


def test_what_is_no_file_or_no_json_is_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"none\.json: No such file"):
        read_coco(tmp_path / "none.json", images, "parts")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(FormatError, match=r"broken\.json holds no COCO"):
        read_coco(tmp_path / "broken.json", images, "parts")
