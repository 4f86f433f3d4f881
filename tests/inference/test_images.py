import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from defect_assets.inference.images import ImageError, decode_image, encode_png

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))


def _encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


@given(arrays(np.uint8, sizes))
def test_grey_images_come_back_as_they_were(image: np.ndarray) -> None:
    assert (decode_image(encode_png(image)) == image).all()


@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
def test_colour_images_come_back_as_they_were(image: np.ndarray) -> None:
    assert (decode_image(encode_png(image)) == image).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize(("mode", "shape"), [("L", (30, 40)), ("RGB", (30, 40, 3))])
def test_every_format_is_read(format: str, mode: str, shape: tuple[int, ...]) -> None:
    decoded = decode_image(_encode(Image.new(mode, (40, 30), 128), format))
    if not (format == "WEBP" and mode == "L"):  # WebP knows no grey
        assert decoded.shape == shape
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_grey_or_rgb(mode: str) -> None:
    image = Image.new("RGB", (40, 30), (200, 100, 50)).convert("L" if mode == "LA" else "RGB")
    data = _encode(image.convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    assert decode_image(data).shape[:2] == (30, 40)


def test_of_deep_images_the_upper_bits_are_kept() -> None:
    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    assert decode_image(_encode(Image.fromarray(deep), "PNG")).tolist() == [[0, 0, 1, 255]]


def test_the_orientation_tag_is_honoured() -> None:
    image = Image.new("L", (40, 30))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    assert decode_image(_encode(image, "JPEG", exif=exif)).shape == (40, 30)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(ImageError, match="empty"):
        decode_image(b"")


@given(st.binary(min_size=1, max_size=200))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(data)


@given(cut=st.integers(1, 400), format=st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP"]))
def test_truncated_files_never_raise_anything_else(cut: int, format: str) -> None:
    rng = np.random.default_rng(0)
    data = _encode(Image.fromarray(rng.integers(0, 255, (30, 40), np.uint8)), format)
    try:
        decode_image(data[:-cut])
    except ImageError:
        pass


def test_a_large_image_is_refused_by_its_header() -> None:
    bomb = _encode(Image.new("1", (9000, 9000)), "PNG")
    with pytest.raises(ImageError, match="81000000|9000 × 9000"):
        decode_image(bomb, max_pixels=1_000_000)


def test_a_gif_is_not_taken() -> None:
    with pytest.raises(ImageError, match="known format"):
        decode_image(_encode(Image.new("L", (4, 4)), "GIF"))


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@given(
    image=st.one_of(
        arrays(np.uint8, sizes),
        arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))),
    ),
    progressive=st.booleans(),
    quality=st.integers(30, 100),
)
def test_what_is_decoded_quickly_is_what_pillow_decodes(
    format: str, image: np.ndarray, progressive: bool, quality: int
) -> None:
    options = {"progressive": progressive, "quality": quality} if format == "JPEG" else {}
    data = _encode(Image.fromarray(image), format, **options)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened)
    assert np.array_equal(decode_image(data), expected)


@given(data=st.data())
def test_a_broken_image_is_refused_or_decoded_but_never_crashes(data: st.DataObject) -> None:
    sound = bytearray(encode_png(np.arange(600, dtype=np.uint8).reshape(20, 30)))
    at = data.draw(st.integers(0, len(sound) - 1))
    sound[at] ^= data.draw(st.integers(1, 255))
    try:
        assert decode_image(bytes(sound[: data.draw(st.integers(at, len(sound)))])).ndim in (2, 3)
    except ImageError:
        pass
