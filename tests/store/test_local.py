"""What is particular to a store on the local disk; see test_backends for the rest."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from defect_assets.store.local import LocalBackend


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "store")


@pytest.mark.parametrize("key", ["../out", "/etc/passwd", "a//b", "a/../../b", "", ".", "a\\b"])
def test_no_key_leaves_the_folder(backend: LocalBackend, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        backend.create(key, b"")


def test_stored_files_are_read_only(backend: LocalBackend) -> None:
    backend.create("key", b"one")
    assert (backend.root / "key").stat().st_mode & 0o222 == 0


def _count_up(root: Path, times: int) -> None:
    backend = LocalBackend(root)
    for _ in range(times):
        while True:
            before = backend.read("counter")
            if backend.swap("counter", before, str(int(before) + 1).encode()):
                break


def test_no_swap_is_lost_between_processes(backend: LocalBackend) -> None:
    backend.create("counter", b"0")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count_up, args=(backend.root, 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert backend.read("counter") == b"100"


_WRITER = """
import sys
from pathlib import Path
from defect_assets.store.local import LocalBackend
backend = LocalBackend(Path(sys.argv[1]))
for i in range(10**6):
    backend.create(f"objects/{i}", bytes([i % 256]) * 100_000)
    backend.swap("refs/last", str(i - 1).encode() if i else None, str(i).encode())
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_leaves_each_key_absent_or_whole(backend: LocalBackend, seed: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(backend.root)])
    deadline = time.monotonic() + 60
    while not backend.exists("refs/last") and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05 + 0.037 * seed)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()

    last = int(backend.read("refs/last"))
    written = [entry.key for entry in backend.entries("objects")]
    assert len(written) in (last + 1, last + 2)
    for key in written:
        number = int(key.removeprefix("objects/"))
        assert backend.read(key) == bytes([number % 256]) * 100_000
    # The lock of the dead is free.
    assert backend.swap("refs/last", str(last).encode(), b"next")


def test_a_full_disk_leaves_nothing_behind(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        backend.create("key", b"one")
    assert not backend.exists("key")
    assert list(backend.root.iterdir()) == []


def test_who_sweeps_up_does_not_take_a_file_from_under_its_writer(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector waits for no writer's lease to be written."""
    link, swept = os.link, []

    def late(partial: Path, path: Path) -> None:
        if not swept:
            swept.append(backend.clean(time.time() + 1))
        link(partial, path)

    monkeypatch.setattr(os, "link", late)
    assert backend.create("leases/one", b"1")
    assert swept == [1]
    assert backend.read("leases/one") == b"1"
    assert backend.clean(time.time() + 1) == 0


def test_every_new_folder_is_synced_into_the_one_above(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut takes the folder, and all that is in it."""
    synced: list[Path] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink())
    )
    backend.create("a/b/c", b"1")
    for folder in (backend.root.parent, backend.root, backend.root / "a", backend.root / "a/b"):
        assert folder in synced
