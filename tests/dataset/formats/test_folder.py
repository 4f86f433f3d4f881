import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.dataset.delivery import DeliveredSample
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats import folder as importer
from defect_assets.dataset.formats.folder import write_folder
from defect_assets.dataset.formats.imported import FormatError
from defect_assets.dataset.formats.sample import ExportedSample
from defect_assets.dataset.masks import decode_mask
from tests.dataset.formats.conftest import DESCRIPTION, drawn, exported, masks


def imported_again(
    samples: list[ExportedSample], description: DatasetDescription = DESCRIPTION
) -> tuple[list[DeliveredSample], DatasetDescription]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "parts"
        write_folder(folder, description, iter(samples))
        again = importer.describe("parts", folder / "classes.yaml")
        return importer.delivered(folder, again), again


@given(st.lists(masks, min_size=1, max_size=4))
def test_what_is_written_is_imported_again(written: list[np.ndarray]) -> None:
    samples = [
        exported(mask, f"part-{i}", i, group=f"g{i}", exposure="dark")
        for i, mask in enumerate(written)
    ]
    read, description = imported_again(samples)
    assert description.class_map == DESCRIPTION.class_map
    for sample, back in zip(samples, read, strict=True):
        mask = decode_mask(back.mask, back.class_name, sample.mask.shape, description)
        assert (mask == sample.mask).all()
        assert (back.sample, back.class_name) == (sample.sample, sample.class_name)
        assert (back.group, back.exposure) == (sample.group, "dark")
        assert back.image == sample.image


@given(masks.map(lambda mask: (mask > 1).astype(np.uint8)))
def test_one_class_is_written_as_a_soft_mask(mask: np.ndarray) -> None:
    one = DESCRIPTION.model_copy(update={"classes": DESCRIPTION.classes[:1], "defect_free": "Free"})
    sample = exported(mask, "part-1")
    (back,), description = imported_again([sample], one)
    assert (decode_mask(back.mask, back.class_name, mask.shape, description) == mask).all()


def test_the_word_for_no_defect_is_the_importers(tmp_path: Path) -> None:
    tiles = DESCRIPTION.model_copy(update={"defect_free": "Free"})
    free = exported(drawn("..."), "free")
    free = ExportedSample(**{**vars(free), "class_name": "Free"})
    read, _ = imported_again([free, exported(drawn(".##2"), "scratched")], tiles)
    assert [(s.sample, s.class_name) for s in read] == [
        ("free", "defect-free"),
        ("scratched", "scratch"),
    ]


def test_images_are_named_by_their_samples(tmp_path: Path) -> None:
    write_folder(tmp_path / "parts", DESCRIPTION, [exported(drawn("#"), image_name="IMG 1.jpeg")])
    assert [p.name for p in (tmp_path / "parts" / "images").iterdir()] == ["part-1.jpeg"]


def test_exports_that_cannot_be_are_refused(tmp_path: Path) -> None:
    sample = exported(drawn("#"))
    with pytest.raises(FormatError, match="no sample"):
        write_folder(tmp_path / "parts", DESCRIPTION, [])
    with pytest.raises(FormatError, match=r"both be written as images/part-1\.png"):
        write_folder(tmp_path / "parts", DESCRIPTION, [sample, sample])
    assert list(tmp_path.iterdir()) == []
