"""Images by the folder, the bucket and the snapshot, scored into files."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from defect_assets.home import Home
from defect_assets.inference.detector import Detector
from defect_assets.inference.images import decode_image
from defect_assets.registry.channels import in_use
from defect_assets.registry.exporting import export_runtimes
from defect_assets.scoring.files import Files
from defect_assets.scoring.plan import WrittenPlan, count_shards, hold_plan
from defect_assets.scoring.released import as_served
from defect_assets.scoring.score import MANIFEST, Manifest, Outcome, OutputTaken, score
from defect_assets.scoring.sources import (
    BucketSource,
    FolderSource,
    Item,
    NoSource,
    SnapshotSource,
)
from defect_assets.scoring.work import Job, Stopped, Worker
from defect_assets.store import Record, S3Access, Store, digest_of, s3
from defect_assets.store.objects import write_tree
from tests.conftest import PROJECT
from tests.releases import bundle_files, publish_release
from tests.scoring.conftest import BROKEN, IMAGES, SEED, assert_same, fetch, tables, upload
from tests.servers.s3 import S3Server
from tests.trained import tiles

SIZE = 8


def score_folder(store: Store, images: Path, output: Path, **options: Any) -> Outcome:
    release = in_use(store, None)
    model = as_served(store, release)
    return score(release, model, FolderSource(images), str(output), shard_size=SIZE, **options)


def test_each_image_has_the_row_that_the_model_gives_it(
    released: Store, images: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    outcome = score_folder(
        released, images, tmp_path / "out", tell=lambda done, total: told.append((done, total))
    )
    assert outcome.images == IMAGES + len(BROKEN)
    assert told[0] == (0, outcome.images)
    assert told[-1] == (outcome.images, outcome.images)

    write_tree(bundle_files(SEED), tmp_path / "bundle")
    detector = Detector.load(tmp_path / "bundle")
    found = tables(tmp_path / "out")
    rows = found["images"].set_index("image")
    assert len(rows) == outcome.images
    of_image = dict(list(found["defects"].groupby("image")))
    seen = set()
    for path in images.rglob("*"):
        name = path.relative_to(images).as_posix()
        if not path.is_file() or name in BROKEN or path.suffix == ".txt":
            continue
        row = rows.loc[name]
        analysis = detector.analyze(decode_image(path.read_bytes()))
        seen.add(analysis.verdict)
        assert row["sha256"] == digest_of(path.read_bytes())
        assert row["verdict"] == analysis.verdict
        assert row["score"] == pytest.approx(analysis.probability.max(), abs=1e-4)
        assert (row["height"], row["width"]) == analysis.mask.shape
        assert row["defects"] == len(analysis.defects)
        if not analysis.defects:
            assert name not in of_image
            assert pd.isna(row["mask_pack"])
            continue
        largest = of_image[name].iloc[0]
        left, top, right, bottom = analysis.defects[0].bbox_xyxy
        box = largest[["x", "y", "width", "height"]].tolist()
        assert box == [left, top, right - left, bottom - top]
        assert largest["area"] == analysis.defects[0].area_px
        assert largest["class"] == analysis.defects[0].class_name
        with (tmp_path / "out" / row["mask_pack"]).open("rb") as pack:
            pack.seek(int(row["mask_offset"]))
            data = np.frombuffer(pack.read(int(row["mask_bytes"])), np.uint8)
        assert (cv2.imdecode(data, cv2.IMREAD_UNCHANGED) == analysis.mask).all()
    assert seen == {"uncertain", "ng"}


def test_a_packed_release_is_run_as_it_is_served(
    released: Store, images: Path, tmp_path: Path
) -> None:
    score_folder(released, images, tmp_path / "torch")
    packed = tmp_path / "model"
    write_tree(bundle_files(SEED), packed)
    export_runtimes(packed, tiles(1, 2))
    files = {f"model/{path.name}": path.read_bytes() for path in packed.iterdir()}
    content = released.objects.put_tree(files)
    released.publish("bentos/v0.1.0", Record(asset="defect_bento", content=content))
    score_folder(released, images, tmp_path / "out")
    rows = {name: tables(tmp_path / name)["images"] for name in ("torch", "out")}
    assert set(rows["torch"]["runtime"].dropna()) == {"torch fp32"}
    assert rows["out"]["runtime"].dropna().str.startswith("openvino").all()
    pd.testing.assert_series_equal(rows["out"]["verdict"], rows["torch"]["verdict"])

    # One at a time, as on a cluster, it says the same to the last bit.
    model = as_served(released, in_use(released, None))
    source, alone = FolderSource(images), tmp_path / "alone"
    there = Manifest.model_validate_json((tmp_path / "out" / MANIFEST).read_text())
    plan = WrittenPlan(str(tmp_path / "out"), there.plan, there.images, there.shard_size)
    worker = Worker(Job(model, source, plan, Files(str(alone))), callers=1)
    for number in range(count_shards(plan)):
        worker.score(number)
    assert_same(alone, tmp_path / "out")


def test_broken_images_have_rows_that_say_why(
    released: Store, images: Path, tmp_path: Path
) -> None:
    assert score_folder(released, images, tmp_path / "out").unread == len(BROKEN)
    rows = tables(tmp_path / "out")["images"].set_index("image")
    for name, why in BROKEN.items():
        assert why in rows.loc[name, "error"]
        assert pd.isna(rows.loc[name, "verdict"])
    assert rows.drop(list(BROKEN))["error"].isna().all()


def test_a_folder_without_images_is_told_so(released: Store, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(NoSource, match="no image in .*none"):
        score_folder(released, tmp_path / "none", tmp_path / "out")


def test_what_is_done_is_not_done_again(released: Store, images: Path, tmp_path: Path) -> None:
    score_folder(released, images, tmp_path / "whole")
    score_folder(released, images, tmp_path / "out")
    kept = tmp_path / "out" / "images" / "part-000001.parquet"
    before = kept.stat().st_mtime_ns
    (tmp_path / "out" / "images" / "part-000002.parquet").unlink()
    (tmp_path / "out" / "defects" / "part-000004.parquet").unlink()  # as if before the next
    (tmp_path / "out" / "images" / "part-000004.parquet").unlink()
    outcome = score_folder(released, images, tmp_path / "out")
    assert outcome.found == outcome.images - SIZE - outcome.images % SIZE
    assert kept.stat().st_mtime_ns == before
    assert outcome.unread == len(BROKEN)
    assert_same(tmp_path / "out", tmp_path / "whole")


def test_who_interrupts_does_not_wait_for_what_is_begun(
    released: Store, images: Path, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as held:  # and with it all that was at work
        score_folder(released, images, tmp_path / "out", tell=interrupt)
    written = len(list((tmp_path / "out" / "images").iterdir()))
    assert 1 <= written < 5
    time.sleep(1)  # nobody goes on with the rest
    assert len(list((tmp_path / "out" / "images").iterdir())) == written
    assert held.traceback
    model = as_served(released, in_use(released, None))
    plan = hold_plan(FolderSource(images).items())
    worker = Worker(Job(model, FolderSource(images), plan, Files(str(tmp_path / "left"))), 1)
    worker.stop()
    with pytest.raises(Stopped):
        worker.score(0)
    assert not (tmp_path / "left").exists()


def test_images_that_came_since_it_began_do_not_shift_the_others(
    released: Store, images: Path, tmp_path: Path
) -> None:
    score_folder(released, images, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "out")
    (tmp_path / "out" / "images" / "part-000003.parquet").unlink()
    shutil.copy(next(images.glob("*/*.png"), images / "broken" / "text.jpg"), images / "aaa.png")
    score_folder(released, images, tmp_path / "out")
    assert_same(tmp_path / "out", tmp_path / "whole")


def test_another_model_or_source_is_refused(released: Store, images: Path, tmp_path: Path) -> None:
    score_folder(released, images, tmp_path / "out")
    publish_release(released, "v0.2.0", SEED + 1)
    assert in_use(released, None).id == "v0.2.0"
    with pytest.raises(OutputTaken, match="what v0.1.0 said of .* another model: choose"):
        score_folder(released, images, tmp_path / "out")
    other = FolderSource(images / "broken")
    first = in_use(released, "v0.1.0")
    with pytest.raises(OutputTaken, match="of another source: choose"):
        score(first, as_served(released, first), other, str(tmp_path / "out"))
    (tmp_path / "out" / "manifest.json").unlink()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    with pytest.raises(OutputTaken, match="none of ours"):
        score_folder(released, images, tmp_path / "out")


def test_of_two_that_begin_at_once_one_is_refused_and_the_other_undisturbed(
    released: Store, images: Path, tmp_path: Path
) -> None:
    some = min(path for path in images.iterdir() if path.is_dir() and path.name != "broken")

    class Slower(FolderSource):
        """Another one has begun, and ended, before this one has listed its images."""

        def items(self, access: S3Access | None = None) -> Iterator[Item]:
            score_folder(released, some, tmp_path / "out")
            yield from super().items(access)

    release = in_use(released)
    model = as_served(released, release)
    with pytest.raises(OutputTaken, match="someone else has just begun"):
        score(release, model, Slower(images), str(tmp_path / "out"))
    score_folder(released, some, tmp_path / "alone")
    assert_same(tmp_path / "out", tmp_path / "alone")
    (tmp_path / "out" / "images" / "part-000000.parquet").unlink()
    assert score_folder(released, some, tmp_path / "out").found == 0
    assert_same(tmp_path / "out", tmp_path / "alone")


def test_a_bucket_gives_what_a_folder_gives(
    released: Store, images: Path, tmp_path: Path, moto: S3Server
) -> None:
    place = moto.new_store()
    upload(images, moto, f"{place}/in")
    upload(images / "broken", moto, f"{place}/in-another-folder")
    release = in_use(released, "v0.1.0")
    source, out = BucketSource(f"{place}/in"), f"{place}/out"
    for found in (0, IMAGES + len(BROKEN)):
        model, access = as_served(released, release), moto.access()
        outcome = score(release, model, source, out, access=access, shard_size=SIZE)
        assert outcome.found == found
    score_folder(released, images, tmp_path / "out")
    assert_same(fetch(moto, out, tmp_path / "fetched"), tmp_path / "out")


def test_a_bucket_is_listed_page_by_page(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PAGE", 3)
    place = moto.new_store()
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    names = [f"{folder}/{n}.png" for folder in ("a", "b/c") for n in range(3)]
    for count, name in enumerate(names, 1):
        moto.client().put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"")
        listed = [item.name for item in BucketSource(place).items(moto.access())]
        assert listed == names[:count]


def test_a_snapshot_is_scored_by_its_samples(
    home: Home, released: Store, snapshot: SnapshotSource, tmp_path: Path
) -> None:
    release = in_use(released, None)
    outcome = score(release, as_served(released, release), snapshot, str(tmp_path / "out"))
    assert outcome.images == 72
    assert outcome.manifest.source == {"dataset": "DS-1.0.0", "snapshot": snapshot.digest}
    rows = tables(tmp_path / "out")["images"]
    assert all(released.objects.get(image) for image in rows["sha256"])
    names = {p.stem for p in (home.inbox / "first" / "images").iterdir()}
    assert set(rows["image"]) == names


_KILLED = """
import os, signal, sys
from pathlib import Path
from defect_assets.home import Home
from defect_assets.scoring import files
from tests.scoring.test_score import score_folder
write = files.FileWriter.write
left = [2]
def dying(self, shard, predictions, runtime):
    left[0] -= 1
    if left[0] < 0:
        replace = files.FileWriter._replace
        def half(self, key, data):
            if key.startswith("images"):
                os.kill(os.getpid(), signal.SIGKILL)
            replace(self, key, data)
        files.FileWriter._replace = half
    return write(self, shard, predictions, runtime)
files.FileWriter.write = dying
home, images, output = map(Path, sys.argv[1:])
score_folder(Home(home).store(), images, output)
"""


def test_what_was_killed_goes_on_to_the_same_result(
    home: Home, released: Store, images: Path, tmp_path: Path
) -> None:
    score_folder(released, images, tmp_path / "whole")
    output = tmp_path / "out"
    command = [sys.executable, "-c", _KILLED, home.root, images, output]
    done = subprocess.run(command, cwd=PROJECT, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    there = list((output / "images").iterdir())
    assert 1 <= len(there) < 5
    outcome = score_folder(released, images, output)
    assert 0 < outcome.found < outcome.images
    assert_same(output, tmp_path / "whole")
