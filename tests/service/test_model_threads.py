import threading
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import pytest
from detector_service.model_threads import ModelThreads


class Network:
    """Doubles images; fails on those of negative numbers; can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert self.go.wait(10)
        self.batches.append([int(image[0]) for image in images])
        if min(self.batches[-1]) < 0:
            raise ValueError("bad image")
        return [2 * image for image in images]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def thread(network: Network) -> Iterator[ModelThreads]:
    thread = ModelThreads(network, batch_size=4)
    yield thread
    network.go.set()
    thread.close()


def image(number: int) -> np.ndarray:
    return np.array([number])


def test_images_that_wait_make_a_batch_and_each_gets_its_own(
    network: Network, thread: ModelThreads
) -> None:
    futures = [thread.submit(image(n)) for n in range(10)]
    network.go.set()
    assert [int(f.result(10).maps[0]) for f in futures] == [2 * n for n in range(10)]
    assert max(map(len, network.batches)) == 4
    assert list(chain(*network.batches)) == list(range(10))
    assert all(f.result().queue_s >= 0 for f in futures)


def test_a_cancelled_image_is_left_out(network: Network, thread: ModelThreads) -> None:
    first = thread.submit(image(0))
    while not first.running():
        pass
    futures = [thread.submit(image(n)) for n in range(1, 6)]
    assert futures[1].cancel()
    assert futures[3].cancel()
    network.go.set()
    for n in (1, 3, 5):
        assert futures[n - 1].result(10).maps[0] == 2 * n
    assert sorted(chain(*network.batches)) == [0, 1, 3, 5]


def test_one_bad_image_fails_alone(network: Network, thread: ModelThreads) -> None:
    futures = [thread.submit(image(n)) for n in (0, 1, -1, 3, 4, 5)]
    network.go.set()
    outcomes = [f.exception(10) for f in futures]
    assert [type(o) for o in outcomes if o] == [ValueError]
    assert outcomes[2] is not None
    assert thread.is_alive()


def test_closing_does_what_waits(network: Network) -> None:
    thread = ModelThreads(network, batch_size=1)
    futures = [thread.submit(image(n)) for n in range(3)]
    network.go.set()
    thread.close()
    assert [f.done() for f in futures] == [True] * 3
    assert not thread.is_alive()


def test_several_threads_work_at_once_and_all_end(network: Network) -> None:
    both = threading.Barrier(2)

    def together(images: Sequence[np.ndarray]) -> list[np.ndarray]:
        both.wait(10)  # fails unless another batch is worked on meanwhile
        return [2 * image for image in images]

    threads = ModelThreads(together, batch_size=1, threads=2)
    futures = [threads.submit(image(n)) for n in range(6)]
    assert [int(f.result(10).maps[0]) for f in futures] == [2 * n for n in range(6)]
    threads.close()
    assert not threads.is_alive()
