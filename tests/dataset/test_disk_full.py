"""The disk is full in the middle of an ingest: nothing has a name, and there is nothing to mend."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from defect_assets.home import Home
from defect_assets.inbox import take_in
from defect_assets.store import open_store
from defect_assets.store.collect import collect
from defect_assets.store.verify import verify
from tests.small import contents, home_of, ingest, plain


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and not _mount(folder, "size=64k")
    if not mounted:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(folder: Path, options: str) -> int:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.parametrize("taken", [0, 4_000, 20_000, 40_000, 56_000])
def test_a_full_disk_leaves_nothing_half_taken_in(tmp_path: Path, disk: Path, taken: int) -> None:
    home = Home(home_of(tmp_path / "home").root, str(disk / "store"))
    plain(home, "one", range(200))  # more than the disk holds
    if taken:  # so that it is full at another point
        (disk / "other").write_bytes(os.urandom(taken))
    store = home.store()
    with pytest.raises(OSError, match="No space left") as failed:
        ingest(home, store, "one")
    assert failed.value.errno == errno.ENOSPC
    assert contents(store) == {}
    assert not list(home.taken.glob("*"))
    assert verify(store).damages == ()

    command = ["mount", "-o", "remount,size=64m", str(disk)]
    subprocess.run(command, check=True)
    ingest(home, store, "one")
    assert verify(store).damages == ()
    elsewhere, _ = take_in(home, open_store(str(tmp_path / "elsewhere")), "one")
    assert store.content("batches/one") == elsewhere
    collect(store, 0)
    assert verify(store).damages == ()
