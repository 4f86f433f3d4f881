"""Of those who want to make the same thing, one does; and the dead are in nobody's way."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from defect_assets.store import Record, Store, open_store
from defect_assets.store.collect import collect
from defect_assets.store.leases import VALID, signature
from defect_assets.store.reservations import ReservationLost, Reserved, held_by, reserve
from defect_assets.store.transfer import plan_transfer, transfer
from defect_assets.store.verify import verify

NAME = "experiments/DS-1.0.0/C-01"
KEY = f"leases/reservations/{NAME}"


def reserve_and_wait(root: Path, pipe: Any) -> None:
    with reserve(open_store(str(root)).backend, NAME, "theirs"):
        pipe.send(os.getpid())
        pipe.recv()


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """Another process that has reserved the name, and the pipe by which it is told to end."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=reserve_and_wait, args=(tmp_path / "store", theirs))
    process.start()
    theirs.close()
    assert pipe.poll(60)
    yield process, pipe
    process.kill()
    process.join()


def test_it_is_held_until_its_block_ends(store: Store) -> None:
    assert held_by(store.backend, NAME) is None
    with reserve(store.backend, NAME, "mine") as mine:
        assert mine.instead_of == ""
        mine.confirm()
        assert f"process {os.getpid()} on" in (held_by(store.backend, NAME) or ("",))[0]
        with (
            pytest.raises(Reserved, match="wait until it is done"),
            reserve(store.backend, NAME, "mine too"),
        ):
            pass
        with reserve(store.backend, f"{NAME}2", "another"):
            pass
        mine.confirm()
    assert held_by(store.backend, NAME) is None
    with suppress(ZeroDivisionError), reserve(store.backend, NAME, "failing"):
        _ = 1 / 0
    assert held_by(store.backend, NAME) is None


def test_another_process_keeps_it_until_it_ends(store: Store, other: Any) -> None:
    process, pipe = other
    held = f"process {process.pid} on .* is making {NAME}"
    with pytest.raises(Reserved, match=held), reserve(store.backend, NAME, "mine"):
        pass
    pipe.send("end")
    process.join(30)
    with reserve(store.backend, NAME, "mine") as mine:
        assert mine.instead_of == ""


def test_what_a_killed_process_had_is_taken_over(store: Store, other: Any) -> None:
    process, _ = other
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert held_by(store.backend, NAME) is None
    with reserve(store.backend, NAME, "mine") as mine:
        assert mine.instead_of.startswith(f"process {process.pid} on ")
        mine.confirm()
    assert list(store.backend.entries("leases/reservations")) == []


@pytest.mark.parametrize(("hours", "held"), [(23, True), (25, False)])
def test_another_machine_is_believed_for_a_day(store: Store, hours: float, held: bool) -> None:
    there = json.loads(signature(run="theirs")) | {
        "host": "elsewhere",
        "at": time.time() - hours * VALID / 24,
    }
    store.backend.create(KEY, json.dumps(there).encode())
    assert (held_by(store.backend, NAME) is not None) == held
    if held:
        with pytest.raises(Reserved, match="on elsewhere"), reserve(store.backend, NAME, "mine"):
            pass
    else:
        with reserve(store.backend, NAME, "mine") as mine:
            assert "on elsewhere" in mine.instead_of


def test_who_lost_it_is_told_and_leaves_it_alone(store: Store) -> None:
    with reserve(store.backend, NAME, "mine") as mine:
        mark = store.backend.read(KEY)
        assert store.backend.swap(KEY, mark, signature(run="theirs"))
        with pytest.raises(ReservationLost, match=f"process {os.getpid()} on .* has it now"):
            mine.confirm()
    assert b"theirs" in store.backend.read(KEY)
    store.backend.delete(KEY)
    with reserve(store.backend, NAME, "mine") as mine:
        store.backend.delete(KEY)
        with pytest.raises(ReservationLost, match="nobody has it now"):
            mine.confirm()


def test_of_many_that_take_over_at_once_one_does(store: Store) -> None:
    dead = json.loads(signature(run="dead")) | {"started": "long ago"}
    store.backend.create(KEY, json.dumps(dead).encode())
    done = []

    def make(run: str) -> bool:
        try:
            with reserve(store.backend, NAME, run) as mine:
                time.sleep(0.5)
                mine.confirm()
                done.append(run)
                return True
        except Reserved:
            return False

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(make, map(str, range(8))))
    assert sum(won) == len(done) == 1


@pytest.mark.parametrize("walk", [verify, lambda store: collect(store, 0)])
def test_what_walks_along_names_does_not_meet_it(
    store: Store, tmp_path: Path, walk: Callable[[Store], object]
) -> None:
    content = store.objects.put(b"content")
    store.publish("splits/DS-1.0.0", Record(asset="x", content=content))
    with reserve(store.backend, NAME, "mine") as mine:
        walk(store)
        copy = open_store(str(tmp_path / "copy"))
        transfer(store, copy, plan_transfer(store, copy))
        mine.confirm()
    assert list(copy.refs.names()) == ["splits/DS-1.0.0"]
    assert list(copy.backend.entries("leases/reservations")) == []
