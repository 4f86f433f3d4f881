"""Bad input: each thing wrong is reported by file and reason, in one list, and nothing is taken."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defect_assets.dataset.delivery import (
    COMPLETE,
    DeliveryExists,
    DeliveryRefused,
    write_delivery,
)
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.ingest import ingest
from defect_assets.dataset.inspection import read_delivery
from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.settings import SettingsError
from defect_assets.store import Store


def _image(folder: Path, number: int = 0) -> Path:
    return sorted((folder / "images").iterdir())[number]


def _defective(folder: Path) -> str:
    table = pd.read_csv(folder / "samples.csv")
    return str(table.loc[table["class"] != "Free", "sample"].iloc[-1])


def _edit_samples(folder: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    table = edit(pd.read_csv(folder / "samples.csv", dtype=str, keep_default_na=False))
    table.to_csv(folder / "samples.csv", index=False)


def _reclassify(folder: Path, name: str) -> None:
    sample = _defective(folder)
    _edit_samples(
        folder, lambda t: t.assign(**{"class": t["class"].where(t["sample"] != sample, name)})
    )


def _truncate(folder: Path) -> str:
    image = _image(folder)
    image.write_bytes(image.read_bytes()[:2000])
    return "cannot be decoded"


def _garbage(folder: Path) -> str:
    _image(folder).write_bytes(b"no image")
    return "not an image of a known format"


def _empty_file(folder: Path) -> str:
    _image(folder).write_bytes(b"")
    return "the file is empty"


def _small_mask(folder: Path) -> str:
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(folder / f"masks/{_defective(folder)}.png")
    return "the mask is 20 × 10 pixels, the image"


def _lonely_mask(folder: Path) -> str:
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(folder / "masks" / "stranger.png")
    return "a mask without an image"


def _unknown_class(folder: Path) -> str:
    _reclassify(folder, "Dent")
    return "its class 'Dent' is not in the class map"


def _twice(folder: Path) -> str:
    image = _image(folder)
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(image.with_suffix(".png"))
    return "several files for one sample"


def _defect_without_mask(folder: Path) -> str:
    (folder / f"masks/{_defective(folder)}.png").unlink()
    return "but it has no mask"


def _free_with_defect(folder: Path) -> str:
    _reclassify(folder, "Free")
    return "but its mask is not empty"


def _empty(folder: Path) -> str:
    for path in [*(folder / "images").iterdir(), *(folder / "masks").iterdir()]:
        path.unlink()
    (folder / "samples.csv").unlink()
    return "the delivery is empty"


def _no_images_folder(folder: Path) -> str:
    (folder / "images").rename(folder / "pictures")
    return "a mask without an image"


def _row_without_image(folder: Path) -> str:
    _edit_samples(folder, lambda t: pd.concat([t, t.iloc[:1].assign(sample="ghost")]))
    return "ghost has no image"


def _row_twice(folder: Path) -> str:
    _edit_samples(folder, lambda t: pd.concat([t, t.iloc[:1]]))
    return "more than once"


def _row_missing(folder: Path) -> str:
    _edit_samples(folder, lambda t: t.iloc[1:])
    return "samples.csv has no row for it"


def _misspelled_column(folder: Path) -> str:
    _edit_samples(folder, lambda t: t.rename(columns={"group": "groups"}))
    return "unknown columns: groups"


def _semicolons(folder: Path) -> str:
    text = (folder / "samples.csv").read_text()
    (folder / "samples.csv").write_text(text.replace(",", ";"))
    return "no column 'sample', separated by commas"


def _faint_mask(folder: Path) -> str:
    path = folder / f"masks/{_defective(folder)}.png"
    with Image.open(path) as mask:
        ones = (np.asarray(mask) > 0).astype(np.uint8)
    Image.fromarray(ones).save(path)
    return "no pixel of the mask is above 127"


def _floating_point(folder: Path) -> str:
    image = _image(folder)
    image.unlink()
    Image.fromarray(np.zeros((300, 200), np.float32)).save(image.with_suffix(".tiff"))
    return "floating-point numbers"


def _link(folder: Path) -> str:
    (folder / "images" / "link.jpg").symlink_to("/etc/passwd")
    return "not a plain file"


def _other_file(folder: Path) -> str:
    (folder / "images" / "Thumbs.db").write_bytes(b"x")
    return "not an image file by its name"


def _unknown_key(folder: Path) -> str:
    (folder / "batch.yaml").write_text("nots: typo")
    return "nots: Extra inputs"


def _coloured_mask(folder: Path) -> str:
    sample = _defective(folder)
    with Image.open(folder / f"masks/{sample}.png") as mask:
        Image.new("RGB", mask.size, (255, 0, 0)).save(folder / f"masks/{sample}.png")
    return "coloured"


def _same_name_in_other_case(folder: Path) -> str:
    image = _image(folder)
    image.with_name(image.name.upper()).write_bytes(image.read_bytes())
    return "by case or Unicode form alone"


def _same_name_in_other_unicode_form(folder: Path) -> str:
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "é.jpg")
        (folder / "images" / name).write_bytes(_image(folder).read_bytes())
    return "by case or Unicode form alone"


def _device(folder: Path) -> str:
    os.mkfifo(folder / "images" / "pipe.jpg")
    return "not a plain file"


def _linked_folder(folder: Path) -> str:
    (folder / "masks").rename(folder.with_name("elsewhere"))
    (folder / "masks").symlink_to(folder.with_name("elsewhere"))
    return "not a plain folder"


def _line_break_in_name(folder: Path) -> str:
    (folder / "images" / "a\nb.jpg").write_bytes(_image(folder).read_bytes())
    return "cannot be that of a sample"


def _removed_and_delivered(folder: Path) -> str:
    (folder / "batch.yaml").write_text(f"remove: [{_image(folder).stem}]")
    return "is delivered, too"


FAULTS = [
    _same_name_in_other_case,
    _same_name_in_other_unicode_form,
    _device,
    _linked_folder,
    _line_break_in_name,
    _removed_and_delivered,
    _truncate,
    _garbage,
    _empty_file,
    _small_mask,
    _lonely_mask,
    _unknown_class,
    _twice,
    _defect_without_mask,
    _free_with_defect,
    _empty,
    _no_images_folder,
    _row_without_image,
    _row_twice,
    _row_missing,
    _misspelled_column,
    _semicolons,
    _faint_mask,
    _floating_point,
    _link,
    _other_file,
    _unknown_key,
    _coloured_mask,
]


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.is_symlink()
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__.strip("_"))
def test_a_fault_is_named_and_nothing_is_taken(
    delivery: Path,
    store: Store,
    description: DatasetDescription,
    tmp_path: Path,
    fault: Callable[[Path], str],
) -> None:
    says = fault(delivery)
    before = _contents(delivery)
    with pytest.raises(DeliveryRefused) as refused:
        ingest(store, delivery, description)
    assert any(says in problem.reason for problem in refused.value.problems)
    assert says in str(refused.value)
    assert _contents(delivery) == before
    # Nothing but the mark of who was about to write.
    assert {path.name for path in (tmp_path / "store").glob("*")} <= {"leases"}


def test_all_faults_stand_in_one_list(delivery: Path, description: DatasetDescription) -> None:
    faults = [_garbage, _lonely_mask, _other_file, _unknown_class]
    says = [fault(delivery) for fault in faults]
    with pytest.raises(DeliveryRefused) as refused:
        read_delivery(delivery, description)
    reasons = [problem.reason for problem in refused.value.problems]
    assert len(reasons) == len(faults)
    assert all(any(text in reason for reason in reasons) for text in says)


def test_a_sound_delivery_is_read_whole(delivery: Path, description: DatasetDescription) -> None:
    read = read_delivery(delivery, description)
    assert read.name == "first"
    assert read.notes == "tiles from 1"
    assert len(read.samples) == 36
    assert {s.group for s in read.samples} == {f"tile-{n:04d}" for n in range(1, 13)}
    assert {s.exposure for s in read.samples} == {"exp1", "exp2", "exp3"}


def test_without_a_table_one_class_is_enough(
    delivery: Path, description: DatasetDescription
) -> None:
    (delivery / "samples.csv").unlink()
    with pytest.raises(DeliveryRefused, match="gives no class"):
        read_delivery(delivery, description)
    one = description.model_copy(update={"classes": description.classes[:1]})
    read = read_delivery(delivery, one)
    assert {s.class_name for s in read.samples} == {"Blowhole", "Free"}
    assert all(s.group == "" for s in read.samples)


def test_a_delivery_appears_whole_or_not_at_all(inbox: Path) -> None:
    def interrupted():
        yield from synthetic_samples(0, 1, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_delivery(inbox, "broken", interrupted(), "")
    assert list(inbox.glob("[!.]*")) == []
    write_delivery(inbox, "broken", synthetic_samples(0, 1, 1), "")
    assert (inbox / "broken" / COMPLETE).exists()
    with pytest.raises(DeliveryExists):
        write_delivery(inbox, "broken", synthetic_samples(0, 1, 1), "")


@pytest.mark.parametrize("name", ["../out", "/abs", "a/b", ".hidden", "a\\b", "", "a" * 101, "a\n"])
def test_a_name_that_leaves_the_inbox_is_refused(inbox: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(SettingsError, match="cannot be the name of a delivery"):
        write_delivery(inbox, name, synthetic_samples(0, 1, 1), "")
    assert (tmp_path / "out").exists()
