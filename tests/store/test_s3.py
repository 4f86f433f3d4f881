"""The store in a bucket: of servers that refuse, are not there, or fail as networks do."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from botocore.exceptions import TokenRetrievalError

from defect_assets.store import (
    Record,
    RefConflict,
    Store,
    StoreUnavailable,
    digest_of,
    open_store,
    s3,
)
from defect_assets.store.s3 import S3Backend, UnsafeBucket
from defect_assets.store.transfer import plan_transfer, transfer
from defect_assets.store.verify import verify
from tests.servers.faults import Fault, FaultyProxy
from tests.servers.s3 import S3Server

PATIENCE = 2.0
STALL = 1.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PATIENCE", timedelta(seconds=PATIENCE))
    monkeypatch.setattr(s3, "TIMEOUT", timedelta(seconds=STALL / 2))


@pytest.fixture
def url(moto: S3Server) -> str:
    return moto.new_store()


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(moto.endpoint, stall_s=STALL) as proxy:
        yield proxy


OPERATIONS: dict[str, Callable[[S3Backend], object]] = {
    "read": lambda backend: backend.read("objects/one"),
    "read_ranges": lambda backend: backend.read_ranges("objects/one", [(0, 1)]),
    "entries": lambda backend: list(backend.entries("objects")),
    "create": lambda backend: backend.create("objects/one", b"one"),
    "create a name": lambda backend: backend.create("refs/one", b"one"),
    "swap": lambda backend: backend.swap("refs/one", b"one", b"two"),
    "delete": lambda backend: backend.delete("objects/one"),
}
HASTY = ("read", "entries", "create a name")
"""Of these, the tests that take seconds each are not slow."""
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def test_it_lies_under_its_prefix_as_others_see_it(moto: S3Server, url: str) -> None:
    backend = S3Backend(url, moto.access())
    backend.create("refs/é +#%25/x", b"one")
    bucket = url.split("/")[2]
    held = moto.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert [found["Key"] for found in held] == ["some/prefix/refs/é +#%25/x"]
    moto.client().put_object(Bucket=bucket, Key="some/prefixed/refs/x", Body=b"")
    moto.client().put_object(Bucket=bucket, Key="refs/x", Body=b"")
    assert [entry.key for entry in backend.entries("refs")] == ["refs/é +#%25/x"]


def test_stores_side_by_side_in_a_bucket_do_not_meet(moto: S3Server, url: str) -> None:
    one, other = (S3Backend(f"{url}/{name}/", moto.access()) for name in ("a", "ab"))
    assert one.create("refs/x", b"one")
    assert other.create("refs/x", b"other")
    assert [entry.size for entry in one.entries("refs")] == [3]


def test_a_bucket_itself_may_be_a_store(moto: S3Server, url: str) -> None:
    backend = S3Backend("/".join(url.split("/")[:3]), moto.access())
    backend.create("refs/x", b"one")
    assert [entry.key for entry in backend.entries("refs")] == ["refs/x"]


def test_a_bucket_that_overwrites_where_it_should_create_is_refused(
    moto: S3Server, url: str
) -> None:
    with FaultyProxy(moto.endpoint, without=("if-none-match",)) as poor:
        store = Store(S3Backend(url, moto.access(poor.endpoint)))
        content = store.objects.put(b"content")
        for publish in (store.publish, store.publish_once):
            with pytest.raises(UnsafeBucket, match="without versions on Ceph"):
                publish("datasets/DS-1.0.0", Record(asset="a", content=content))
    backend = S3Backend(url, moto.access())
    assert list(backend.entries("refs")) == []
    assert list(backend.entries("probes")) == []


def test_a_bucket_is_probed_once(url: str, moto: S3Server, proxy: FaultyProxy) -> None:
    backend = S3Backend(url, moto.access(proxy.endpoint))
    for n in range(3):
        assert backend.create(f"refs/{n}", b"one")
        assert backend.swap(f"refs/{n}", b"one", b"two")
    assert sum(request.startswith("PUT") and "probes" in request for request in proxy.requests) == 2
    assert list(backend.entries("probes")) == []


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.LOST_REPLY, Fault.SLOW_DOWN, Fault.CONFLICT])
def test_a_probe_that_fails_is_made_again(
    url: str, moto: S3Server, proxy: FaultyProxy, fault: Fault
) -> None:
    for at in ("^PUT .*probes", "^POST"):  # the second is how it is removed
        proxy.fail(fault, times=1, on=at)
    assert S3Backend(url, moto.access(proxy.endpoint)).create("refs/x", b"one")
    assert proxy.made[fault] == 2


def test_who_may_not_delete_may_publish(url: str, moto: S3Server, proxy: FaultyProxy) -> None:
    proxy.fail(Fault.FORBIDDEN, on="^(DELETE|POST)")
    assert S3Backend(url, moto.access(proxy.endpoint)).create("refs/x", b"one")


def soon(operation: Callable[[], object], match: str, seconds: float) -> None:
    before = time.monotonic()
    with pytest.raises(StoreUnavailable, match=match):
        operation()
    assert time.monotonic() - before < seconds


@every_operation
def test_wrong_credentials_are_said_at_once(
    url: str, moto: S3Server, proxy: FaultyProxy, operation: Callable[[S3Backend], object]
) -> None:
    proxy.fail(Fault.FORBIDDEN)
    backend = S3Backend(url, moto.access(proxy.endpoint))
    soon(partial(operation, backend), "refuses these credentials.*InvalidAccessKeyId: The key", 1)


@every_operation
def test_a_missing_bucket_is_said_at_once(
    moto: S3Server, operation: Callable[[S3Backend], object]
) -> None:
    backend = S3Backend("s3://missing/x", moto.access())
    soon(partial(operation, backend), "s3://missing/x: there is no such bucket; make it", 1)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(operation, id=name, marks=() if name in HASTY else pytest.mark.slow)
        for name, operation in OPERATIONS.items()
    ],
)
def test_a_server_that_is_down_is_waited_for_but_not_forever(
    moto: S3Server, operation: Callable[[S3Backend], object]
) -> None:
    backend = S3Backend("s3://bucket/x", moto.access("http://127.0.0.1:9"))
    # It may have begun its last try with its last patience.
    soon(partial(operation, backend), "s3://bucket/x does not answer: .*127.0.0.1:9", 3 * PATIENCE)


def test_a_server_that_comes_back_is_gone_on_with(
    url: str, moto: S3Server, proxy: FaultyProxy
) -> None:
    backend = S3Backend(url, moto.access(proxy.endpoint))
    for operation in (
        lambda: backend.create("objects/one", b"one"),
        lambda: backend.read("objects/one"),
        lambda: backend.delete("objects/one"),
        lambda: list(backend.entries("objects")),
    ):
        proxy.fail(Fault.RESET, times=3)
        operation()
    assert proxy.made == {Fault.RESET: 12}


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A user who has never heard of AWS, on a machine outside of it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def test_without_credentials_it_says_which_variables(no_aws: pytest.MonkeyPatch) -> None:
    soon(lambda: open_store("s3://bucket/x"), "set AWS_ACCESS_KEY_ID and", 2)


def test_half_of_the_credentials_are_none(no_aws: pytest.MonkeyPatch) -> None:
    no_aws.setenv("AWS_ACCESS_KEY_ID", "key")
    soon(lambda: open_store("s3://bucket/x"), "missing: AWS_SECRET_ACCESS_KEY", 2)


def test_a_profile_that_is_not_there_is_named(no_aws: pytest.MonkeyPatch) -> None:
    no_aws.setenv("AWS_PROFILE", "factory")
    soon(lambda: open_store("s3://bucket/x"), "no credentials for s3://bucket/x: .*factory", 2)


@pytest.mark.parametrize("url", ["s3:bucket", "s3://", "s3:///x", "gs://bucket/x"])
def test_another_address_is_refused(url: str, moto: S3Server) -> None:
    with pytest.raises(StoreUnavailable, match="is not of the form s3://bucket/prefix"):
        S3Backend(url, moto.access())


@pytest.mark.parametrize("endpoint", ["localhost:9000", "http://", "ceph"])
def test_an_endpoint_without_its_scheme_is_refused(moto: S3Server, endpoint: str) -> None:
    with pytest.raises(StoreUnavailable, match="must be like http://host:9000"):
        S3Backend("s3://bucket/x", moto.access(endpoint))


def test_credentials_that_expired_are_said_at_once(moto: S3Server, url: str) -> None:
    access = moto.access()
    assert access.session is not None

    class Expired:
        def get_frozen_credentials(self) -> None:
            raise TokenRetrievalError(provider="sso", error_msg="Token has expired")

    access.session._session._credentials = Expired()
    soon(lambda: S3Backend(url, access).read("x"), "refuses these.*Token has expired", 1)


def test_the_usual_environment_is_enough(
    no_aws: pytest.MonkeyPatch, moto: S3Server, url: str
) -> None:
    for name, value in moto.environment().items():
        no_aws.setenv(name, value)
    S3Backend(url).create("refs/x", b"one")
    assert S3Backend(url, moto.access()).read("refs/x") == b"one"


def test_a_write_that_is_said_to_be_under_way_elsewhere_is_made_again(
    url: str, moto: S3Server, proxy: FaultyProxy
) -> None:
    """409 is not 412: nobody may have written in the end."""
    backend = S3Backend(url, moto.access(proxy.endpoint))
    for write in (
        lambda: backend.create("refs/x", b"one"),
        lambda: backend.swap("refs/x", b"one", b"two"),
    ):
        proxy.fail(Fault.CONFLICT, times=1, on="^PUT .*/refs/x")
        assert write()
    assert proxy.made[Fault.CONFLICT] == 2
    assert backend.read("refs/x") == b"two"


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.STALL], ids=str)
def test_what_was_done_though_the_reply_was_lost_counts(
    url: str, moto: S3Server, proxy: FaultyProxy, fault: Fault
) -> None:
    backend = S3Backend(url, moto.access(proxy.endpoint))
    for write, won in [
        (lambda: backend.create("refs/x", b"one"), True),
        (lambda: backend.swap("refs/x", b"one", b"two"), True),
        (lambda: backend.create("refs/x", b"three"), False),
        (lambda: backend.swap("refs/x", b"one", b"three"), False),
    ]:
        proxy.fail(fault, times=1, on="^(PUT|GET) .*/refs/x")
        assert write() == won
    assert proxy.made[fault] == 4
    assert backend.read("refs/x") == b"two"


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.LOST_REPLY, Fault.SLOW_DOWN], ids=str)
def test_equal_bytes_of_another_are_not_taken_for_ones_own(
    url: str, moto: S3Server, proxy: FaultyProxy, fault: Fault
) -> None:
    assert S3Backend(url, moto.access()).create("refs/x", b"one")
    proxy.fail(fault, times=1, on="^PUT .*/refs/x")
    assert not S3Backend(url, moto.access(proxy.endpoint)).create("refs/x", b"one")
    assert proxy.made[fault] == 1


IMAGES = {digest_of(data): data for data in (bytes([n]) * n * 50 for n in range(60))}
"""Of 0 to 3000 bytes."""
LOOSE = [f"header {n}".encode() for n in range(4)]
TABLE = pa.table({"sample": list(map(str, range(60))), "image": list(IMAGES)})


class Work:
    """All that is done with a store; what was said to be done is noted."""

    def __init__(self, store: Store, tmp_path: Path) -> None:
        self.store = store
        self.mine = open_store(str(tmp_path / "mine"))
        self.theirs = open_store(str(tmp_path / "theirs"))
        self.done: list[str] = []
        self.names: set[str] = set()
        if not list(self.mine.refs.names()):
            self.publish(self.mine, "mine")

    def publish(self, store: Store, name: str) -> None:
        with store.objects.packing() as packer:
            packer.add(list(IMAGES.items()))
        content = store.objects.put_table(TABLE)
        for _ in range(2):
            store.publish_once(f"datasets/{name}", Record(asset="a", content=content))
            store.publish(f"splits/{name}", Record(asset="a", content=content))

    def everything(self) -> None:
        for data in LOOSE:
            self.done.append(self.store.objects.put(data))
        self.publish(self.store, "theirs")
        self.done += IMAGES
        self.names |= {"datasets/theirs", "splits/theirs"}
        for one, other in [(self.mine, self.store), (self.store, self.theirs)]:
            plan = plan_transfer(one, other)
            assert not plan.conflicts
            transfer(one, other, plan)
        self.names |= {"datasets/mine", "splits/mine"}
        assert self.store.objects.get_many(list(IMAGES)) == list(IMAGES.values())
        assert self.store.objects.get_table(digest := self._content("mine")).equals(
            self.theirs.objects.get_table(digest)
        )
        assert verify(self.store).damages == ()

    def _content(self, name: str) -> str:
        content = self.store.content(f"datasets/{name}")
        assert content is not None
        return content


def check_work_under_faults(
    server: S3Server, fault: Fault, probability: float, seed: int, folder: Path
) -> None:
    """Whatever fails: what was said to be done is done, nothing is damaged, and to repeat helps."""
    url = server.new_store()
    with FaultyProxy(server.endpoint, seed=seed, stall_s=STALL) as proxy:
        # S3 says so of conditional writes alone.
        on = "^PUT" if fault is Fault.CONFLICT else ""
        proxy.fail(fault, probability=probability, on=on)
        work = Work(Store(S3Backend(url, server.access(proxy.endpoint))), folder)
        with suppress(StoreUnavailable):  # not RefConflict: with one writer it would be a lie
            work.everything()
        assert proxy.made[fault] > 0

    direct = Store(S3Backend(url, server.access()))
    assert verify(direct).damages == ()
    assert all(digest_of(direct.objects.get(digest)) == digest for digest in work.done)
    assert work.names <= set(direct.refs.names())

    again = Work(direct, folder)
    again.everything()
    assert verify(work.theirs).damages == ()
    assert {*direct.refs.names()} == {*work.theirs.refs.names()}
    assert len(again.names) == 4


FAULTS = {
    Fault.RESET: 0.1,
    Fault.LOST_REPLY: 0.1,
    Fault.SLOW_DOWN: 0.1,
    Fault.CONFLICT: 0.4,
    Fault.STALL: 0.04,
    Fault.STALL_IN_BODY: 0.1,
    Fault.TRUNCATE: 0.2,
}
"""With which probability each strikes a request, where there is little time."""
every_fault = pytest.mark.parametrize("fault", FAULTS, ids=str)


@every_fault
def test_faults_lose_nothing(moto: S3Server, fault: Fault, tmp_path: Path) -> None:
    check_work_under_faults(moto, fault, FAULTS[fault], 0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
@every_fault
def test_more_faults_lose_nothing(moto: S3Server, fault: Fault, seed: int, tmp_path: Path) -> None:
    check_work_under_faults(moto, fault, max(0.2, FAULTS[fault]), seed, tmp_path)


@pytest.mark.slow
@every_fault
def test_faults_lose_nothing_on_ceph(ceph: S3Server, fault: Fault, tmp_path: Path) -> None:
    check_work_under_faults(ceph, fault, max(0.2, FAULTS[fault]), 0, tmp_path)


@pytest.mark.slow
def test_ceph_refuses_in_words_that_are_understood(ceph: S3Server) -> None:
    url = ceph.new_store()
    stranger = S3Server(ceph.endpoint, "stranger", ceph.secret_key)
    liar = S3Server(ceph.endpoint, ceph.access_key, "wrong")
    for operation in OPERATIONS.values():
        for server, word in [(stranger, "InvalidAccessKeyId"), (liar, "SignatureDoesNotMatch")]:
            backend = S3Backend(url, server.access())
            soon(partial(operation, backend), f"refuses these credentials.*{word}", 2)
        missing = S3Backend("s3://missing/x", ceph.access())
        soon(partial(operation, missing), "there is no such bucket", 2)


@pytest.mark.slow
def test_a_bucket_with_versions_on_ceph_is_safe_or_refused(ceph: S3Server) -> None:
    url = ceph.new_store()
    ceph.client().put_bucket_versioning(
        Bucket=url.split("/")[2], VersioningConfiguration={"Status": "Enabled"}
    )
    store = Store(S3Backend(url, ceph.access()))
    one, other = store.objects.put(b"one"), store.objects.put(b"other")
    try:
        store.publish_once("datasets/x", Record(asset="a", content=one))
    except UnsafeBucket:
        assert store.content("datasets/x") is None
    else:
        with pytest.raises(RefConflict):
            store.publish_once("datasets/x", Record(asset="a", content=other))
