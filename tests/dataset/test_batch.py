import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from defect_assets.dataset.batch import Batch, read_batch
from defect_assets.dataset.delivery import DeliveryRefused
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import read_images
from defect_assets.dataset.ingest import ingest
from defect_assets.dataset.order import ordered_batches
from defect_assets.inference.images import decode_image
from defect_assets.store import Record, Store
from tests.conftest import deliver


def _name(store: Store, batch: Batch) -> None:
    content = store.objects.put_json(batch.model_dump(mode="json"))
    store.publish_once(f"batches/{batch.id}", Record(asset="raw_images", content=content))


def test_what_is_taken_in_comes_back_bit_by_bit(
    delivery: Path, store: Store, description: DatasetDescription
) -> None:
    batch = ingest(store, delivery, description)
    table = store.objects.get_table(batch.rows)
    assert len(table) == sum(batch.counts.values()) == 36
    for row in table.to_pylist():
        assert (
            store.objects.get(row["image"])
            == (delivery / "images" / row["image_name"]).read_bytes()
        )
        assert (row["height"], row["width"]) == decode_image(store.objects.get(row["image"])).shape


def test_to_take_in_twice_changes_nothing(
    delivery: Path, store: Store, description: DatasetDescription, tmp_path: Path
) -> None:
    first = ingest(store, delivery, description)
    files = sorted((tmp_path / "store").rglob("*"))
    assert ingest(store, delivery, description) == first
    assert sorted((tmp_path / "store").rglob("*")) == files


