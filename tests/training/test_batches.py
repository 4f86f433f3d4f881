"""What each step sees."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.training.batches import NOBODY, Batches, Draw, Sampler, prefetch
from defect_assets.training.config import Sampling, TrainingConfig
from defect_assets.training.data import FittedImages


def _data(classes: list[int], parts: list[int] | None = None) -> FittedImages:
    n = len(classes)
    rng = np.random.default_rng(0)
    masks = np.zeros((n, 32, 32), np.uint8)
    masks[:, 8:16, 8:16] = np.array(classes, np.uint8)[:, None, None]
    return FittedImages(
        rng.integers(50, 200, (n, 32, 32, 1), np.uint8),
        masks,
        np.array(classes, np.int64),
        np.array(parts or range(n), np.int64),
        np.array([f"s{i}" for i in range(n)]),
        np.full((n, 2), 32),
        np.arange(n),
    )


CLASSES = {i: f"class {i}" for i in range(1, 6)}


def _draws(data: FittedImages, sampling: Sampling, steps: int) -> Draw:
    sampler, rng = Sampler(data, sampling, [1, 4]), np.random.default_rng(0)
    draws = [sampler.draw(rng) for _ in range(steps)]
    return Draw(
        np.concatenate([d.images for d in draws]),
        np.concatenate([d.donors for d in draws]),
        np.concatenate([d.painted for d in draws]),
    )


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=30),
    st.floats(0, 0.3),
    st.floats(0, 0.3),
    st.floats(0, 0.3),
    st.sampled_from(["image", "part"]),
)
def test_steps_draw_from_the_data_alone(
    classes: list[int], free: float, pasted: float, painted: float, by: str
) -> None:
    data = _data(classes, [i // 2 for i in range(len(classes))])
    sampling = Sampling.model_validate(
        {"batch_size": 8, "defect_free": free, "pasted": pasted, "painted": painted, "by": by}
    )
    drawn = _draws(data, sampling, 5)
    assert set(drawn.images) <= set(data.rows)
    assert set(drawn.donors) <= {NOBODY, *np.flatnonzero(data.classes > 0)}
    assert set(drawn.painted) <= {0, 1, 4}
    changed = (drawn.donors != NOBODY) | (drawn.painted > 0)
    assert (data.classes[drawn.images[changed]] == 0).all()
    assert not ((drawn.donors != NOBODY) & (drawn.painted > 0)).any()


def test_images_of_other_parts_of_a_split_are_not_drawn() -> None:
    data = _data([0, 1, 2, 0, 1, 2]).only(["s3", "s4", "s5"])
    drawn = _draws(data, Sampling(pasted=0.5), 20)
    assert set(drawn.images) == {3, 4, 5}
    assert set(drawn.donors) == {NOBODY, 4, 5}


def test_classes_are_drawn_alike_and_defect_free_images_have_their_share() -> None:
    data = _data([0] * 500 + [1] * 100 + [2] * 5)
    sampling = Sampling(batch_size=100, defect_free=0.2, pasted=0.1, painted=0.1)
    drawn = _draws(data, sampling, 50)
    shares = np.bincount(data.classes[drawn.images]) / len(drawn.images)
    assert np.allclose(shares, [0.4, 0.3, 0.3], atol=0.03)
    donors = data.classes[drawn.donors[drawn.donors != NOBODY]]
    assert np.allclose(np.bincount(donors)[1:] / len(drawn.images), [0.05, 0.05], atol=0.01)
    assert np.allclose((drawn.painted > 0).mean(), 0.1, atol=0.02)


def test_drawn_by_part_a_part_with_many_images_is_seen_no_more_often() -> None:
    data = _data([1] * 99 + [1], [0] * 99 + [1])
    drawn = _draws(data, Sampling(batch_size=100, defect_free=0, by="part"), 20)
    assert 0.4 < (drawn.images == 99).mean() < 0.6


def test_a_batch_is_a_function_of_its_step() -> None:
    data = _data([0, 0, 1, 2])
    config = TrainingConfig(sampling=Sampling(batch_size=4, pasted=0.3))
    one, other = Batches(data, config, CLASSES), Batches(data, config, CLASSES)
    _ = other[3]  # whatever was looked at before
    for step in (7, 1):
        for a, b in zip(one[step], other[step], strict=True):
            assert (a == b).all()
    assert (one[1][0] != one[2][0]).any()


def test_processes_share_a_batch() -> None:
    data = _data(list(range(3)) * 10)
    config = TrainingConfig(sampling=Sampling(batch_size=8))
    whole = Batches(data, config, CLASSES).draw(5).images
    shares = [Batches(data, config, CLASSES, rank, 2).draw(5).images for rank in (0, 1)]
    assert (np.stack(shares, axis=1).ravel() == whole).all()


def test_pasted_defects_are_in_the_masks() -> None:
    data = _data([0, 3])
    config = TrainingConfig(
        sampling=Sampling(batch_size=4, defect_free=0, pasted=1), augmentation=()
    )
    _, masks = Batches(data, config, CLASSES)[1]
    assert set(np.unique(masks)) == {0, 3}


def test_painted_defects_are_in_the_masks() -> None:
    config = TrainingConfig(
        sampling=Sampling(batch_size=16, defect_free=0.5, painted=0.5),
        paint={"class 2": "zone", "class 5": "patch"},
        augmentation=(),
    )
    _, masks = Batches(_data([0, 0]), config, CLASSES)[1]
    assert set(np.unique(masks)) == {0, 2, 5}
    binary = config.model_copy(update={"task": "binary"})
    _, masks = Batches(_data([0, 0]), binary, CLASSES)[1]
    assert set(np.unique(masks)) == {0, 1}


def test_prefetching_keeps_the_order_and_ends() -> None:
    def numbers() -> Iterator[int]:
        yield from range(50)

    assert list(prefetch(numbers())) == list(range(50))
    stream = prefetch(iter(int, 1))
    assert list(islice(stream, 3)) == [0, 0, 0]
    stream.close()
