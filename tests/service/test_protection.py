import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from defect_assets.inference.detector import Detector
from tests.service.conftest import Served, encoded, noise

JSON = "application/json"


def _refused(reply, status: int, code: str) -> dict:
    """Check the one body of all errors."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == JSON
    body = reply.json()
    assert body.keys() == {"error", "request_id"}
    assert body["error"].keys() == {"code", "message", "hint"}
    assert body["error"]["code"] == code
    assert body["request_id"] == reply.headers["x-request-id"]
    return body["error"]


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "unreadable_image"),
        (b"no image at all", 415, "unknown_format"),
        (b"GIF89a" + bytes(50), 415, "unknown_format"),
        (b"\xff\xd8\xff\xe0" + bytes(50), 415, "unknown_format"),
        (encoded(noise(), "JPEG")[:300], 422, "unreadable_image"),
        (encoded(noise())[:-40], 422, "unreadable_image"),
    ],
)
def test_what_is_no_image_is_refused(served: Served, data: bytes, status: int, code: str) -> None:
    for path in ("/analyze", "/overlay", "/plc"):
        _refused(served.post(path, data), status, code)


def test_too_many_pixels_are_refused_by_the_header(serve: Callable[..., Served]) -> None:
    served = serve(max_megapixels=1)
    bomb = encoded(np.zeros((4000, 4000), np.uint8))  # compressed a thousand times
    begun = time.monotonic()
    error = _refused(served.post("/analyze", bomb), 413, "too_many_pixels")
    assert "4000 × 4000" in error["message"]
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0},
        {"threshold": 1},
        {"threshold": "nan"},
        {"threshold": "high"},
        {"min_area_px": 0},
        {"min_area_px": "1.5"},
        {"px_to_mm": -1},
        {"px_to_mm": "inf"},
        {"mask": "gif"},
        {"part_id": "x" * 129},
        {"part_id": "a\nb"},
        {"treshold": 0.5},
    ],
)
def test_an_option_that_is_not_sound_is_refused(served: Served, options: dict) -> None:
    error = _refused(served.post("/analyze", encoded(noise()), **options), 422, "invalid_option")
    assert next(iter(options)) in error["message"]


def test_an_empty_option_counts_as_absent(served: Served) -> None:
    assert served.post("/analyze", encoded(noise()), threshold="", part_id="").status_code == 200


def test_an_option_given_twice_is_refused(served: Served) -> None:
    files = [
        ("image", ("a.png", encoded(noise()))),
        ("threshold", (None, "0.5")),
        ("threshold", (None, "0.9")),
    ]
    _refused(served.client.post("/analyze", files=files), 422, "invalid_option")


def test_forms_that_cannot_be_read_are_refused(served: Served) -> None:
    body = b"--x\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--x--\r\n"
    for content in ("", "; boundary=", "; boundary=x", "; boundary=y", '; boundary="\xe4"'):
        header = {"Content-Type": ("multipart/form-data" + content).encode("latin-1")}
        reply = served.client.post("/analyze", content=body, headers=header)
        assert reply.status_code == 400, (content, reply.text)
    picture = {"picture": ("a.png", encoded(noise()))}
    _refused(served.client.post("/analyze", files=picture), 422, "invalid_option")
    text = {"threshold": (None, "0.5")}
    _refused(served.client.post("/analyze", files=text), 400, "image_missing")
    raw = served.client.post("/analyze", content=b"x", headers={"Content-Type": "image/png"})
    _refused(raw, 415, "form_needed")


def test_two_images_where_one_is_wanted_are_refused(served: Served) -> None:
    two = [("image", ("a.png", encoded(noise())))] * 2
    _refused(served.client.post("/analyze", files=two), 413, "too_many_images")


def test_an_address_is_not_fetched(served: Served) -> None:
    asked = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    with HTTPServer(("127.0.0.1", 0), Trap) as trap:
        threading.Thread(target=trap.serve_forever, daemon=True).start()
        for text in [f"http://127.0.0.1:{trap.server_port}/x.png", "/etc/passwd", "hello"]:
            reply = served.client.post("/analyze", files={"image": (None, text)})
            _refused(reply, 422, "not_a_file")
        trap.shutdown()
    assert asked == []


def test_long_bodies_are_refused_declared_or_not(serve: Callable[..., Served]) -> None:
    served = serve(max_body_mb=0.01)
    _refused(served.post("/analyze", bytes(20_000)), 413, "body_too_large")
    sent = []

    def pieces() -> Iterator[bytes]:
        for _ in range(1000):
            sent.append(1)
            yield bytes(1000)

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = served.client.post("/analyze", content=pieces(), headers=form)
    _refused(reply, 413, "body_too_large")
    assert served.post("/analyze", encoded(noise())).status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/analyze/", "/../etc/passwd", "/docs.json"])
def test_unknown_paths_are_404(served: Served, path: str) -> None:
    _refused(served.client.get(path), 404, "not_found")


def test_a_wrong_method_is_405_and_says_what_is_right(served: Served) -> None:
    reply = served.client.get("/analyze")
    _refused(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"


def test_who_has_no_key_is_not_let_in(serve: Callable[..., Served], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# line 1\nfirst-of-file\n")
    served = serve(api_keys="one, two", api_keys_file=keys)
    for headers in ({}, {"X-API-Key": "three"}, {"X-API-Key": "# line 1"}, {"X-API-Key": "ön"}):
        raw = {name: value.encode() for name, value in headers.items()}
        for path in ("/model", "/metrics", "/nothing"):
            _refused(served.client.get(path, headers=raw), 401, "api_key_needed")
        reply = served.client.post("/analyze", headers=raw)
        _refused(reply, 401, "api_key_needed")
        assert reply.headers["www-authenticate"] == "Bearer"
    for headers in (
        {"X-API-Key": "one"},
        {"X-API-Key": "two"},
        {"X-API-Key": "first-of-file"},
        {"Authorization": "Bearer two"},
    ):
        assert served.client.get("/model", headers=headers).status_code == 200
    assert served.client.get("/").status_code == 200


def test_keys_of_the_file_are_rotated_without_a_restart(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("old\n")
    served = serve(api_keys_file=keys)

    def status(key: str) -> int:
        return served.client.get("/model", headers={"X-API-Key": key}).status_code

    assert (status("old"), status("new")) == (200, 401)
    keys.write_text("old\nnew\n")
    assert (status("old"), status("new")) == (200, 200)
    keys.write_text("new\n")
    assert (status("old"), status("new")) == (401, 200)
    keys.unlink()  # while it is replaced, say
    assert (status("old"), status("new")) == (401, 200)


def test_an_empty_key_file_opens_to_nobody(serve: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    served = serve(api_keys_file=tmp_path / "keys")
    for key in ("", "# none yet"):
        assert served.client.get("/model", headers={"X-API-Key": key}).status_code == 401


def test_pages_of_the_listed_origins_may_ask(serve: Callable[..., Served]) -> None:
    served = serve(cors_origins="https://line.example, https://lab.example", api_keys="one")
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    known = served.client.options("/analyze", headers={"Origin": "https://lab.example", **ask})
    assert known.status_code == 200
    assert known.headers["access-control-allow-origin"] == "https://lab.example"
    other = served.client.options("/analyze", headers={"Origin": "https://other.example", **ask})
    assert "access-control-allow-origin" not in other.headers
    refused = served.client.get("/model", headers={"Origin": "https://lab.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://lab.example"


class _Slow(Detector):
    """Waits before it looks; the images that it saw can be counted."""

    def __init__(self, like: Detector, wait: threading.Event) -> None:
        self.__dict__.update(like.__dict__)
        self._wait = wait
        self.seen = 0

    def predict(self, images):
        self._wait.wait(20)
        self.seen += len(images)
        return super().predict(images)


def test_too_many_requests_are_told_to_come_again(
    serve: Callable[..., Served], detector: Detector
) -> None:
    wait = threading.Event()
    served = serve(_Slow(detector, wait), max_requests=3)
    image = encoded(noise())
    with ThreadPoolExecutor(8) as clients:
        first = [clients.submit(served.post, "/analyze", image) for _ in range(3)]
        _until(lambda: served.app._taken == 3)
        reply = served.post("/analyze", image)
        error = _refused(reply, 429, "busy")
        assert reply.headers["retry-after"] == "1"
        assert error["hint"]
        wait.set()
        assert [f.result().status_code for f in first] == [200] * 3
    assert served.post("/analyze", image).status_code == 200


def test_after_the_deadline_the_work_is_dropped(
    serve: Callable[..., Served], detector: Detector
) -> None:
    wait = threading.Event()
    network = _Slow(detector, wait)
    served = serve(network, deadline_s=0.5)
    image = encoded(noise())
    with ThreadPoolExecutor(4) as clients:
        replies = list(clients.map(lambda _: served.post("/analyze", image), range(4)))
    for reply in replies:
        _refused(reply, 504, "deadline")
    assert served.app._taken == 0
    wait.set()
    assert served.post("/analyze", image).status_code == 200
    # One was with the network already; the three behind it were left out.
    assert network.seen == 2


def test_a_fault_of_ours_is_one_500_and_the_next_request_is_answered(
    serve: Callable[..., Served], detector: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(_Slow):
        def predict(self, images):
            if images[0].shape == (13, 13):
                raise RuntimeError("secret detail")
            return super().predict(images)

    wait = threading.Event()
    wait.set()
    served = serve(Faulty(detector, wait))
    reply = served.post("/analyze", encoded(noise(13, 13)))
    _refused(reply, 500, "internal")
    assert "secret" not in reply.text
    assert "secret detail" in caplog.text
    assert served.post("/analyze", encoded(noise())).status_code == 200
    files = [("image", ("a", encoded(noise(13, 13)))), ("image", ("b", encoded(noise())))]
    bad, good = served.client.post("/analyze_batch", files=files).json()["results"]
    assert (bad["error"]["code"], good["error"]) == ("internal", None)


def test_the_log_has_one_line_of_json_a_request(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "detector_service.requests"):
        served.post("/analyze", encoded(noise()), part_id="A\t7".replace("\t", " "))
        served.client.get("/x%22%0D%0Aforged")
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name.endswith("requests")]
    assert [(line["status"], line["method"]) for line in lines] == [(200, "POST"), (404, "GET")]
    assert lines[0].items() >= {"path": "/analyze", "verdict": "ng", "part_id": "A 7"}.items()
    assert lines[1]["error"] == "not_found"


def test_a_client_that_is_gone_is_not_worked_for(detector: Detector, serve) -> None:
    import anyio

    wait = threading.Event()
    network = _Slow(detector, wait)
    served = serve(network)
    form, body = _form(encoded(noise()))

    async def leave() -> None:
        messages = iter([{"type": "http.request", "body": body}, {"type": "http.disconnect"}])

        async def receive():
            message = next(messages)
            if message["type"] == "http.disconnect":
                await anyio.sleep(0.3)
            return message

        async def send(message) -> None:
            pass

        scope = {"type": "http", "method": "POST", "path": "/analyze", "headers": form}
        scope |= {"query_string": b"", "client": ("127.0.0.1", 1), "root_path": "", "state": {}}
        await served.app.asgi({**scope, "server": ("test", 80), "scheme": "http"}, receive, send)

    async def all_leave() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(leave)

    anyio.run(all_leave)
    wait.set()
    assert served.post("/analyze", encoded(noise())).status_code == 200
    assert network.seen == 2


def _form(image: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    content = (b"content-type", b"multipart/form-data; boundary=x")
    return [content], head + image + b"\r\n--x--\r\n"


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_application_can_be_asked_from_many_threads(served: Served) -> None:
    """As BentoML's server does: many requests at once, each with its own reply."""
    images = [noise(40 + i, 50, seed=i) for i in range(12)]

    def heights(image: np.ndarray) -> int:
        client = TestClient(served.app.asgi)
        files = {"image": ("a.png", encoded(image))}
        return client.post("/analyze", files=files).json()["height"]

    with ThreadPoolExecutor(6) as clients:
        assert list(clients.map(heights, images)) == [len(image) for image in images]
