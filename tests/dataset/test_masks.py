import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from defect_assets.dataset.description import DatasetDescription, DefectClass
from defect_assets.dataset.masks import decode_mask
from defect_assets.inference.images import ImageError, encode_png

SOFT = DatasetDescription(
    name="x",
    classes=(
        DefectClass(id=1, name="a", color="#ff0000"),
        DefectClass(id=2, name="b", color="#00ff00"),
    ),
)
INDEXED = DatasetDescription(
    name="x",
    masks="indexed",
    classes=(
        DefectClass(id=1, name="a", color="#ff0000", value=10),
        DefectClass(id=2, name="b", color="#00ff00", value=200),
    ),
)
images = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(images, st.integers(0, 254))
def test_soft_masks_are_cut_above_the_threshold(values: np.ndarray, threshold: int) -> None:
    description = SOFT.model_copy(update={"mask_threshold": threshold})
    if 0 < values.max() <= threshold:
        with pytest.raises(ImageError, match="no pixel of the mask is above"):
            decode_mask(encode_png(values), "b", values.shape, description)
        return
    mask = decode_mask(encode_png(values), "b", values.shape, description)
    assert (mask == np.where(values > threshold, 2, 0)).all()


@given(arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 10, 200])))
def test_indexed_masks_say_the_class_of_each_pixel(values: np.ndarray) -> None:
    mask = decode_mask(encode_png(values), "a", (6, 7), INDEXED)
    assert (mask == np.select([values == 10, values == 200], [1, 2], 0)).all()


def test_a_value_of_no_class_is_named() -> None:
    values = np.array([[0, 10], [7, 200]], np.uint8)
    with pytest.raises(ImageError, match=r"\[7\], which the class map lacks"):
        decode_mask(encode_png(values), "a", (2, 2), INDEXED)


def test_no_mask_means_no_defect() -> None:
    assert not decode_mask(None, "a", (3, 4), SOFT).any()
