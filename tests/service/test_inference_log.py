import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from detector_service.inference_log import Budget, InferenceLog, InferenceRecord, Limits

from defect_assets.inference.quality import ImageQuality
from tests.service.conftest import Served, encoded, noise


def _records(folder: Path) -> list[dict]:
    files = sorted((folder / "records").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def _images(folder: Path) -> set[str]:
    return {path.name for path in (folder / "images").glob("??/*")}


def test_every_image_leaves_a_record_and_doubtful_ones_stay(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(inference_log=tmp_path)
    bad, doubtful, good = encoded(noise()), encoded(noise(seed=1)), encoded(noise(seed=2))
    top = float(served.detector.analyze(noise(seed=1)).probability.max()) + 0.001
    served.post("/analyze", bad, part_id="A-7")
    served.post("/plc", doubtful, threshold=top)
    served.post("/overlay", good, threshold=0.999)
    served.post("/analyze", b"no image")
    files = [("image", ("a", bad)), ("image", ("b", b"broken"))]
    served.client.post("/analyze_batch", files=files)
    served.app.close()

    digests = {n: hashlib.sha256(d).hexdigest() for n, d in [("bad", bad), ("doubt", doubtful)]}
    records = _records(tmp_path)
    assert [(r["route"], r["verdict"]) for r in records] == [
        ("/analyze", "ng"),
        ("/plc", "uncertain"),
        ("/overlay", "ok"),
        ("/analyze_batch", "ng"),
    ]
    first = records[0]
    assert (first["image"], first["part_id"]) == (digests["bad"], "A-7")
    assert first["defects"] == sum(first["classes"].values()) > 0
    assert (first["release"], first["width"], first["bytes"]) == ("v0.1.0", 80, len(bad))
    assert first["quality"]["brightness"] == pytest.approx(noise().mean())
    assert first["quality"]["contrast"] == pytest.approx(noise().std())
    assert _images(tmp_path) == set(digests.values())
    kept = tmp_path / "images" / digests["bad"][:2] / digests["bad"]
    assert kept.read_bytes() == bad


def test_a_log_that_cannot_be_written_fails_no_request_and_is_counted(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    (tmp_path / "records").write_text("a file where a folder should be")
    (tmp_path / "images").write_text("and another")
    served = serve(inference_log=tmp_path)
    before = _lost(served)
    assert served.post("/analyze", encoded(noise())).status_code == 200
    served.app._log.close()
    assert {what: n - before[what] for what, n in _lost(served).items()} == {
        "record": 1,
        "image": 1,
    }


def _lost(served: Served) -> dict[str, float]:
    lines = served.client.get("/metrics").text.splitlines()
    counts = {"record": 0.0, "image": 0.0}
    for line in lines:
        if line.startswith("defect_unlogged_total{"):
            counts[line.split('"')[1]] = float(line.split()[-1])
    return counts


def _record(verdict: str) -> InferenceRecord:
    return InferenceRecord(
        request_id="r",
        route="/analyze",
        part_id=None,
        bytes=1,
        width=1,
        height=1,
        verdict=verdict,
        defects=0,
        area_px=0,
        classes={},
        confidence=None,
        threshold=0.5,
        quality=ImageQuality(brightness=0, contrast=0, sharpness=0),
        milliseconds=1,
        release="v0.1.0",
        model="f" * 64,
    )


def test_files_are_closed_at_their_size_and_the_oldest_go(tmp_path: Path) -> None:
    size = len(_record("ok").model_dump_json()) + 70
    log = InferenceLog(tmp_path, Limits(file=2.5 * size, records=10 * size, images=0))
    for n in range(30):
        log.write(_record("ok").model_copy(update={"request_id": f"{n:03}"}), bytes([n]))
    log.close()
    files = sorted((tmp_path / "records").glob("*.jsonl"))
    assert 3 <= len(files) <= 6
    assert sum(f.stat().st_size for f in files) <= 14 * size
    kept = [r["request_id"] for r in _records(tmp_path)]
    assert kept == [f"{n:03}" for n in range(30 - len(kept), 30)]


def test_images_stay_within_their_budget_over_restarts(tmp_path: Path) -> None:
    def write(numbers: range) -> None:
        log = InferenceLog(tmp_path, Limits(file=1e6, records=1e6, images=1000))
        for n in numbers:
            data = bytes([n]) * 100
            log.write(_record("uncertain"), data)
            log.write(_record("ok"), bytes([200]))
            log.write(_record("ng"), bytes(5000))  # larger than all there is room for
        log.close()

    write(range(8))
    for order, path in enumerate(sorted((tmp_path / "images").glob("??/*"))):
        os.utime(path, (order, order))
    write(range(8, 13))
    assert len(_images(tmp_path)) == 10
    new = {hashlib.sha256(bytes([n]) * 100).hexdigest() for n in range(8, 13)}
    assert new <= _images(tmp_path)


def test_a_file_that_went_by_itself_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(10))
    budget = Budget([path, tmp_path / "gone"], 12)
    path.unlink()
    budget.make_room(5)
    budget.add(tmp_path / "b", 5)
    assert budget._total == 5
