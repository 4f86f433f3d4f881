"""File sets to measure with: deliveries of grey tiles and masks, the same bytes every time."""

import csv
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

SEED = 7
CLASSES = ("Blowhole", "Break", "Crack", "Fray", "Uneven")
DEFECT_FREE = "Free"
DEFECT_FREE_SHARE = 0.35
EXPOSURES = 3
TEXTURES = 256
TEXTURE_SIZE = 320
COMPLETE = "_COMPLETE"
"""The file that says that a delivery is all there; we write into it what is in it."""


def cached_delivery(folder: Path, first: int, samples: int, tiny: bool = False) -> dict[str, int]:
    """Make a delivery, unless it was made before; return its counts of files and bytes.

    Parameters
    ----------
    folder
        The delivery.
    first
        The number of its first image among all images there could be; image n has the same bytes in
        whatever delivery it is (as long as OpenCV's encoders are the same).
    samples
        How many images.
    tiny
        Images of 16 × 16 pixels, and masks only where there is a defect.
    """
    complete = folder / COMPLETE
    if complete.exists():
        counts: dict[str, int] = json.loads(complete.read_text())
        return counts
    shutil.rmtree(folder, ignore_errors=True)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    draw = _draw_tiny if tiny else _draw
    textures = _textures()

    def write(number: int) -> tuple[tuple[str, str, str, str], int, int]:
        group, exposure = number // EXPOSURES + 1, number % EXPOSURES + 1
        class_name = _class_of(group)
        image, mask = draw(np.random.default_rng([SEED, number]), class_name, textures)
        stem = f"tile-{group:06d}-exp{exposure}"
        (folder / "images" / f"{stem}.jpg").write_bytes(image)
        if mask:
            (folder / "masks" / f"{stem}.png").write_bytes(mask)
        row = (stem, class_name, f"tile-{group:06d}", f"exp{exposure}")
        return row, 1 + bool(mask), len(image) + len(mask)

    counts = {"samples": samples, "files": 0, "bytes": 0}
    with (folder / "samples.csv").open("w", newline="") as file, ThreadPoolExecutor() as pool:
        table = csv.writer(file)
        table.writerow(["sample", "class", "group", "exposure"])
        numbers = iter(range(first, first + samples))
        while chunk := list(islice(numbers, 2048)):
            for row, files, size in pool.map(write, chunk):
                table.writerow(row)
                counts["files"] += files
                counts["bytes"] += size
    complete.write_text(json.dumps(counts))
    return counts


def read_all(folder: Path) -> None:
    """Read every file once, so that it is in the page cache."""

    def read(path: Path) -> None:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass

    with ThreadPoolExecutor() as pool:
        files = (p for p in folder.rglob("*") if p.is_file())
        while chunk := list(islice(files, 4096)):
            list(pool.map(read, chunk))


def extent(folder: Path) -> tuple[int, int]:
    """Return how many images and masks there are below a folder, and their bytes in all."""
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.suffix in (".jpg", ".png")]
    return len(sizes), sum(sizes)


def _class_of(group: int) -> str:
    rng = np.random.default_rng([SEED, 1, group])
    return DEFECT_FREE if rng.random() < DEFECT_FREE_SHARE else str(rng.choice(CLASSES))


def _textures() -> list[np.ndarray]:
    rng = np.random.default_rng([SEED, 0])
    textures = []
    for _ in range(TEXTURES):
        texture = np.full((TEXTURE_SIZE, TEXTURE_SIZE), 128, np.float32)
        for cells, strength in ((5, 18.0), (40, 8.0), (TEXTURE_SIZE, 7.0)):
            grid = rng.normal(0, strength, (cells, cells)).astype(np.float32)
            texture += cv2.resize(grid, texture.shape, interpolation=cv2.INTER_CUBIC)
        textures.append(np.clip(texture, 0, 255).astype(np.uint8))
    return textures


def _draw(rng: Generator, class_name: str, textures: list[np.ndarray]) -> tuple[bytes, bytes]:
    """Return an image and its mask, encoded: a piece of a texture, darker where it is defective."""
    height, width = (int(n) for n in rng.integers(150, 250, 2))
    y, x = (int(rng.integers(TEXTURE_SIZE - n)) for n in (height, width))
    texture = textures[int(rng.integers(TEXTURES))][y : y + height, x : x + width]
    image = cv2.convertScaleAbs(texture, alpha=rng.uniform(0.5, 1.3), beta=rng.uniform(0, 25))
    mask = np.zeros((height, width), np.uint8)
    if class_name != DEFECT_FREE:
        center = (int(width * rng.uniform(0.3, 0.7)), int(height * rng.uniform(0.3, 0.7)))
        angles = np.sort(rng.uniform(0, 2 * np.pi, 24))
        radius = rng.uniform(0.06, 0.3) * min(height, width) * rng.uniform(0.6, 1.2, 24)
        rim = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None] + center
        cv2.fillPoly(mask, [rim.astype(np.int32)], 255)
        cv2.circle(mask, center, 3, 255, -1)
        image = cv2.subtract(image, mask // 6)
    return _encode(image, mask, quality=85)


def _draw_tiny(rng: Generator, class_name: str, _: list[np.ndarray]) -> tuple[bytes, bytes]:
    image = rng.integers(60, 200, (16, 16), np.uint8)
    if class_name == DEFECT_FREE:
        return _encode(image, None, quality=60)
    mask = np.zeros((16, 16), np.uint8)
    y, x = (int(n) for n in rng.integers(0, 10, 2))
    mask[y : y + 5, x : x + 5] = 255
    return _encode(image, mask, quality=60)


def _encode(image: np.ndarray, mask: np.ndarray | None, quality: int) -> tuple[bytes, bytes]:
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return jpeg, b"" if mask is None else cv2.imencode(".png", mask)[1].tobytes()
