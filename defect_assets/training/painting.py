"""Painting of defects onto defect-free images.

Where real parts with a defect are few, a network learns them by heart. Painted ones are all
different, and what they have in common is what a kind of defect looks like: a dark spot, a chipped
rim, a thin line, a patch of another texture, a zone of another finish. Each is painted onto the
logarithm of an image, so that it looks the same under any exposure.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from defect_assets.training.config import DefectKind

_FINE = 4
"""Thin shapes are drawn at this multiple of the resolution, then averaged."""


def paint(
    image: np.ndarray, kind: DefectKind, class_id: int, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paint one defect.

    Parameters
    ----------
    image
        Without a defect, uint8 of shape (H, W, channels).
    kind
        What to paint.
    class_id
        Its number in the mask.
    rng
        Of the random draws: place, size, shape, strength, texture.

    Returns
    -------
    image, mask
        uint8 of shape (H, W, channels) and (H, W); the mask holds 0 and the class id.
    """
    log = np.log1p(image.astype(np.float32))
    painted, shape = _KINDS[kind](rng, log)
    return (
        np.clip(np.expm1(painted), 0, 255).astype(np.uint8),
        np.where(shape, class_id, 0).astype(np.uint8),
    )


def _hole(rng: Generator, log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A small dark ellipse, at times with a bright rim on one side."""
    height, width = log.shape[:2]
    radius = _side(log) * _FINE * _between(rng, 0.008, 0.035)
    stretch = np.exp(rng.uniform(0, 1))
    angle = rng.normal(0, 25) if rng.random() < 0.7 else rng.uniform(0, 180)
    canvas = _canvas(log)
    centre = (rng.uniform(0.03, 0.97, 2) * (width, height) * _FINE).astype(int).tolist()
    axes = (int(max(3, radius * stretch)), int(max(3, radius / np.sqrt(stretch))))
    cv2.ellipse(canvas, centre, axes, float(angle), 0, 360, 255, -1)
    cover = _averaged(canvas, log)
    inside = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.4, 0.9))
    change = -inside * rng.uniform(0.3, 1.1)
    if rng.random() < 0.4:
        shifted = np.roll(inside, int(rng.choice([-2, 2])), axis=int(rng.integers(2)))
        change += np.clip(shifted - inside, 0, 1) * rng.uniform(0.1, 0.5)
    return log + change[..., None], cover > 0.3


def _crack(rng: Generator, log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A dark line one or two pixels wide, which wanders; often from top to bottom."""
    height, width = log.shape[:2]
    steps = int(rng.integers(8, 40))
    along = rng.random() < 0.6
    turns = np.cumsum(rng.normal(0, rng.uniform(0.05, 0.35), steps))
    angles = np.clip(turns, -0.6, 0.6) + np.pi / 2 if along else turns + rng.uniform(0, 2 * np.pi)
    path = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], 1), axis=0)
    path *= _side(log) * rng.uniform(0.015, 0.03)
    start = rng.uniform(0.05, 0.95, 2) * (width, height)
    if rng.random() < 0.5:  # from the rim
        start[1] = 0
    points = (path - path[0] + start) * _FINE
    canvas = _canvas(log)
    cv2.polylines(canvas, [points.astype(np.int32)], False, 255, int(rng.integers(3, 10)))
    cover = _averaged(canvas, log)
    shape = cover > 0.25
    if rng.random() < 0.5:  # people draw cracks wider than they are
        shape = cv2.dilate(shape.astype(np.uint8), np.ones((2, 2))) > 0
    return log - (cover * rng.uniform(0.25, 0.9))[..., None], shape


