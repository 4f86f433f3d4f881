"""Decoding of image files: one decoder for ingest, evaluation and service."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
MAX_PIXELS = 100_000_000


class ImageError(ValueError):
    """Bytes that are not an image we take; the message says why, for a person."""


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image file, upright as its orientation tag says.

    Parameters
    ----------
    data
        A JPEG, PNG, BMP, TIFF or WebP file.
    max_pixels
        Larger images are refused by their header, before any pixel is decoded.

    Returns
    -------
    numpy.ndarray
        uint8, H × W for grey images and H × W × 3 (RGB) for all others. Of 16-bit images the
        upper 8 bits are kept; transparency is dropped.

    Raises
    ------
    ImageError
        If the bytes are empty, no image, an image of another format, truncated, too large, or
        of floating-point numbers.
    """
    values = decode_values(data, max_pixels)
    if values.dtype != np.uint8:
        return (np.clip(values, 0, 65535) >> 8).astype(np.uint8)
    return values


def decode_values(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image file as `decode_image` does, but keep all bits of deep images.

    Returns
    -------
    numpy.ndarray
        uint8, H × W or H × W × 3 (RGB); for images of more than 8 bits int64, H × W.

    Raises
    ------
    ImageError
        As `decode_image` does.
    """
    if not data:
        raise ImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"{image.width} × {image.height} pixels are more than {max_pixels:,}"
                )
            if image.mode == "F":
                raise ImageError("its pixels are floating-point numbers; save it as integers")
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                return np.asarray(upright).astype(np.int64)
            grey = upright.mode in ("1", "L", "LA")
            return np.asarray(upright.convert("L" if grey else "RGB"))
    except UnidentifiedImageError:
        raise ImageError(f"it is not an image of a known format ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError as error:
        raise ImageError(str(error)) from None
    except ImageError:
        raise
    # Pillow's decoders raise many kinds of error for damaged files; for us they are all one.
    except Exception as error:
        raise ImageError(f"it cannot be decoded ({error})") from error


def encode_png(image: np.ndarray) -> bytes:
    """Encode a uint8 array, H × W or H × W × 3 (RGB), as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
