"""Decoding of image files: one decoder for ingest, evaluation and service."""

import io
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
MAX_PIXELS = 100_000_000


class ImageError(ValueError):
    """Bytes that are not an image we take; the message says why, for a person."""


class UnknownFormatError(ImageError):
    """Bytes of no format that we take."""


class TooManyPixelsError(ImageError):
    """An image that is larger than what we take."""


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
    quick = _decode_plain(data, max_pixels)
    if quick is not None:
        return quick
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise TooManyPixelsError(
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
        raise UnknownFormatError(
            f"it is not an image of a known format ({', '.join(FORMATS)})"
        ) from None
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(str(error)) from None
    except ImageError:
        raise
    # Pillow's decoders raise many kinds of error for damaged files; for us they are all one.
    except Exception as error:
        raise ImageError(f"it cannot be decoded ({error})") from error


def _decode_plain(data: bytes, max_pixels: int) -> np.ndarray | None:
    """Decode a plain JPEG or PNG of 8 bits with OpenCV; None: this is one for Pillow.

    The pixels are the same bit by bit, in half the time, and other threads run meanwhile. What is
    turned, transparent, indexed, deep, too large or broken is left to Pillow, which has the last
    word, and words for what is wrong.
    """
    if data.startswith(b"\xff\xd8\xff"):
        size = _jpeg_size(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        size = _png_size(data)
    else:
        return None
    if size is None or size[0] * size[1] > max_pixels:
        return None
    import cv2  # 0.2 s, which not every command has to wait for

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8 or pixels.shape[:2] != size:
        return None
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.shape[2] == 3 else None


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width of a PNG that is grey or RGB, of 8 bits, and nothing else."""
    width, height, depth, kind = struct.unpack_from(">IIBB", data.ljust(26, b"\0"), 16)
    plain = depth == 8 and kind in (0, 2) and data[12:16] == b"IHDR"
    special = any(chunk in data for chunk in (b"eXIf", b"tRNS", b"acTL"))
    return (height, width) if plain and not special else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width of a whole JPEG, grey or of three colours, without an EXIF tag."""
    if not data.endswith(b"\xff\xd9") or b"Exif" in data:
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of a frame
            depth, height, width, colours = struct.unpack_from(">BHHB", data, at + 4)
            return (height, width) if depth == 8 and colours in (1, 3) else None
        at += 2 + length
    return None


def encode_png(image: np.ndarray) -> bytes:
    """Encode a uint8 array, H × W or H × W × 3 (RGB), as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
