import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from defect_assets.dataset.cut import CutRefused, cut, next_snapshot
from defect_assets.dataset.description import DatasetDescription, SplitPolicy
from defect_assets.dataset.ingest import ingest
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import Snapshot, UnknownDataset, find_snapshot
from defect_assets.store import Record, Store, open_store
from defect_assets.store.transfer import plan_transfer, transfer
from tests import small
from tests.conftest import deliver


def take_in(store: Store, folder: Path, description: DatasetDescription) -> None:
    batch = ingest(store, folder, description)
    content = store.objects.put_json(batch.model_dump(mode="json"))
    store.publish_once(f"batches/{batch.id}", Record(asset="raw_images", content=content))


def publish(store: Store, snapshot: Snapshot) -> None:
    content = store.objects.put_json(snapshot.model_dump(mode="json"))
    store.publish_once(f"datasets/{snapshot.id}", Record(asset="x", content=content))


def cut_next(store: Store, description: DatasetDescription) -> Snapshot:
    snapshot = next_snapshot(store, description)
    assert snapshot is not None
    publish(store, snapshot)
    return snapshot


@pytest.fixture
def first(store: Store, delivery: Path, description: DatasetDescription) -> Snapshot:
    take_in(store, delivery, description)
    return cut_next(store, description)


def test_the_first_snapshot_holds_all(first: Snapshot) -> None:
    assert first.id == "DS-1.0.0"
    assert (first.samples, first.groups) == (36, 12)
    assert first.changelog.added == first.counts
    assert first.parent is None


def test_without_a_change_there_is_nothing_to_cut(
    first: Snapshot, store: Store, description: DatasetDescription
) -> None:
    assert next_snapshot(store, description) is None
    with pytest.raises(CutRefused, match="nothing changed since DS-1.0.0"):
        cut(store, "DS-1.0.1", description)


def test_more_images_are_a_minor_version(
    first: Snapshot, store: Store, inbox: Path, description: DatasetDescription
) -> None:
    take_in(store, deliver(inbox, "second", 13, 4), description)
    second = cut_next(store, description)
    assert second.id == "DS-1.1.0"
    assert sum(second.changelog.added.values()) == 12
    assert not second.changelog.relabelled
    assert not second.changelog.removed
    assert [pin.id for pin in second.batches] == ["first", "second"]
    assert find_snapshot(store, "DS-1.0.0")[0] == second.parent


def test_corrected_masks_are_a_patch(
    first: Snapshot, store: Store, inbox: Path, delivery: Path, description: DatasetDescription
) -> None:
    fixed = inbox / "fixed"
    shutil.copytree(delivery, fixed)
    masks = sorted((fixed / "masks").iterdir())
    sound = (fixed / "samples.csv").read_text().splitlines()
    defective = next(line for line in sound[1:] if ",Free," not in line)
    sample = defective.split(",")[0]
    # Only the mask's bytes change: a label fix.
    mask = next(path for path in masks if path.stem == sample)
    mask.write_bytes(mask.read_bytes() + b"\0")
    take_in(store, fixed, description)
    snapshot = cut_next(store, description)
    assert snapshot.id == "DS-1.0.1"
    assert sum(snapshot.changelog.relabelled.values()) == 1
    table = samples_of(store, snapshot.batches, ("sample", "batch")).to_pandas().set_index("sample")
    assert table.loc[sample, "batch"] == "fixed"


def test_another_class_map_is_a_major_version(
    first: Snapshot, store: Store, description: DatasetDescription
) -> None:
    other = description.model_copy(update={"mask_threshold": 0})
    snapshot = cut_next(store, other)
    assert snapshot.id == "DS-2.0.0"
    assert snapshot.changelog.classes_changed


def test_another_colour_is_no_version(
    first: Snapshot, store: Store, description: DatasetDescription
) -> None:
    classes = (description.classes[0].model_copy(update={"color": "#123456"}),)
    other = description.model_copy(update={"classes": classes + description.classes[1:]})
    assert next_snapshot(store, other) is None


