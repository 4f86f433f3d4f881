"""The service over HTTP, started as its users start it."""

import base64
import io
import json
import subprocess
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
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
        assert reply["model"] == {
            "release": "v0.1.0",
            "dataset": "DS-1.1.0",
            "config": "C-01",
            "digest": released.content("experiments/DS-1.1.0/C-01"),
        }
    assert "ng" in verdicts


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"no image at all", "not an image of a known format"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "the image cannot be used"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(service: str, data: bytes, says: str) -> None:
    status, reply = post(service, data)
    assert status == 422
    assert says in json.dumps(reply)


def test_a_missing_image_is_refused(service: str) -> None:
    status, reply = post(service, b"x", field="picture")
    assert status == 400
    assert "image" in json.dumps(reply)


@pytest.mark.parametrize(
    "content",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
        "multipart/form-data; boundary=y",
    ],
)
def test_a_form_that_cannot_be_read_is_refused(service: str, content: str) -> None:
    body = b"--x\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--x--\r\n"
    request = urllib.request.Request(f"{service}/analyze", body, {"Content-Type": content})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert 400 <= refused.value.code < 500


def test_an_address_is_not_fetched(service: str) -> None:
    asked = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    with HTTPServer(("127.0.0.1", 0), Trap) as trap:
        threading.Thread(target=trap.serve_forever, daemon=True).start()
        for text in [f"http://127.0.0.1:{trap.server_port}/x.png", "/etc/passwd", "hello"]:
            status, reply = post(service, text.encode(), filename=None)
            assert status == 422
            assert "must be a file" in json.dumps(reply)
        trap.shutdown()
    assert asked == []


def test_the_source_tree_serves_the_newest_release(demo: Checkout) -> None:
    """Plain ``bentoml serve`` in ``bento/``."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [tool("bentoml"), "serve", "--port", str(port)]
    with demo.background(command, f"{address}/readyz", folder=demo.root / "bento"):
        status, reply = post(address, tiles(demo, 1)[0].read_bytes())
    assert (status, reply["model"]["release"]) == (200, "v0.1.0")


def test_a_damaged_model_stops_the_start(demo: Checkout, tmp_path: Path) -> None:
    import shutil

    home = tmp_path / "bentoml"
    shutil.copytree(demo.home / "bentoml", home)
    weights = home / "models" / "defect_detector" / "v0.1.0" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    script = "import service; service.DefectDetector.inner()"
    result = subprocess.run(
        [tool("python"), "-c", script],
        cwd=demo.root / "bento",
        env={**demo.environment, "BENTOML_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "a file is damaged" in result.stderr


def test_the_bento_pins_exactly_and_can_be_containerized(demo: Checkout) -> None:
    bento = demo.home / "bentoml" / "bentos" / "defect_detector" / "v0.1.0"
    pins = (bento / "env" / "python" / "requirements.txt").read_text()
    assert "--hash=sha256:" in pins
    assert "torch==" in pins
    assert "dagster" not in pins
    dockerfile = (bento / "env" / "docker" / "Dockerfile").read_text()
    assert "FROM" in dockerfile
    shipped = {p.relative_to(bento / "src").as_posix() for p in (bento / "src").rglob("*.py")}
    assert {f.split("/")[1] for f in shipped if f.startswith("defect_assets/")} == {
        "__init__.py",
        "inference",
    }
