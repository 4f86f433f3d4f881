"""What every place that holds bytes promises, whichever it is."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from defect_assets.store import Backend, NotInStore
from defect_assets.store.cache import CachedBackend
from defect_assets.store.leases import LeasingBackend
from defect_assets.store.local import LocalBackend
from defect_assets.store.s3 import S3Backend
from tests.servers.s3 import S3Server

BYTES = bytes(range(256)) * 16
FAR = 3 * 2**20
"""An offset so far off that no client joins what lies there with what lies at the beginning."""


@pytest.fixture(
    params=["local", "leasing", "s3", "cached", pytest.param("ceph", marks=pytest.mark.slow)]
)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    local = LocalBackend(tmp_path / "store")
    if request.param in ("local", "leasing"):
        return local if request.param == "local" else LeasingBackend(local)
    server: S3Server = request.getfixturevalue("ceph" if request.param == "ceph" else "moto")
    remote = S3Backend(server.new_store(), server.access())
    return CachedBackend(remote, tmp_path / "cache") if request.param == "cached" else remote


def test_what_is_created_is_read_back(backend: Backend) -> None:
    for key in ["refs/one", "objects/ab/cdef", "tables/ab/cdef"]:
        assert not backend.exists(key)
        assert backend.create(key, key.encode())
        assert backend.exists(key)
        for _ in range(2):  # the second time from a cache, where there is one
            assert backend.read(key) == key.encode()


def test_a_folder_is_nothing_that_is_stored(backend: Backend) -> None:
    backend.create("refs/a/b", b"one")
    assert not backend.exists("refs/a")
    assert not backend.exists("refs/a/b/c")
    with pytest.raises(NotInStore):
        backend.read("refs/a/b/c")


def test_nothing_and_megabytes_can_be_stored(backend: Backend) -> None:
    large = BYTES * 2**10 * 3  # 12 MiB
    for key, data in [("objects/empty", b""), ("objects/large", large)]:
        assert backend.create(key, data)
        assert backend.read(key) == data
    assert sorted(entry.size for entry in backend.entries("objects")) == [0, len(large)]


def test_a_key_is_created_once(backend: Backend) -> None:
    assert backend.create("refs/one", b"one")
    assert not backend.create("refs/one", b"two")
    assert not backend.create("refs/one", b"one")
    assert backend.read("refs/one") == b"one"


def test_a_missing_key_is_named(backend: Backend) -> None:
    with pytest.raises(NotInStore, match="refs/none"):
        backend.read("refs/none")
    for ranges in [[(0, 1)], [(0, 0)], []]:
        with pytest.raises(NotInStore, match="objects/none"):
            backend.read_ranges("objects/none", ranges)


def test_of_many_that_create_at_once_one_wins(backend: Backend) -> None:
    for key in [f"refs/{n}" for n in range(3)]:
        together = threading.Barrier(16)

        def create(i: int, key: str = key, together: threading.Barrier = together) -> bool:
            together.wait()
            return backend.create(key, str(i).encode())

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(create, range(16)))
        assert sum(won) == 1
        assert backend.read(key) == str(won.index(True)).encode()


def test_swap_replaces_only_what_was_expected(backend: Backend) -> None:
    assert not backend.swap("refs/one", b"one", b"two")
    assert not backend.exists("refs/one")
    assert backend.swap("refs/one", None, b"one")
    assert not backend.swap("refs/one", None, b"one")
    assert not backend.swap("refs/one", None, b"two")
    assert backend.swap("refs/one", b"one", b"two")
    assert not backend.swap("refs/one", b"one", b"two")
    assert backend.read("refs/one") == b"two"


def test_no_swap_is_lost_where_many_swap_at_once(backend: Backend) -> None:
    """Equal bytes of two writers are a trap: of them, too, one only has swapped."""
    backend.create("refs/counter", b"0")

    def count_up(times: int) -> None:
        for _ in range(times):
            while True:
                before = backend.read("refs/counter")
                if backend.swap("refs/counter", before, str(int(before) + 1).encode()):
                    break

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(count_up, [4] * 6))
    assert backend.read("refs/counter") == b"24"


@pytest.mark.parametrize(
    "ranges",
    [
        [(0, 5)],
        [(10, 20), (0, 5), (4000, 96)],
        [(0, 10), (5, 10), (0, 100)],  # over each other
        [(7, 0), (0, 0), (8, 1)],
        [(len(BYTES) - 1, 1), (len(BYTES), 1)],
        [(0, 4), (5000, 4)],  # near, but beyond the end
        [(0, 4), (FAR, 4)],
        [(FAR, 4)],
        [(4090, 100)],
        [],
    ],
    ids=str,
)
def test_parts_are_read(backend: Backend, ranges: list[tuple[int, int]]) -> None:
    for key in ["objects/one", "refs/one"]:
        backend.create(key, BYTES)
        expected = [BYTES[offset : offset + length] for offset, length in ranges]
        assert backend.read_ranges(key, ranges) == expected


def test_nothing_has_parts_that_are_nothing(backend: Backend) -> None:
    backend.create("objects/empty", b"")
    assert backend.read_ranges("objects/empty", [(0, 1), (5, 5)]) == [b"", b""]


def test_what_lies_in_a_folder_is_listed(backend: Backend) -> None:
    for key in ["refs/b/2", "refs/a", "refs/b/1", "refs/bc", "names/x"]:
        backend.create(key, key.encode())
    found = {entry.key: entry.size for entry in backend.entries("refs")}
    assert found == {"refs/b/2": 8, "refs/a": 6, "refs/b/1": 8, "refs/bc": 7}
    assert {entry.key for entry in backend.entries("refs/b/")} == {"refs/b/1", "refs/b/2"}
    assert list(backend.entries("nothing")) == []


NAMES = [
    "a b",
    "é",
    "e\u0301",
    "a+b",
    "#1",
    "100%",
    "%20",
    "a&b=c?d",
    "日本",
    "a:b",
    "~!'()*$@,;",
    "[x]",
]


def test_names_may_hold_what_people_write(backend: Backend) -> None:
    for name in NAMES:
        assert backend.create(f"refs/{name}/{name}", name.encode())
    assert {e.key for e in backend.entries("refs")} == {f"refs/{name}/{name}" for name in NAMES}
    for name in NAMES:
        assert backend.read(f"refs/{name}/{name}") == name.encode()
        assert backend.swap(f"refs/{name}/{name}", name.encode(), b"new")
        assert [entry.size for entry in backend.entries(f"refs/{name}")] == [3]
        backend.delete(f"refs/{name}/{name}")
    assert list(backend.entries("refs")) == []


def test_an_entry_tells_when_it_was_written(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "clock").touch()
    backend.create("objects/one", b"one")
    [entry] = backend.entries("objects")
    # Servers count whole seconds.
    assert 0 <= entry.modified - (tmp_path / "clock").stat().st_mtime + 1 < 60


def test_what_is_deleted_is_gone_and_may_come_again(backend: Backend) -> None:
    for key in ["refs/one", "objects/one", "tables/one"]:
        backend.delete(key)
        backend.create(key, b"one")
        assert backend.read(key) == b"one"
        backend.delete(key)
        backend.delete(key)
        assert not backend.exists(key)
        with pytest.raises(NotInStore):
            backend.read(key)
        assert backend.create(key, b"two")
        assert backend.read(key) == b"two"


def test_more_is_listed_than_a_server_lists_at_once(backend: Backend) -> None:
    keys = {f"objects/{n:04}" for n in range(1005)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: backend.create(key, b""), keys))
    assert {entry.key for entry in backend.entries("objects")} == keys


keys = st.sampled_from(["a", "b", "c/d", "c/e é+#%"])
values = st.sampled_from([b"", b"one", b"two"])
Step = Callable[[Backend, str, dict[str, bytes]], None]


def _create(key: str, data: bytes) -> Step:
    def step(backend: Backend, root: str, model: dict[str, bytes]) -> None:
        assert backend.create(root + key, data) == (key not in model)
        model.setdefault(key, data)

    return step


def _swap(key: str, expected: bytes | None, data: bytes) -> Step:
    def step(backend: Backend, root: str, model: dict[str, bytes]) -> None:
        fits = model.get(key) == expected
        assert backend.swap(root + key, expected, data) == fits
        if fits:
            model[key] = data

    return step


def _delete(key: str) -> Step:
    def step(backend: Backend, root: str, model: dict[str, bytes]) -> None:
        backend.delete(root + key)
        model.pop(key, None)

    return step


steps = st.one_of(
    st.builds(_create, keys, values),
    st.builds(_swap, keys, st.none() | values, values),
    st.builds(_delete, keys),
)


@given(steps=st.lists(steps, max_size=12))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_a_dictionary(backend: Backend, steps: list[Step]) -> None:
    root = f"refs/{uuid.uuid4()}/"
    model: dict[str, bytes] = {}
    for step in steps:
        step(backend, root, model)
    found = {entry.key: entry.size for entry in backend.entries(root)}
    assert found == {root + key: len(data) for key, data in model.items()}
    assert {key: backend.read(root + key) for key in model} == model