def test_a_correction_comes_after_what_it_corrects(
    store: Store, delivery: Path, inbox: Path, description: DatasetDescription
) -> None:
    """Whatever the deliveries are called."""
    take_in(store, delivery, description)
    shutil.copytree(delivery, inbox / "a-correction")
    take_in(store, inbox / "a-correction", description)
    snapshot = cut_next(store, description)
    assert [pin.id for pin in snapshot.batches] == ["first", "a-correction"]
    assert set(samples_of(store, snapshot.batches, ("sample", "batch"))["batch"].to_pylist()) == {
        "a-correction"
    }


def test_a_class_in_use_cannot_go(
    first: Snapshot, store: Store, description: DatasetDescription
) -> None:
    other = description.model_copy(update={"classes": description.classes[:1]})
    with pytest.raises(CutRefused, match="lacks Break, Crack"):
        next_snapshot(store, other)


def test_another_split_is_a_major_version(
    first: Snapshot, store: Store, description: DatasetDescription
) -> None:
    other = description.model_copy(update={"split": SplitPolicy(seed=1)})
    snapshot = cut_next(store, other)
    assert snapshot.id == "DS-2.0.0"
    assert str(snapshot.changelog) == "split policy changed"


def test_a_wrong_number_is_refused_with_the_right_one(
    first: Snapshot, store: Store, inbox: Path, description: DatasetDescription
) -> None:
    take_in(store, deliver(inbox, "second", 13, 1), description)
    for wrong in ["DS-1.0.1", "DS-3.0.0", "DS-1.2.0"]:
        with pytest.raises(CutRefused, match=r"3 samples added .* the next version is DS-1\.1\.0"):
            cut(store, wrong, description)
    assert cut(store, "DS-1.1.0", description)[1].id == "DS-1.1.0"


def test_a_snapshot_stays_what_it_is(
    first: Snapshot, store: Store, inbox: Path, description: DatasetDescription
) -> None:
    take_in(store, deliver(inbox, "second", 13, 1), description)
    assert cut(store, "DS-1.0.0", description) == find_snapshot(store, "DS-1.0.0")
    other = description.model_copy(update={"mask_threshold": 0})
    assert cut(store, "DS-1.0.0", other)[1] == first


def test_with_nothing_taken_in_the_way_is_shown(
    store: Store, description: DatasetDescription
) -> None:
    with pytest.raises(CutRefused, match="materialize raw_images first"):
        cut(store, "DS-1.0.0", description)


def test_an_unknown_dataset_lists_the_known_ones(first: Snapshot, store: Store) -> None:
    with pytest.raises(UnknownDataset, match=r"known: DS-1\.0\.0"):
        find_snapshot(store, "DS-9.0.0")


def test_one_id_for_two_images_is_refused_until_it_is_removed(tmp_path: Path) -> None:
    """Taken in apart, on two machines that knew nothing of each other."""
    place = str(tmp_path / "shared")
    for number in (1, 2):
        home = small.home_of(tmp_path / f"line-{number}")
        small.deliver(home, f"line-{number}", {"s001": small.picture(number)}, {})
        store = home.store()
        small.ingest(home, store, f"line-{number}")
        shared = open_store(place)
        transfer(store, shared, plan_transfer(store, shared))
    home = replace(small.home_of(tmp_path / "home"), store_url=place)
    with pytest.raises(CutRefused, match="s001 is one image in line-1 and another in line-2"):
        small.cut(home, home.store())
    small.deliver(home, "removal", {"s002": small.picture(2)}, {}, remove=["s001"])
    small.ingest(home, home.store(), "removal")
    snapshot = small.cut(home, home.store())
    assert snapshot is not None
    assert samples_of(home.store(), snapshot.batches)["sample"].to_pylist() == ["s002"]