def _chip(rng: Generator, log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A ragged piece out of the rim, dark or bright."""
    rows, columns = _coordinates(log)
    height, width = log.shape[:2]
    lengths = (width, height) if (upright := rng.random() < 0.5) else (height, width)
    along, across = (columns, rows) if upright else (rows, columns)
    at = rng.uniform(0, lengths[0])
    if rng.random() < 0.4:  # at a corner
        at = float(rng.choice([0, lengths[0]])) + rng.normal(0, 0.05) * lengths[0]
    off = rng.uniform(-0.03, 0.06) * lengths[1]
    rim = off if rng.random() < 0.5 else lengths[1] - off
    radius, stretch = _side(log) * _between(rng, 0.03, 0.2), np.exp(rng.uniform(0, 1.1))
    distance = np.hypot(
        (along - at) / (radius * stretch), (across - rim) / (radius / np.sqrt(stretch))
    )
    shape = distance + rng.uniform(0.1, 0.35) * _noise(rng, log, (1 / 20, 1 / 8)) < 1
    brightness = rng.uniform(0.2, 0.8) * (1 if rng.random() < 0.4 else -1)
    texture = rng.uniform(0.02, 0.2) * _noise(rng, log, (0.01, 0.025))
    shading = rng.uniform(0, 0.25) * _noise(rng, log, (1 / 8,))
    edge = np.abs(_softened(shape, 1) - shape) * rng.uniform(-0.6, 0.6)
    replaced = _replaced(log, shape, rng.uniform(0.5, 1.2), 1 / 15, rng.uniform(0.4, 1))
    inside = _softened(shape, 1) * (brightness + texture + shading)
    return replaced + (inside + edge)[..., None], shape


def _patch(rng: Generator, log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A large spot of another texture in the middle, mostly dark; at times it reaches the rim."""
    rows, columns = _coordinates(log)
    height, width = log.shape[:2]
    x, y = rng.uniform(0.25, 0.75, 2) * (width, height)
    radius, stretch = _side(log) * rng.uniform(0.1, 0.26), np.exp(rng.uniform(0, 0.45))
    distance = np.hypot((columns - x) / (radius / stretch), (rows - y) / (radius * stretch))
    shape = distance + rng.uniform(0.02, 0.2) * _noise(rng, log, (1 / 10, 1 / 4)) < 1
    if rng.random() < 0.3:
        wander = 0.03 * _side(log) * _noise(rng, log, (1 / 6,))
        reach = radius / stretch * rng.uniform(0.8, 1.2)
        shape |= (np.abs(columns - x + wander) < reach) & (rows > y)
    if rng.random() < 0.5:
        shape = np.ascontiguousarray(shape[::-1])
    dark = rng.random() < 0.7
    brightness = rng.uniform(-0.7, -0.15) if dark else rng.uniform(0.05, 0.25)
    texture = rng.uniform(0.02, 0.1) * _noise(rng, log, (0.01, 0.03))
    softness = rng.uniform(0.5, 1.5)
    replaced = _replaced(log, shape, softness, 1 / 12, rng.uniform(0.5, 1))
    return replaced + (_softened(shape, softness) * (brightness + texture))[..., None], shape


def _zone(rng: Generator, log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A zone at one side, or a band, of another finish: streaks along the part, or none at all."""
    rows, columns = _coordinates(log)
    height, width = log.shape[:2]
    wobble = 0.02 * height * _line(rng, width, 1 / 5)
    depth = height * rng.uniform(0.06, 0.5) + wobble + rng.normal(0, 0.08) * (columns - width / 2)
    shape = rows < depth
    if rng.random() < 0.3:  # a band
        top, thickness = height * rng.uniform(0.05, 0.6), height * rng.uniform(0.1, 0.5)
        shape = (rows > top + wobble) & (
            rows < top + thickness + 0.02 * height * _line(rng, width, 1 / 4)
        )
    if rng.random() < 0.4:  # not from side to side
        left, right = sorted(rng.uniform(-0.05, 1.05, 2) * width)
        if right - left > 0.2 * width:
            ragged = 0.03 * width * _line(rng, height, 1 / 4)[:, None]
            shape &= (columns > left + ragged) & (columns < right + ragged)
    if rng.random() < 0.5:
        shape = np.ascontiguousarray(shape[::-1])
    inside = _softened(shape, rng.uniform(0.6, 3))
    if rng.random() < 0.7:
        streaks = sum(
            weight * np.abs(_line(rng, width, scale))
            for scale, weight in [(0.0075, 1.0), (0.016, 0.7), (0.038, 0.5)]
        )
        streaks = (streaks - np.mean(streaks)) / np.std(streaks)
        fading = 1 + 0.25 * _noise(rng, log, (1 / 3,))
        change = rng.uniform(0.04, 0.22) * streaks * fading + rng.uniform(-0.05, 0.25)
    else:
        change = rng.uniform(-0.3, 0.3) + rng.uniform(0, 0.1) * _noise(rng, log, (1 / 3,))
        smoothness = (inside * rng.uniform(0, 1))[..., None]
        smooth = cv2.GaussianBlur(log, (0, 0), 2).reshape(log.shape)
        log = log * (1 - smoothness) + smooth * smoothness
    return log + (inside * change)[..., None], shape


_KINDS: dict[DefectKind, Callable[[Generator, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "hole": _hole,
    "crack": _crack,
    "chip": _chip,
    "patch": _patch,
    "zone": _zone,
}


def _side(log: np.ndarray) -> float:
    return float(np.sqrt(log.shape[0] * log.shape[1]))


def _between(rng: Generator, low: float, high: float) -> float:
    """Draw a size; small ones are as likely as large ones."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _coordinates(log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(log.shape[0])[:, None], np.arange(log.shape[1])[None]


def _canvas(log: np.ndarray) -> np.ndarray:
    return np.zeros((log.shape[0] * _FINE, log.shape[1] * _FINE), np.uint8)


def _averaged(canvas: np.ndarray, log: np.ndarray) -> np.ndarray:
    """Return which share of each pixel is drawn on."""
    size = (log.shape[1], log.shape[0])
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _noise(rng: Generator, log: np.ndarray, scales: tuple[float, ...]) -> np.ndarray:
    """Return smooth noise of several scales (shares of the side), of unit variance each."""
    height, width = log.shape[:2]
    noise = np.zeros((height, width), np.float32)
    for scale in scales:
        step = scale * _side(log)
        grid = rng.normal(0, 1, (max(2, int(height / step) + 2), max(2, int(width / step) + 2)))
        noise += cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return noise / np.sqrt(len(scales))


def _line(rng: Generator, length: int, scale: float) -> np.ndarray:
    """Return smooth noise along a line, float32 of shape (length,)."""
    grid = rng.normal(0, 1, (1, max(2, int(1 / scale) + 2))).astype(np.float32)
    return cv2.resize(grid, (length, 1), interpolation=cv2.INTER_CUBIC)[0]


def _softened(shape: np.ndarray, softness: float) -> np.ndarray:
    return cv2.GaussianBlur(shape.astype(np.float32), (0, 0), softness)


def _replaced(
    log: np.ndarray, shape: np.ndarray, softness: float, scale: float, strength: float
) -> np.ndarray:
    """Take the texture away where a shape is; what is left is the light."""
    light = cv2.GaussianBlur(log, (0, 0), scale * _side(log)).reshape(log.shape)
    inside = (_softened(shape, softness) * strength)[..., None]
    return log * (1 - inside) + light * inside
