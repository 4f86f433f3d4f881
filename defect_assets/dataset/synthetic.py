"""The synthetic tile line: textured tiles with exact masks, deterministic from a seed.

It stands in for the magnetic tiles where those are not at hand: images of their sizes, their five
types of defect, each physical tile under several exposures, and things that merely look like
defects. Nothing of it is a picture of a real tile, and a score on it says that the software works,
not how good a model is on real parts.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.random import Generator

from defect_assets.dataset.delivery import DeliveredSample
from defect_assets.inference.images import encode_png

EXPOSURES = (55.0, 105.0, 165.0)
"""Mean grey value of a tile under each exposure."""
DEFECT_FREE = "Free"
DEFECT_FREE_SHARE = 0.35
JITTER = 12
"""A tile moves by up to this many pixels between its exposures."""


def synthetic_samples(seed: int, first: int, tiles: int) -> Iterator[DeliveredSample]:
    """Yield every exposure of some tiles.

    Parameters
    ----------
    seed
        Which line: the same seed gives the same bytes.
    first
        The number of the first tile. Tile n looks the same whatever range it is asked for in.
    tiles
        How many tiles.

    Examples
    --------
    >>> samples = list(synthetic_samples(seed=0, first=1, tiles=2))
    >>> [s.sample for s in samples][:2]
    ['tile-0001-exp1', 'tile-0001-exp2']
    """
    for number in range(first, first + tiles):
        rng = np.random.default_rng([seed, number])
        height = int(np.clip(rng.normal(324, 35), 222, 403))
        width = int(np.clip(rng.lognormal(np.log(270), 0.35), 103, 632))
        surface = _surface(rng, height + JITTER, width + JITTER)
        _distract(rng, surface)
        mask = np.zeros(surface.shape, np.uint8)
        class_name = DEFECT_FREE
        if rng.random() > DEFECT_FREE_SHARE:
            class_name = str(rng.choice(list(_DEFECTS)))
            surface, mask = _DEFECTS[class_name](rng, surface)
        for exposure, brightness in enumerate(EXPOSURES, start=1):
            y, x = rng.integers(0, JITTER, 2)
            view = np.s_[y : y + height, x : x + width]
            image = surface[view] * brightness * rng.uniform(0.92, 1.08)
            image += rng.normal(0, 2.0, image.shape)
            image8 = np.clip(image, 0, 255).astype(np.uint8)
            seen = np.ascontiguousarray(mask[view])
            _, jpeg = cv2.imencode(".jpg", image8, [cv2.IMWRITE_JPEG_QUALITY, 92])
            yield DeliveredSample(
                sample=f"tile-{number:04d}-exp{exposure}",
                # What the camera sees decides: a defect at the rim can be out of view.
                class_name=class_name if seen.any() else DEFECT_FREE,
                group=f"tile-{number:04d}",
                exposure=f"exp{exposure}",
                image=jpeg.tobytes(),
                image_suffix=".jpg",
                mask=encode_png(seen),
            )


def _surface(rng: Generator, height: int, width: int) -> np.ndarray:
    """Return a tile's reflectance around 1, float64 of shape (height, width)."""
    surface = np.ones((height, width))
    for scale, strength in [(1, 0.03), (4, 0.05), (16, 0.06)]:
        columns = rng.normal(0, 1, width // scale + 2).astype(np.float32)
        streaks = cv2.resize(columns[None], (width, 1), interpolation=cv2.INTER_LINEAR)
        surface *= 1 + strength * rng.uniform(0.6, 1.2) * streaks
    surface *= 1 + _noise(rng, height, width, scales=(2, 8, 32)) * rng.uniform(0.02, 0.05)
    # The tile is a segment of a ring: light falls off to both sides.
    across = np.linspace(-1, 1, width) + rng.uniform(-0.3, 0.3)
    return surface * (1 - rng.uniform(0.1, 0.3) * across**2)


def _noise(rng: Generator, height: int, width: int, scales: tuple[int, ...]) -> np.ndarray:
    """Return smooth noise of several scales, about zero mean and unit variance."""
    noise = np.zeros((height, width))
    for scale in scales:
        grid = rng.normal(0, 1, (height // scale + 2, width // scale + 2))
        noise += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return noise / np.sqrt(len(scales))


def _distract(rng: Generator, surface: np.ndarray) -> None:
    """Draw what is no defect: a stain, a hairline scratch, a dark edge."""
    height, width = surface.shape
    if rng.random() < 0.3:
        stain = _noise(rng, height, width, scales=(48,)) > rng.uniform(1.3, 1.8)
        surface *= 1 - 0.06 * cv2.GaussianBlur(stain.astype(np.float64), (0, 0), 5)
    if rng.random() < 0.3:
        line = np.zeros((height, width), np.uint8)
        ends = [(int(rng.integers(width)), int(rng.integers(height))) for _ in range(2)]
        cv2.line(line, ends[0], ends[1], 255, 1, cv2.LINE_AA)
        surface *= 1 + 0.12 * line / 255.0
    if rng.random() < 0.2:
        surface[:, : int(rng.integers(3, 8))] *= 0.7


def _blowhole(rng: Generator, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A gas bubble: a dark ellipse."""
    height, width = surface.shape
    mask = np.zeros(surface.shape, np.uint8)
    side = np.sqrt(height * width)
    center = (int(width * rng.uniform(0.15, 0.85)), int(height * rng.uniform(0.15, 0.85)))
    axes = tuple(int(max(4, side * rng.uniform(0.02, 0.045))) for _ in range(2))
    cv2.ellipse(mask, center, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    return _darken(surface, mask, rng.uniform(0.5, 0.75), softness=1.2), mask


def _crack(rng: Generator, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A crack: a dark, thin random walk."""
    height, width = surface.shape
    steps = int(rng.integers(18, 40))
    turns = np.cumsum(rng.normal(0, 0.35, steps)) + rng.uniform(0, 2 * np.pi)
    length = 0.7 * min(height, width) / steps
    path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * length, axis=0)
    path += np.array([width, height]) * rng.uniform(0.3, 0.7, 2) - path.mean(axis=0)
    mask = np.zeros(surface.shape, np.uint8)
    cv2.polylines(mask, [path.astype(np.int32)], False, 255, int(rng.integers(3, 6)))
    return _darken(surface, mask, rng.uniform(0.45, 0.65), softness=0.8), mask


def _break(rng: Generator, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A chipped edge: a ragged patch at the rim, dark or bright."""
    mask = _blob(rng, surface.shape, at_edge=True, size=(0.10, 0.20), raggedness=0.5)
    strength = rng.uniform(0.4, 0.65) if rng.random() < 0.6 else -rng.uniform(0.4, 0.6)
    height, width = surface.shape
    roughness = _noise(rng, height, width, scales=(3, 9)) * (mask > 0)
    rough = surface * (1 + 0.15 * roughness)
    return _darken(rough, mask, strength, softness=1.0), mask


def _fray(rng: Generator, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A worn patch: dark, smooth and without streaks."""
    mask = _blob(rng, surface.shape, at_edge=False, size=(0.10, 0.22), raggedness=0.25)
    smooth = cv2.GaussianBlur(surface, (0, 0), 6)
    inside = cv2.GaussianBlur((mask > 0).astype(np.float64), (0, 0), 2)
    return _darken(surface * (1 - inside) + smooth * inside, mask, 0.4, softness=3.0), mask


def _uneven(rng: Generator, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Uneven grinding: a zone along one side, streaks blurred, brighter or darker."""
    height, width = surface.shape
    depth = rng.uniform(0.18, 0.35)
    mask = np.zeros(surface.shape, np.uint8)
    if rng.random() < 0.5:
        rim = depth * width * (1 + 0.2 * _noise(rng, height, 1, scales=(24,))[:, 0])
        zone = np.arange(width)[None] < rim[:, None]
    else:
        rim = depth * height * (1 + 0.2 * _noise(rng, 1, width, scales=(24,))[0])
        zone = np.arange(height)[:, None] < rim[None]
    if rng.random() < 0.5:
        zone = zone[::-1, ::-1]
    mask[zone] = 255
    smooth = cv2.GaussianBlur(surface, (0, 0), 4)
    inside = cv2.GaussianBlur(zone.astype(np.float64), (0, 0), 2)
    strength = float(rng.choice([-1, 1])) * rng.uniform(0.1, 0.2)
    return _darken(surface * (1 - inside) + smooth * inside, mask, strength, softness=2.0), mask


_DEFECTS: dict[str, Callable[[Generator, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "Blowhole": _blowhole,
    "Break": _break,
    "Crack": _crack,
    "Fray": _fray,
    "Uneven": _uneven,
}


def _blob(
    rng: Generator,
    shape: tuple[int, ...],
    at_edge: bool,
    size: tuple[float, float],
    raggedness: float,
) -> np.ndarray:
    """Return a mask (0 or 255) of one irregular patch; ``size`` is its radius by the side."""
    height, width = shape
    y, x = rng.uniform(0.25, 0.75, 2)
    if at_edge:
        if rng.random() < 0.5:
            x = float(rng.choice([0.06, 0.94]))
        else:
            y = float(rng.choice([0.06, 0.94]))
    radius = np.sqrt(height * width) * rng.uniform(*size)
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - y * height, columns - x * width) / radius
    inside = distance + raggedness * 0.5 * _noise(rng, height, width, scales=(12, 30)) < 1
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    if count < 2:
        return ((distance < 1) * 255).astype(np.uint8)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return ((labels == largest) * 255).astype(np.uint8)


def _darken(surface: np.ndarray, mask: np.ndarray, strength: float, softness: float) -> np.ndarray:
    """Darken (or, with a negative strength, brighten) the surface where the mask is set."""
    inside = cv2.GaussianBlur((mask > 0).astype(np.float64), (0, 0), softness)
    return surface * (1 - strength * inside)
