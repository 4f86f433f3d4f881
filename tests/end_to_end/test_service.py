"""The service over HTTP, started as its users start it."""

import base64
import io
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from defect_assets.home import Home
from tests.end_to_end.conftest import Checkout, free_port, tool

pytestmark = pytest.mark.slow


def post(
    address: str, data: bytes, filename: str | None = "tile.jpg", field: str = "image"
) -> tuple[int, dict]:
    """Send a multipart form with one field; return the status and the JSON."""
    boundary = uuid.uuid4().hex
    name = f'name="{field}"' + (f'; filename="{filename}"' if filename else "")
    head = f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n"
    head += "Content-Type: application/octet-stream\r\n\r\n" if filename else "\r\n"
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    content = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{address}/analyze", body, content)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def tiles(demo: Checkout, count: int) -> list[Path]:
    return sorted((demo.home / "inbox" / "line-1-week-46" / "images").iterdir())[:count]


@pytest.fixture(scope="module")
def service(demo: Checkout) -> Iterator[str]:
    port = free_port()
    command = [tool("bentoml"), "serve", "defect_detector:v0.1.0", "--port", str(port)]
    with demo.background(command, f"http://127.0.0.1:{port}/readyz"):
        yield f"http://127.0.0.1:{port}"


def test_an_image_gives_verdict_defects_mask_and_model(demo: Checkout, service: str) -> None:
    released = Home(demo.home).store()
    verdicts = set()
    for tile in tiles(demo, 10):
        status, reply = post(service, tile.read_bytes())
        assert status == 200
        with Image.open(tile) as image:
            assert (reply["width"], reply["height"]) == image.size
        mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(reply["mask"]))))
        assert mask.shape == (reply["height"], reply["width"])
        assert (mask > 0).sum() == sum(d["area_px"] for d in reply["defects"])
        for defect in reply["defects"]:
            left, top, right, bottom = defect["bbox_xyxy"]
            assert (mask[top:bottom, left:right] == defect["class_id"]).any()
            assert reply["class_map"][str(defect["class_id"])] == defect["class_name"]
            x, y = defect["centroid_xy"]
            assert left <= x <= right
            assert top <= y <= bottom
            assert 0 <= defect["confidence"] <= 1
        assert (reply["verdict"] == "ng") == bool(reply["defects"])
        verdicts.add(reply["verdict"])
        assert reply["model"].pop("runtime").startswith("openvino")
        assert reply["model"] == {
            "release": "v0.1.0",
            "dataset": "DS-1.1.0",
            "config": "C-01",
            "digest": released.content("experiments/DS-1.1.0/C-01"),
        }
    assert "ng" in verdicts


def test_the_model_tells_its_lineage(demo: Checkout, service: str) -> None:
    store = Home(demo.home).store()
    with urllib.request.urlopen(f"{service}/model") as reply:
        model = json.load(reply)
    assert model["digest"] == store.content("experiments/DS-1.1.0/C-01")
    assert model["report"] == store.content("reports/DS-1.1.0/C-01")
    assert 0 < model["metrics"]["dice"] <= 1
    assert model["note"].startswith("# v0.1.0")


def test_the_page_is_ours(service: str) -> None:
    with urllib.request.urlopen(service) as reply:
        assert "Defect detector" in reply.read().decode()
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]


def test_the_source_tree_serves_the_newest_release(demo: Checkout) -> None:
    """Plain ``bentoml serve`` in ``bento/``."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [tool("bentoml"), "serve", "--port", str(port)]
    with demo.background(command, f"{address}/readyz", folder=demo.root / "bento"):
        status, reply = post(address, tiles(demo, 1)[0].read_bytes())
    assert (status, reply["model"]["release"]) == (200, "v0.1.0")


def test_the_bentos_pin_exactly_and_can_be_containerized(demo: Checkout) -> None:
    bentos = demo.home / "bentoml" / "bentos" / "defect_detector"
    for name in ("v0.1.0", "v0.1.0-cuda"):
        pins = (bentos / name / "env" / "python" / "requirements.txt").read_text()
        assert "--hash=sha256:" in pins
        assert ("\ntorch==" in pins) == name.endswith("cuda")
        assert "dagster" not in pins
        dockerfile = (bentos / name / "env" / "docker" / "Dockerfile").read_text()
        assert "FROM python:3.11-slim" in dockerfile
        assert "env/python/requirements.txt" in dockerfile
        assert "USER bentoml" in dockerfile  # not root
        assert ("NVIDIA_VISIBLE_DEVICES" in dockerfile) == name.endswith("cuda")
        source = bentos / name / "src"
        shipped = {p.relative_to(source).as_posix() for p in source.rglob("*.py")}
        assert {"service.py", "detector_service/app.py"} <= shipped
        assert (source / "detector_service" / "page" / "index.html").is_file()
        assert {f.split("/")[1] for f in shipped if f.startswith("defect_assets/")} == {
            "__init__.py",
            "inference",
        }
