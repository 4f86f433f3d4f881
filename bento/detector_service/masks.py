"""Masks as replies hold them, and as people see them."""

import base64
import io
import zlib
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image

from defect_assets.inference.images import encode_png
from defect_assets.inference.postprocessing import Defect

PALETTE = ("#e11d48", "#f59e0b", "#8b5cf6", "#0ea5e9", "#10b981", "#ec4899", "#84cc16", "#f97316")
"""The colours of classes 1, 2, …; the page has the same."""

_NAMED = 40
"""So many defects have their names beside them; more would hide the image."""


def mask_base64(mask: np.ndarray) -> str:
    """Return class ids, uint8 (H, W), as a PNG in base64.

    Run lengths are all that there is to compress: zlib's strategy for them is faster, and the file
    smaller. Most parts are fine, and their masks all the same.
    """
    return _blank(*mask.shape) if not mask.any() else _run_length_png(mask)


@lru_cache(maxsize=16)
def _blank(height: int, width: int) -> str:
    return _run_length_png(np.zeros((height, width), np.uint8))


def _run_length_png(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG", compress_type=zlib.Z_RLE)
    return base64.b64encode(buffer.getvalue()).decode()


def png_base64(pixels: np.ndarray) -> str:
    """Return uint8 pixels, H × W or H × W × 3, as a PNG in base64."""
    return base64.b64encode(encode_png(pixels)).decode()


def probability_picture(probability: np.ndarray, likeliest: np.ndarray) -> np.ndarray:
    """Return probabilities, float32 (H, W), and likeliest classes as a picture, uint8 (H, W, 3)."""
    red = np.rint(255 * probability.clip(0, 1)).astype(np.uint8)
    return np.dstack([red, likeliest, np.zeros_like(red)])


def run_lengths(mask: np.ndarray, classes: list[int]) -> dict[int, list[int]]:
    """Return each class's run lengths as COCO has them, uncompressed.

    Column by column, beginning with a run of pixels that are not of the class.

    Examples
    --------
    >>> run_lengths(np.array([[0, 2], [1, 2]], np.uint8), [1, 2])
    {1: [1, 1, 2], 2: [2, 2]}
    """
    columns = mask.ravel(order="F")
    runs = {}
    for class_id in classes:
        inside = np.concatenate([[False], columns == class_id])
        edges = np.flatnonzero(inside[1:] != inside[:-1])
        runs[class_id] = np.diff(np.concatenate([[0], edges, [columns.size]])).tolist()
    return runs


def polygons(mask: np.ndarray, defects: list[Defect]) -> list[list[list[tuple[int, int]]]]:
    """Return the outlines of each defect: the outer one first, then those of its holes.

    Points are the centres of pixels on the rim, (x, y); straight stretches have two.
    """
    binary = (mask > 0).astype(np.uint8)
    _, labels, stats, centroids = cv2.connectedComponentsWithStats(binary, connectivity=8)
    # The regions are those of the analysis, so their figures are the same to the last bit.
    label_of = {
        (*stats[label].tolist(), *centroids[label].tolist()): label
        for label in range(1, len(stats))
    }
    rings: dict[int, list[list[tuple[int, int]]]] = {label: [] for label in label_of.values()}
    contours, _ = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer_first = sorted(contours, key=lambda ring: -cv2.contourArea(ring))
    for ring in outer_first:
        points = ring[:, 0].tolist()
        # The rim of a hole, too, consists of the region's own pixels.
        rings[int(labels[points[0][1], points[0][0]])].append([(x, y) for x, y in points])
    found = []
    for defect in defects:
        left, top, right, bottom = defect.bbox_xyxy
        key = (left, top, right - left, bottom - top, defect.area_px, *defect.centroid_xy)
        found.append(rings[label_of[key]])
    return found


def overlay(image: np.ndarray, mask: np.ndarray, defects: list[Defect]) -> np.ndarray:
    """Return the image, uint8 (H, W, 3), its defects tinted and outlined, the largest named."""
    shown = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image.copy()
    line = max(1, round(min(mask.shape) / 300))
    for class_id in np.unique(mask[mask > 0]).tolist():
        inside = mask == class_id
        colour = _rgb(class_id)
        shown[inside] = (0.65 * shown[inside] + 0.35 * np.array(colour)).astype(np.uint8)
        contours, _ = cv2.findContours(
            inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        cv2.drawContours(shown, contours, -1, colour, line)
    for number, defect in enumerate(defects[:_NAMED], start=1):
        left, top, _, _ = defect.bbox_xyxy
        text = f"{number} {defect.class_name} {defect.confidence:.0%}"
        _write(shown, text, (left, top - 2 * line), line, _rgb(defect.class_id))
    return shown


def _write(
    image: np.ndarray, text: str, at: tuple[int, int], line: int, colour: tuple[int, int, int]
) -> None:
    """Write on a ground of its own, inside the image."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * line
    (width, height), base = cv2.getTextSize(text, font, scale, line)
    left = max(0, min(at[0], image.shape[1] - width))
    bottom = max(height + base, at[1])
    cv2.rectangle(image, (left, bottom - height - base), (left + width, bottom), colour, -1)
    cv2.putText(
        image, text, (left, bottom - base // 2), font, scale, (255, 255, 255), line, cv2.LINE_AA
    )


def _rgb(class_id: int) -> tuple[int, int, int]:
    colour = PALETTE[(class_id - 1) % len(PALETTE)]
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
