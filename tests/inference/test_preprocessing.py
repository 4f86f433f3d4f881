from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from defect_assets.inference.preprocessing import Preprocessing

images = st.one_of(
    arrays(np.uint8, st.tuples(st.integers(1, 50), st.integers(1, 50))),
    arrays(np.uint8, st.tuples(st.integers(1, 50), st.integers(1, 50), st.just(3))),
)


@given(
    images,
    st.sampled_from([1, 3]),
    st.sampled_from(["log_standardize", "standardize", "imagenet"]),
)
def test_any_image_becomes_a_finite_input(image: np.ndarray, channels: Any, name: Any) -> None:
    preprocessing = Preprocessing(height=32, width=64, channels=channels, normalization=name)
    value = preprocessing(image)
    assert value.shape == (channels, 32, 64)
    assert value.dtype == np.float32
    assert np.isfinite(value).all()


@given(arrays(np.uint8, (32, 32)))
def test_standardized_inputs_have_no_mean_and_at_most_unit_variance(image: np.ndarray) -> None:
    value = Preprocessing(height=32, width=32)(image)
    assert abs(value.mean()) < 1e-3
    assert value.std() < 1.001


def test_the_exposure_drops_out() -> None:
    rng = np.random.default_rng(0)
    surface = rng.uniform(0.6, 1.0, (64, 64))
    dark, bright = ((surface * gain).astype(np.uint8) for gain in (100, 240))
    preprocessing = Preprocessing(height=64, width=64)
    assert np.abs(preprocessing(dark) - preprocessing(bright)).mean() < 0.05
    raw = np.abs(dark.astype(float) - bright).mean() / 255
    assert raw > 0.4


def test_a_batch_is_normalized_as_each_image_is() -> None:
    rng = np.random.default_rng(0)
    preprocessing = Preprocessing(height=32, width=32)
    fitted = np.stack([preprocessing.fit(rng.integers(0, 255, (40, 50), np.uint8)) for _ in "abc"])
    together = preprocessing.normalize(fitted)
    for one, image in zip(together, fitted, strict=True):
        assert one == pytest.approx(preprocessing.normalize(image[None])[0])


@pytest.mark.parametrize("size", [{"height": 33}, {"width": 16}, {"height": 0}])
def test_a_size_that_no_network_takes_is_refused(size: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="height|width"):
        Preprocessing(**size)
