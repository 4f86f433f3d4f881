"""The service over HTTP: what only a real server can get wrong."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import PROJECT
from tests.end_to_end.conftest import tool
from tests.servers.service import LiveService, live_service, pack_untrained
from tests.service.conftest import encoded, noise

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    with live_service(tmp_path_factory.mktemp("live"), deadline_s=20, max_body_mb=5) as service:
        yield service


def post(address: str, image: bytes, timeout: float = 30) -> httpx.Response:
    files = {"image": ("a.png", image)}
    return httpx.post(f"{address}/analyze", files=files, timeout=timeout)


def test_probes_need_no_key_and_unknown_paths_are_ours(live: LiveService) -> None:
    for path in ("/livez", "/readyz", "/healthz"):
        assert httpx.get(live.address + path).status_code == 200
    for path in ("/docs.json", "/static_content/x.js", "/nothing"):
        reply = httpx.get(live.address + path)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


def test_one_bad_image_among_many_is_one_error(live: LiveService) -> None:
    images = [encoded(noise(seed=n)) for n in range(32)]
    images[17] = images[17][:-30]
    with ThreadPoolExecutor(32) as clients:
        replies = list(clients.map(lambda image: post(live.address, image), images))
    assert [r.status_code for n, r in enumerate(replies) if n != 17] == [200] * 31
    assert replies[17].status_code == 422


def test_metrics_of_a_real_server(live: LiveService) -> None:
    assert post(live.address, encoded(noise())).status_code == 200
    for n in range(5):
        httpx.get(f"{live.address}/random-{n}")
    reply = httpx.get(f"{live.address}/metrics", timeout=10)
    assert "defect_stage_seconds_bucket" in reply.text
    assert "random-" not in reply.text
    routes = {
        line.split('route="')[1].split('"')[0]
        for line in reply.text.splitlines()
        if 'route="' in line
    }
    assert routes <= {"/analyze", "/metrics", "/model", "/", "other", "/openapi.json"}


def test_a_long_body_in_chunks_is_refused_while_it_comes(live: LiveService) -> None:
    host, port = live.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            b"POST /analyze HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        connection.sendall(b"%x\r\n" % len(head) + head + b"\r\n")
        sent, chunk = 0, b"%x\r\n" % 65536 + bytes(65536) + b"\r\n"
        try:
            while sent < 200e6:
                connection.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        answer = b""
        try:
            answer = connection.recv(4096)
        except OSError:
            pass
    assert sent < 50e6
    assert not answer or answer.startswith(b"HTTP/1.1 413")
    assert httpx.get(f"{live.address}/readyz").status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"POST /analyze HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /analyze HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nshort",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_does_not_hurt(live: LiveService, data: bytes) -> None:
    host, port = live.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
        except ConnectionError:
            answer = b""
    assert b"HTTP/1.1 5" not in answer
    assert httpx.get(f"{live.address}/readyz").status_code == 200


def test_after_kill_9_the_service_is_back_and_nobody_waits_too_long(live: LiveService) -> None:
    deadline, image = 20, encoded(noise())
    outcomes: Counter[object] = Counter()
    longest = 0.0
    end = time.monotonic() + 25
    victim = live.worker().pid

    def client(_: int) -> None:
        nonlocal longest
        while time.monotonic() < end:
            begun = time.monotonic()
            try:
                outcomes[post(live.address, image, timeout=deadline).status_code] += 1
            except httpx.TransportError as error:
                outcomes[type(error)] += 1
                time.sleep(0.1)
            longest = max(longest, time.monotonic() - begun)

    with ThreadPoolExecutor(8) as clients:
        done = [clients.submit(client, n) for n in range(8)]
        time.sleep(3)
        os.kill(victim, signal.SIGKILL)
        for one in done:
            one.result()
    assert post(live.address, image).status_code == 200
    assert live.worker().pid != victim
    assert outcomes[200] > 20
    assert {status for status in outcomes if isinstance(status, int)} <= {200, 429}
    assert longest <= deadline + 1


def test_requests_in_flight_are_answered_when_it_is_stopped(tmp_path: Path) -> None:
    big = encoded(noise(3000, 4000))
    with live_service(tmp_path) as live, ThreadPoolExecutor(4) as clients:
        replies = [clients.submit(post, live.address, big) for _ in range(4)]
        time.sleep(1)  # they are on their way, and take some seconds
        os.kill(live.process.pid, signal.SIGTERM)
        assert [r.result().status_code for r in replies] == [200] * 4
        assert live.process.wait(30) is not None
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{live.address}/readyz")


def test_a_damaged_model_stops_the_start(tmp_path: Path) -> None:
    environment = pack_untrained(tmp_path)
    weights = tmp_path / "bentoml" / "models" / "defect_detector" / "v0.0.1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    _does_not_start(environment, "a file is damaged")


def test_settings_that_are_not_sound_stop_the_start(tmp_path: Path) -> None:
    environment = pack_untrained(tmp_path)
    _does_not_start(environment | {"DETECTOR_DEADLINE_S": "-1"}, "deadline_s")
    _does_not_start(environment | {"DETECTOR_API_KEYS_FILE": "/nowhere/keys"}, "/nowhere/keys")


def _does_not_start(environment: dict[str, str], says: str) -> None:
    result = subprocess.run(
        [tool("bentoml"), "serve", "--port", "29999"],
        cwd=PROJECT / "bento",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode != 0
    assert says in result.stdout + result.stderr


@pytest.mark.soak
def test_ten_minutes_under_load_take_no_more_memory(tmp_path: Path) -> None:
    images = [encoded(noise(300 + 10 * n, 400, seed=n)) for n in range(8)] + [b"broken"]
    with live_service(tmp_path, inference_log=tmp_path / "log") as live:
        worker, minute, sizes = live.worker(), 60.0, []

        def client(n: int) -> Counter[int]:
            seen: Counter[int] = Counter()
            with httpx.Client(timeout=30) as connection:
                while time.monotonic() < end:
                    files = {"image": ("a.png", images[(n + seen.total()) % len(images)])}
                    seen[connection.post(f"{live.address}/analyze", files=files).status_code] += 1
            return seen

        end = time.monotonic() + 11 * minute
        with ThreadPoolExecutor(8) as clients:
            counts = [clients.submit(client, n) for n in range(8)]
            for _ in range(11):
                time.sleep(minute - 1)
                sizes.append(worker.memory_info().rss)
            total = sum((c.result() for c in counts), Counter())
    assert set(total) == {200, 415}
    # The first minute fills caches and the allocator's pools.
    assert max(sizes[-2:]) < 1.02 * max(sizes[1:3]), sizes
    shutil.rmtree(tmp_path / "log")
