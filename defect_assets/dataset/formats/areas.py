"""Shapes as labelling tools store them, filled.

Coordinates are continuous, in pixels: the pixel in column x and row y covers [x, x+1) × [y, y+1).
Sizes are (height, width); what is returned is bool of that shape.
"""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_masks

Size = tuple[int, int]
"""Height and width, in pixels."""


class AreaError(ValueError):
    """A shape that cannot be filled; the message says why."""


def fill_polygon(points: Sequence[tuple[float, float]], size: Size) -> np.ndarray:
    """Fill a polygon of (x, y) as pycocotools does, which COCO and CVAT go by.

    Raises
    ------
    AreaError
        If it has fewer than three points, lies far outside of the image, or covers no pixel.
    """
    if len(points) < 3:
        raise AreaError(f"a polygon needs three points, it has {len(points)}")
    check_near(points, size)
    flat = [float(c) for point in points for c in point]
    filled = coco_masks.decode(coco_masks.frPyObjects([flat], *size))[..., 0]
    return not_empty(filled.astype(bool))


def fill_ellipse(
    center: tuple[float, float], radii: tuple[float, float], rotation: float, size: Size
) -> np.ndarray:
    """Fill an ellipse: the pixels whose centres are in it.

    Parameters
    ----------
    center, radii
        Horizontal and vertical.
    rotation
        About its centre, clockwise, in degrees.
    size
        The image's.

    Raises
    ------
    AreaError
        If a radius is not positive, or it lies far outside of the image, or covers no pixel.
    """
    if min(radii) <= 0:
        raise AreaError(f"an ellipse needs positive radii, it has {radii[0]:g} and {radii[1]:g}")
    check_near([center], size)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    angle = np.radians(rotation)
    along = (x - center[0]) * np.cos(angle) + (y - center[1]) * np.sin(angle)
    across = (y - center[1]) * np.cos(angle) - (x - center[0]) * np.sin(angle)
    return not_empty((along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1)


def box_corners(
    box: tuple[float, float, float, float], rotation: float, pivot: tuple[float, float]
) -> list[tuple[float, float]]:
    """Return the corners of a box, turned.

    Parameters
    ----------
    box
        Left, top, right and bottom before it is turned.
    rotation
        Clockwise, in degrees.
    pivot
        The point about which it is turned.
    """
    left, top, right, bottom = box
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    return [
        (
            float(pivot[0] + (x - pivot[0]) * cos - (y - pivot[1]) * sin),
            float(pivot[1] + (x - pivot[0]) * sin + (y - pivot[1]) * cos),
        )
        for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))
    ]


def fill_runs(runs: Sequence[int], size: Size, by_column: bool = False) -> np.ndarray:
    """Fill from run lengths, in turns outside and inside, the first outside.

    Parameters
    ----------
    runs
        Their sum is the number of pixels.
    size
        Of what they describe.
    by_column
        Whether they go down the columns, as in COCO, rather than along the rows, as in CVAT.

    Raises
    ------
    AreaError
        If they are not as many pixels as the size says, or one is negative.
    """
    if min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise AreaError(
            f"its run lengths are of {sum(runs)} pixels, not of {size[1]} × {size[0]}: "
            "export it again"
        )
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size, order="F" if by_column else "C")


def placed(part: np.ndarray, left: int, top: int, size: Size) -> np.ndarray:
    """Put the mask of a part of an image into its place.

    Raises
    ------
    AreaError
        If it does not lie inside the image.
    """
    height, width = part.shape
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
        raise AreaError(
            f"its mask, {width} × {height} at ({left}, {top}), is not inside the image of "
            f"{size[1]} × {size[0]}"
        )
    whole = np.zeros(size, bool)
    whole[top : top + height, left : left + width] = part
    return whole


def check_near(points: Sequence[tuple[float, float]], size: Size) -> None:
    """Refuse points further outside of the image than it is large.

    Tools let a shape reach over the edge a little. What is far out was made for another image, and
    would take pycocotools as much memory as it is far.

    Raises
    ------
    AreaError
        If a point is.
    """
    for x, y in points:
        if not (-size[1] <= x <= 2 * size[1] and -size[0] <= y <= 2 * size[0]):
            raise AreaError(
                f"its point ({x:g}, {y:g}) is far outside of the image of {size[1]} × {size[0]}"
            )


def not_empty(filled: np.ndarray) -> np.ndarray:
    """Return what a shape fills, if it fills anything.

    A shape too small for a pixel would otherwise turn a defective image into one without a defect.

    Raises
    ------
    AreaError
        If no pixel is in it.
    """
    if not filled.any():
        raise AreaError("it covers no pixel: enlarge it or delete it in the labelling tool")
    return filled
