"""Broken images and bodies, thousands of them: each gets a reply, and none says that we failed."""

import random
import time
from collections import Counter

import numpy as np
import psutil
import pytest
from starlette.testclient import TestClient

from tests.service.conftest import Served, encoded, noise

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Pillow's, of damage

ROUNDS = 2400


def _seeds() -> list[bytes]:
    grey, colour = noise(40, 50), np.dstack([noise(40, 50, seed=n) for n in range(3)])
    files = [
        encoded(image, form)
        for image in (grey, colour)
        for form in ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
    ]
    deep = encoded(grey.astype(np.uint16) << 8, "PNG")
    return [
        *files,
        deep,
        encoded(grey, "JPEG", progressive=True),
        encoded(grey, "TIFF", compression="tiff_lzw"),
    ]


def _mutated(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change some bytes, cut, splice, repeat or swap pieces, or write extreme numbers."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        if not changed:
            break
        at = rng.randrange(len(changed))
        match rng.randrange(8):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + rng.randrange(1, 64)]
            case 4:
                changed[at:at] = rng.randbytes(rng.randrange(1, 64))
            case 5:
                changed[at:at] = changed[at : at + rng.randrange(1, 256)]
            case 6:
                other = rng.choice(others)
                changed[at:] = other[rng.randrange(len(other)) :]
            case 7:
                width = rng.choice([2, 4])
                changed[at : at + width] = rng.choice([b"\xff" * width, b"\x7f" + b"\xff" * 3])
    return bytes(changed)


def test_mutated_images_and_bodies_never_break_the_service(served: Served) -> None:
    rng = random.Random(0)
    seeds = _seeds()
    client = TestClient(served.app.asgi, raise_server_exceptions=False)
    statuses: Counter[int] = Counter()
    slowest, memory = 0.0, []
    for n in range(ROUNDS):
        image = rng.choice(seeds)
        if n % 4:
            image = _mutated(rng, image, seeds)
        head = f'--x\r\nContent-Disposition: form-data; name="image"; filename="{n}"\r\n\r\n'
        option = '\r\n--x\r\nContent-Disposition: form-data; name="threshold"\r\n\r\n'
        body = head.encode() + image + f"{option}{rng.random()}".encode() + b"\r\n--x--\r\n"
        if n % 4 in (0, 3):
            body = _mutated(rng, body, [body])
        content = "multipart/form-data; boundary=" + rng.choice(["x", "x", "x", "", '"x', "y"])
        path = rng.choice(["/analyze", "/analyze", "/overlay", "/plc", "/analyze_batch"])
        begun = time.perf_counter()
        reply = client.post(path, content=body, headers={"Content-Type": content})
        slowest = max(slowest, time.perf_counter() - begun)
        statuses[reply.status_code] += 1
        assert reply.status_code < 500, (n, reply.text)
        if reply.status_code >= 400:
            assert reply.json()["error"]["code"] not in ("internal", "refused")
        elif path == "/analyze_batch":
            errors = [item["error"] for item in reply.json()["results"] if item["error"]]
            assert all(error["code"] != "internal" for error in errors), (n, errors)
        if n % 400 == 399:
            memory.append(psutil.Process().memory_info().rss)
    assert statuses[200] > 300, statuses
    assert sum(statuses.values()) - statuses[200] > 1000, statuses
    assert slowest < 5
    assert memory[-1] < 1.1 * memory[1], memory