def test_the_order_of_files_makes_no_difference(
    delivery: Path, store: Store, description: DatasetDescription
) -> None:
    first = ingest(store, delivery, description)
    images = sorted((delivery / "images").iterdir(), reverse=True)
    for image in images:  # new directory entries, in another order
        moved = image.with_name(f"tmp-{image.name}")
        image.rename(moved)
        moved.rename(image)
    lines = (delivery / "samples.csv").read_text().splitlines()
    (delivery / "samples.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert ingest(store, delivery, description) == first


def test_other_content_under_a_known_id_is_refused(
    delivery: Path, inbox: Path, store: Store, description: DatasetDescription
) -> None:
    _name(store, ingest(store, delivery, description))
    second = deliver(inbox, "second", 12, 2)  # tile 12 again, and 13
    assert ingest(store, second, description).counts
    victim = next((second / "images").glob("tile-0012-exp1.*"))
    shutil.copy(next((second / "images").glob("tile-0013-exp1.*")), victim)
    shutil.copy(second / "masks" / "tile-0013-exp1.png", second / "masks" / "tile-0012-exp1.png")
    table = (second / "samples.csv").read_text().splitlines()
    row13 = next(line for line in table if line.startswith("tile-0013-exp1"))
    table = [
        row13.replace("tile-0013-exp1", "tile-0012-exp1")
        if line.startswith("tile-0012-exp1")
        else line
        for line in table
    ]
    (second / "samples.csv").write_text("\n".join(table) + "\n")
    with pytest.raises(DeliveryRefused, match="already known from first, with other content"):
        ingest(store, second, description)
    assert [pin.id for pin in ordered_batches(store)] == ["first"]


def test_batches_are_found_by_name(
    delivery: Path, store: Store, description: DatasetDescription
) -> None:
    batch = ingest(store, delivery, description)
    _name(store, batch)
    [pin] = ordered_batches(store)
    assert pin.id == "first"
    assert read_batch(store, pin.digest) == batch


def test_images_come_back_with_their_masks(
    delivery: Path, store: Store, description: DatasetDescription
) -> None:
    table = store.objects.get_table(ingest(store, delivery, description).rows)
    images = list(read_images(store, table, description))
    assert [i.sample for i in images] == table["sample"].to_pylist()
    for image in images:
        assert image.mask.shape == image.image.shape[:2]
        found = set(image.mask[image.mask > 0].tolist())
        expected = description.class_ids[image.class_name]
        assert found == ({expected} if expected else set())


def test_a_correction_need_not_repeat_the_part(
    delivery: Path, inbox: Path, store: Store, description: DatasetDescription
) -> None:
    _name(store, ingest(store, delivery, description))
    before = (
        store.objects.get_table(read_batch(store, ordered_batches(store)[0].digest).rows)
        .to_pandas()
        .set_index("sample")
    )
    fixed = inbox / "fixed"
    shutil.copytree(delivery, fixed)
    table = pd.read_csv(fixed / "samples.csv", dtype=str)
    table[["sample", "class"]].to_csv(fixed / "samples.csv", index=False)
    after = (
        store.objects.get_table(ingest(store, fixed, description).rows)
        .to_pandas()
        .set_index("sample")
    )
    assert (after["group"] == before["group"]).all()
    assert (after["exposure"] == before["exposure"]).all()


def test_a_new_sample_without_a_part_is_one_of_its_own(
    delivery: Path, store: Store, description: DatasetDescription
) -> None:
    table = pd.read_csv(delivery / "samples.csv", dtype=str)
    table[["sample", "class"]].to_csv(delivery / "samples.csv", index=False)
    rows = store.objects.get_table(ingest(store, delivery, description).rows)
    assert rows["group"].equals(rows["sample"])


def test_one_image_in_two_parts_is_refused(
    delivery: Path, inbox: Path, store: Store, description: DatasetDescription
) -> None:
    _name(store, ingest(store, delivery, description))
    copied = inbox / "copied"
    shutil.copytree(delivery, copied)
    for folder in ("images", "masks"):
        for path in (copied / folder).iterdir():
            path.rename(path.with_name(f"again-{path.name}"))
    table = pd.read_csv(copied / "samples.csv", dtype=str)
    table["sample"] = "again-" + table["sample"]
    table.to_csv(copied / "samples.csv", index=False)
    assert ingest(store, copied, description).counts  # the same part: no leak
    table["group"] = "again-" + table["group"]
    table.to_csv(copied / "samples.csv", index=False)
    with pytest.raises(DeliveryRefused, match="the same image as tile-0001-exp1") as refused:
        ingest(store, copied, description)
    assert len(refused.value.problems) == 36


def _deliver_masks(inbox: Path, name: str, masks: dict[str, bytes], header: str = "") -> Path:
    folder = inbox / name
    (folder / "masks").mkdir(parents=True)
    for sample, data in masks.items():
        (folder / "masks" / f"{sample}.png").write_bytes(data)
    (folder / "batch.yaml").write_text(header)
    return folder


def _rows(store: Store, batch: Batch) -> dict[str, dict]:
    return {row["sample"]: row for row in store.objects.get_table(batch.rows).to_pylist()}


def test_masks_alone_correct_known_samples(
    delivery: Path, inbox: Path, store: Store, description: DatasetDescription
) -> None:
    first = ingest(store, delivery, description)
    _name(store, first)
    before = next(row for row in _rows(store, first).values() if row["class"] == "Crack")
    mask = (delivery / "masks" / before["mask_name"]).read_bytes()
    wider = cv2.dilate(cv2.imdecode(np.frombuffer(mask, np.uint8), 0), np.ones((5, 5)))
    fix = _deliver_masks(inbox, "fix", {before["sample"]: cv2.imencode(".png", wider)[1].tobytes()})
    [after] = _rows(store, ingest(store, fix, description)).values()
    assert after["mask"] != before["mask"]
    same = ["sample", "class", "group", "exposure", "image", "image_name", "height", "width"]
    assert [after[name] for name in same] == [before[name] for name in same]

    other = cv2.imencode(".png", wider[:-1])[1].tobytes()
    wrong = _deliver_masks(inbox, "wrong", {before["sample"]: other, "stranger": mask})
    with pytest.raises(DeliveryRefused) as refused:
        ingest(store, wrong, description)
    reasons = {problem.file: problem.reason for problem in refused.value.problems}
    assert "pixels, the image" in reasons[f"masks/{before['sample']}.png"]
    assert "there is no sample stranger yet" in reasons["masks/stranger.png"]


def test_a_sample_is_removed_and_may_come_back(
    delivery: Path, inbox: Path, store: Store, description: DatasetDescription
) -> None:
    first = ingest(store, delivery, description)
    _name(store, first)
    removal = _deliver_masks(inbox, "removal", {}, "remove: [tile-0002-exp1]")
    batch = ingest(store, removal, description)
    _name(store, batch)
    assert sum(batch.removed.values()) == 1
    assert batch.counts == {}
    assert _rows(store, batch)["tile-0002-exp1"]["removed"]
    again = _deliver_masks(inbox, "again", {}, "remove: [tile-0002-exp1, nobody]")
    with pytest.raises(DeliveryRefused, match="there is no sample tile-0002-exp1") as refused:
        ingest(store, again, description)
    assert len(refused.value.problems) == 2
    back = inbox / "back"
    for kind in ("images", "masks"):
        (back / kind).mkdir(parents=True)
        for file in (delivery / kind).glob("tile-0002-exp1.*"):
            shutil.copy(file, back / kind)
    known = _rows(store, first)["tile-0002-exp1"]
    assert _rows(store, ingest(store, back, description))["tile-0002-exp1"] == known


def test_folders_say_the_class_and_the_header_the_part(
    delivery: Path, inbox: Path, store: Store, description: DatasetDescription
) -> None:
    rows = pd.read_csv(delivery / "samples.csv", dtype=str)
    folder = inbox / "folders"
    for row in rows.to_dict("records"):
        place = folder / "images" / f"MT_{row['class']}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(next((delivery / "images").glob(f"{row['sample']}.*")), place)
    shutil.copytree(delivery / "masks", folder / "masks")
    header = {
        "classes": {f"MT_{name}": name for name in description.class_ids},
        "groups": dict(zip(rows["sample"], rows["group"], strict=True)),
    }
    (folder / "batch.yaml").write_text(yaml.safe_dump(header))
    taken = _rows(store, ingest(store, folder, description))
    expected = _rows(store, ingest(store, delivery, description))
    said = ["class", "group", "image", "mask"]
    assert {s: [row[name] for name in said] for s, row in taken.items()} == {
        s: [row[name] for name in said] for s, row in expected.items()
    }
    (folder / "batch.yaml").write_text("")
    with pytest.raises(DeliveryRefused, match="its class 'MT_"):
        ingest(store, folder, description)
