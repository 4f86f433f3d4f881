"""A local copy of what a bucket holds: what it saves, and that it is never believed too much."""

import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from defect_assets.store import Corrupted, NotInStore, Record, Store, digest_of
from defect_assets.store import cache as caches
from defect_assets.store.backend import Backend
from defect_assets.store.cache import STREAMED, CachedBackend
from defect_assets.store.digest import object_key
from defect_assets.store.local import LocalBackend
from defect_assets.store.packs import INDEXES
from defect_assets.store.tables import TABLES

MEBI = 2**20


class Far(LocalBackend):
    """A place of which every byte that is fetched is counted."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched: Counter[str] = Counter()

    def read(self, key: str) -> bytes:
        data = super().read(key)
        self.fetched[key] += len(data)
        return data

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        parts = super().read_ranges(key, ranges)
        self.fetched[key] += sum(map(len, parts))
        return parts


@pytest.fixture
def far(tmp_path: Path) -> Far:
    return Far(tmp_path / "far")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def near(far: Far, folder: Path) -> CachedBackend:
    return CachedBackend(far, folder)


def put(backend: Backend, data: bytes) -> str:
    key = object_key(digest_of(data))
    backend.create(key, data)
    return key


def noise(seed: int, size: int) -> bytes:
    return bytes([seed]) * size


def copies(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_what_was_read_is_not_fetched_again(far: Far, near: CachedBackend, folder: Path) -> None:
    key = put(far, noise(1, MEBI))
    for backend in (near, near, CachedBackend(far, folder)):
        assert backend.read(key) == noise(1, MEBI)
        assert backend.read_ranges(key, [(MEBI - 1, 2), (0, 1)]) == [b"\1", b"\1"]
    assert far.fetched[key] == MEBI


def test_one_sample_of_a_pack_costs_a_sample(far: Far, near: CachedBackend) -> None:
    images = {digest_of(data): data for data in (noise(n, 100_000) for n in range(100))}
    store = Store(far)
    with store.objects.packing() as packer:
        packer.add(list(images.items()))
    [pack] = store.objects.packs.by_pack()
    far.fetched.clear()
    cached = Store(near)
    digest, data = next(iter(images.items()))
    assert cached.objects.get(digest) == data
    assert far.fetched[object_key(pack)] == 100_000
    # Whoever asks for more and more of it gets it as a whole, once.
    for _ in range(2):
        for digest, data in images.items():
            assert cached.objects.get(digest) == data
    assert 10_000_000 < far.fetched[object_key(pack)] <= 10_000_000 + STREAMED


def test_parts_of_what_is_fetched_as_a_whole_are_right(far: Far, near: CachedBackend) -> None:
    data = bytes(range(256)) * (STREAMED // 128)
    key = put(far, data)
    ranges = [(5, STREAMED), (len(data) - 2, 10), (len(data) + 7, 1), (3, 0)]
    assert near.read_ranges(key, ranges) == [data[a : a + n] for a, n in ranges]
    assert far.fetched[key] == len(data)


def test_the_limit_is_kept_and_the_least_used_goes_first(far: Far, folder: Path) -> None:
    near = CachedBackend(far, folder, limit=10 * MEBI)
    keys = [put(far, noise(n, MEBI)) for n in range(10)]
    for key in keys:
        near.read(key)
    assert len(copies(folder)) == 10
    near.read(keys[0])  # used again: the next to go is the second
    near.read(put(far, noise(10, MEBI)))
    kept = copies(folder)
    assert keys[0] in kept
    assert keys[1] not in kept
    assert sum((folder / copy).stat().st_size for copy in kept) <= 10 * MEBI
    assert all(near.read(key) == noise(n, MEBI) for n, key in enumerate(keys))


def test_a_cache_that_was_there_before_counts(far: Far, folder: Path) -> None:
    for n in range(12):
        CachedBackend(far, folder, limit=5 * MEBI).read(put(far, noise(n, MEBI)))
    assert 3 <= len(copies(folder)) <= 5


def test_what_is_larger_than_the_limit_is_read_all_the_same(far: Far, folder: Path) -> None:
    near = CachedBackend(far, folder, limit=1000)
    key = put(far, noise(1, MEBI))
    assert near.read(key) == near.read(key) == noise(1, MEBI)
    assert copies(folder) == []


@pytest.fixture
def filled(far: Far) -> tuple[Store, str, str]:
    """A store with a table and a packed object."""
    store = Store(far)
    table = store.objects.put_table(pa.table({"key": ["a", "b"], "n": [1, 2]}))
    with store.objects.packing() as packer:
        packer.add([(digest_of(data), data) for data in (b"image", b"mask")])
    store.publish("name", Record(asset="a", content=table))
    return store, table, digest_of(b"image")


def damaged(data: bytes, how: str) -> bytes:
    middle = len(data) // 2
    return {
        # Of a digest in text another, and of Parquet's bytes others.
        "changed": data[:middle] + (b"0" if data[middle] != 48 else b"1") + data[middle + 1 :],
        "cut short": data[:middle],
        "empty": b"",
    }[how]


@pytest.mark.parametrize("how", ["changed", "cut short", "empty"])
def test_a_damaged_copy_is_fetched_anew(
    far: Far, folder: Path, filled: tuple[Store, str, str], how: str
) -> None:
    """A later process finds it: a disk of one's own does not change under one's hands."""
    _, table, image = filled

    def read() -> None:
        store = Store(CachedBackend(far, folder))
        assert store.objects.get_table(table).to_pydict() == {"key": ["a", "b"], "n": [1, 2]}
        assert store.objects.get(image) == b"image"
        assert store.content("name") == table

    read()
    sound = {copy: (folder / copy).read_bytes() for copy in copies(folder)}
    assert {copy.split("/")[0] + "/" for copy in sound} == {"objects/", TABLES, INDEXES}
    for copy, data in sound.items():
        (folder / copy).write_bytes(damaged(data, how))
    read()
    assert {copy: (folder / copy).read_bytes() for copy in copies(folder)} == sound


def test_what_the_place_has_damaged_is_not_kept_as_good(far: Far, near: CachedBackend) -> None:
    key = put(far, b"image")
    (far.root / key).chmod(0o644)
    (far.root / key).write_bytes(b"imagf")
    with pytest.raises(Corrupted):
        Store(near).objects.get(digest_of(b"image"))
    (far.root / key).write_bytes(b"image")  # mended there
    assert Store(near).objects.get(digest_of(b"image")) == b"image"


def test_names_are_never_cached(far: Far, near: CachedBackend, folder: Path) -> None:
    for before, after in [(None, b"one"), (b"one", b"two")]:
        assert far.swap("refs/name", before, after)
        assert near.read("refs/name") == after
        assert near.read_ranges("refs/name", [(0, 9)]) == [after]
    far.create("leases/collecting", b"someone")
    assert near.read("leases/collecting") == b"someone"
    far.delete("leases/collecting")
    with pytest.raises(NotInStore):
        near.read("leases/collecting")
    assert copies(folder) == []


def test_what_is_deleted_is_not_there_any_more(far: Far, near: CachedBackend) -> None:
    key = put(far, b"image")
    near.read(key)
    near.delete(key)
    with pytest.raises(NotInStore):
        near.read(key)
    with pytest.raises(NotInStore):
        near.read_ranges(key, [(0, 1)])


def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["mkdir", "mkstemp", "replace"])
def test_a_full_disk_is_survived(
    far: Far, near: CachedBackend, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    key = put(far, b"image")
    place = caches.tempfile if where == "mkstemp" else Path
    with monkeypatch.context() as broken:
        broken.setattr(place, where, _full)
        assert near.read(key) == b"image"
        assert copies(folder) == []
    assert near.read(key) == b"image"
    assert copies(folder) == [key]


def test_a_disk_that_is_really_full_is_survived(far: Far, folder: Path) -> None:
    """No patch can tell at which call a write to a full disk fails."""
    key = put(far, noise(1, 64 * 1024))
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        near = CachedBackend(far, folder)
        assert near.read(key) == noise(1, 64 * 1024)
        assert near.read_ranges(key, [(0, STREAMED)]) == [noise(1, 64 * 1024)]
        assert copies(folder) == []
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_folder_that_may_not_be_written_is_survived(far: Far, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    near = CachedBackend(far, tmp_path / "file")
    key = put(far, b"image")
    assert near.read(key) == b"image"
    assert near.read_ranges(key, [(0, 2)]) == [b"im"]


def test_many_at_once_share_a_cache_that_is_too_small(far: Far, folder: Path) -> None:
    """What one reads, another removes: nobody notices."""
    keys = {put(far, noise(n, 10_000)): noise(n, 10_000) for n in range(40)}
    backends = [CachedBackend(far, folder, limit=100_000) for _ in range(4)]
    together = threading.Barrier(8)

    def read(i: int) -> bool:
        together.wait()
        near = backends[i % 4]
        return all(
            near.read(key) == data and near.read_ranges(key, [(1, 9)]) == [data[1:10]]
            for _ in range(5)
            for key, data in keys.items()
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    assert len(copies(folder)) < 40
