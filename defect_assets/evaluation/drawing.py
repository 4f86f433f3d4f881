"""Pictures of a gallery, as they are put into a page."""

import base64
import io
from collections.abc import Iterable

import cv2
import numpy as np
from PIL import Image

from defect_assets.dataset.pictures import contact_sheet
from defect_assets.evaluation.gallery import Outline, Picture
from defect_assets.inference.images import encode_png

_QUALITY = 85
_HEAT = (249, 115, 22)
_HEAT_SIZE = 160
"""Pixels of the longer side of the map of probabilities, which is smooth."""
_HEAT_LEVELS = 12
_HEAT_OPACITY = 200


def photo_uri(picture: Picture) -> str:
    """Return the image as a data address, JPEG."""
    image = picture.image
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def heat_uri(picture: Picture) -> str:
    """Return the probabilities as a data address: a PNG, the more opaque the more probable."""
    height, width = picture.probability.shape
    scale = min(1.0, _HEAT_SIZE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture.probability, size, interpolation=cv2.INTER_AREA)
    levels = np.rint(small * (_HEAT_LEVELS - 1)).astype(np.uint8)
    image = Image.fromarray(levels)
    image.putpalette(bytes(_HEAT * _HEAT_LEVELS))  # which makes it an image of indices
    opacity = bytes(round(_HEAT_OPACITY * i / (_HEAT_LEVELS - 1)) for i in range(_HEAT_LEVELS))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", transparency=opacity, optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def svg_path(outline: Outline) -> str:
    """Return an outline as the data of an SVG path."""
    return "".join(
        "M" + "L".join(f"{x:.4g} {y:.4g}" for x, y in ring.tolist()) + "Z" for ring in outline.rings
    )


def preview(picture: Picture, palette: np.ndarray) -> bytes:
    """Return image, truth and prediction side by side, PNG."""
    views = [_drawn(picture, outlines, palette) for outlines in ((), picture.truth, picture.found)]
    return encode_png(contact_sheet(views, columns=3, cell=200))


def _drawn(picture: Picture, outlines: Iterable[Outline], palette: np.ndarray) -> np.ndarray:
    gray = picture.image.ndim == 2
    view = cv2.cvtColor(picture.image, cv2.COLOR_GRAY2RGB) if gray else picture.image.copy()
    for outline in outlines:
        rings = [np.rint(ring - 0.5).astype(np.int32) for ring in outline.rings]
        color = tuple(int(v) for v in palette[outline.class_id])
        cv2.drawContours(view, rings, -1, color, thickness=2)
    return view
