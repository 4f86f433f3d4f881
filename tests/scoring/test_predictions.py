"""A snapshot's predictions, kept in the store."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from defect_assets.home import Home
from defect_assets.inference.detector import Detector
from defect_assets.inference.images import decode_image
from defect_assets.registry.channels import in_use
from defect_assets.scoring.predictions import Predictions, Unreadable, predict, read_predictions
from defect_assets.scoring.released import as_evaluated
from defect_assets.scoring.sources import SnapshotSource
from defect_assets.store import Record, Store, open_store
from defect_assets.store.collect import find_garbage
from defect_assets.store.objects import write_tree
from defect_assets.store.verify import verify
from tests.releases import bundle_files
from tests.scoring.conftest import SEED
from tests.small import damage


def made(store: Store, source: SnapshotSource) -> Predictions:
    release = in_use(store, None)
    return predict(release.bundle, as_evaluated(store, release), source)


def test_each_sample_has_the_row_that_the_model_gives_it(
    released: Store, snapshot: SnapshotSource, tmp_path: Path
) -> None:
    write_tree(bundle_files(SEED), tmp_path / "bundle")
    detector = Detector.load(tmp_path / "bundle")
    found = made(released, snapshot)
    assert len(found.images) == len(found.defects) == 2  # shards
    assert sum(found.verdicts.values()) == 72
    rows = [row for table in found.images for row in released.objects.get_table(table).to_pylist()]
    assert [row["sample"] for row in rows] == [item.name for item in snapshot.items()]
    defects = [
        row for table in found.defects for row in released.objects.get_table(table).to_pylist()
    ]
    for row in rows[::5]:
        analysis = detector.analyze(decode_image(released.objects.get(row["image"])))
        assert row["verdict"] == analysis.verdict
        own = [d for d in defects if d["sample"] == row["sample"]]
        assert row["defects"] == len(own) == len(analysis.defects)
        assert sorted(d["area"] for d in own) == sorted(d.area_px for d in analysis.defects)
        if row["mask"]:
            mask = np.frombuffer(released.objects.get(row["mask"]), np.uint8)
            assert (cv2.imdecode(mask, cv2.IMREAD_UNCHANGED) == analysis.mask).all()
    assert {bool(row["mask"]) for row in rows} == {True, False}


def test_the_same_work_has_the_same_digest(released: Store, snapshot: SnapshotSource) -> None:
    first, again = (made(released, snapshot).model_dump(mode="json") for _ in range(2))
    assert first == again


def test_the_store_knows_what_belongs_to_it(
    released: Store, snapshot: SnapshotSource, home: Home
) -> None:
    found = made(released, snapshot)
    content = released.objects.put_json(found.model_dump(mode="json"))
    record = Record(asset="production_predictions", partition="DS-1.0.0", content=content)
    released.publish("predictions/DS-1.0.0", record)
    store = open_store(home.url)
    assert read_predictions(store, content) == found
    assert find_garbage(store, 0).entries == ()
    assert verify(store).damages == ()
    masks = store.objects.get_table(found.images[0])["mask"].to_pylist()
    assert all(store.objects.get(mask) for mask in masks if mask)


def test_a_damaged_store_is_not_taken_for_an_answer(
    released: Store, snapshot: SnapshotSource, home: Home
) -> None:
    packs = sorted(Path(home.url).glob("objects/*/*"), key=lambda path: path.stat().st_size)
    damage(packs[-1], at=-2000)
    with pytest.raises(Unreadable, match="of DS-1.0.0 cannot be read: defect-assets verify"):
        made(open_store(home.url), snapshot)
