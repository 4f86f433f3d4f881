"""Other processes hear that they are to stop."""

import multiprocessing
import time
from collections.abc import Callable
from threading import Event

from defect_assets.training.processes import answering


def work(asked: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not asked():
        if time.monotonic() > deadline:
            raise SystemExit(1)
        time.sleep(0.05)


def test_another_process_is_told_to_stop() -> None:
    stop = Event()
    with answering(stop.is_set) as asked:
        process = multiprocessing.get_context("spawn").Process(target=work, args=(asked,))
        process.start()
        process.join(1)
        assert process.is_alive()
        stop.set()
        process.join(60)
        assert process.exitcode == 0
