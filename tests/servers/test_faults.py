import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.servers.faults import Fault, FaultyProxy
from tests.servers.s3 import S3Server

BODY = bytes(range(256)) * 40


class _Held(BaseHTTPRequestHandler):
    """A server that holds what was PUT, and remembers the headers it was sent."""

    protocol_version = "HTTP/1.1"
    held: dict[str, bytes]
    hosts: list[str]

    def do_PUT(self) -> None:
        self.held[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.hosts.append(self.headers["Host"])
        self._answer(200, b"")

    def do_GET(self) -> None:
        found = self.path in self.held
        self._answer(200 if found else 404, self.held.get(self.path, b"none"))

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def held() -> dict[str, bytes]:
    return {"/key": BODY}


@pytest.fixture
def hosts() -> list[str]:
    return []


@pytest.fixture
def proxy(held: dict[str, bytes], hosts: list[str]) -> Iterator[FaultyProxy]:
    handler = type("Handler", (_Held,), {"held": held, "hosts": hosts})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with FaultyProxy(f"http://127.0.0.1:{server.server_address[1]}", stall_s=1) as proxy:
            yield proxy
        server.shutdown()


@pytest.fixture
def client(proxy: FaultyProxy) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(proxy.endpoint).netloc, timeout=10)
    yield connection
    connection.close()


def ask(
    client: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    client.request(method, path, body)
    answer = client.getresponse()
    return answer.status, answer.read()


def test_without_faults_it_is_not_there(
    proxy: FaultyProxy,
    client: http.client.HTTPConnection,
    held: dict[str, bytes],
    hosts: list[str],
) -> None:
    assert ask(client, "PUT", "/a//b?x=%2F", b"one") == (200, b"")
    assert held["/a//b?x=%2F"] == b"one"
    assert hosts == [urlsplit(proxy.endpoint).netloc]
    assert ask(client, "GET", "/key") == (200, BODY)
    assert ask(client, "GET", "/other") == (404, b"none")
    assert proxy.requests == ["PUT /a//b?x=%2F", "GET /key", "GET /other"]
    client.request("HEAD", "/key")
    assert client.getresponse().headers["Content-Length"] == str(len(BODY))


def test_a_body_in_chunks_arrives_whole(
    client: http.client.HTTPConnection, held: dict[str, bytes]
) -> None:
    client.request("PUT", "/new", iter([b"one", b"two"]), encode_chunked=True)
    client.getresponse().read()
    assert held["/new"] == b"onetwo"


def test_a_reset_request_never_arrives(
    proxy: FaultyProxy, client: http.client.HTTPConnection, held: dict[str, bytes]
) -> None:
    proxy.fail(Fault.RESET, times=1)
    with pytest.raises(ConnectionResetError):
        ask(client, "PUT", "/new", b"one")
    assert "/new" not in held
    client.close()
    assert ask(client, "PUT", "/new", b"one") == (200, b"")
    assert proxy.made == {Fault.RESET: 1}


def test_a_lost_reply_is_to_a_request_that_arrived(
    proxy: FaultyProxy, client: http.client.HTTPConnection, held: dict[str, bytes]
) -> None:
    proxy.fail(Fault.LOST_REPLY, times=1)
    with pytest.raises(ConnectionResetError):
        ask(client, "PUT", "/new", b"one")
    assert held["/new"] == b"one"


def test_slow_down_is_said_as_s3_says_it(
    proxy: FaultyProxy, client: http.client.HTTPConnection, held: dict[str, bytes]
) -> None:
    proxy.fail(Fault.SLOW_DOWN, times=1)
    status, body = ask(client, "PUT", "/new", b"one")
    assert status == 503
    assert b"<Code>SlowDown</Code>" in body
    assert "/new" not in held
    # The connection is as good as before.
    assert ask(client, "PUT", "/new", b"one") == (200, b"")


def test_a_stalled_reply_comes_late(proxy: FaultyProxy, client: http.client.HTTPConnection) -> None:
    proxy.fail(Fault.STALL, times=1)
    before = time.monotonic()
    assert ask(client, "GET", "/key") == (200, BODY)
    assert time.monotonic() - before >= 1


def test_a_client_sees_no_byte_while_a_body_stalls(
    proxy: FaultyProxy, client: http.client.HTTPConnection
) -> None:
    proxy.fail(Fault.STALL_IN_BODY, times=1)
    client.timeout = 0.3
    client.request("GET", "/key")
    answer = client.getresponse()
    assert answer.read(len(BODY) // 2) == BODY[: len(BODY) // 2]
    with pytest.raises(TimeoutError):
        answer.read()


def test_a_truncated_body_ends_in_its_middle(
    proxy: FaultyProxy, client: http.client.HTTPConnection
) -> None:
    proxy.fail(Fault.TRUNCATE, times=1)
    with pytest.raises(http.client.IncompleteRead) as raised:
        ask(client, "GET", "/key")
    assert raised.value.partial == BODY[: len(BODY) // 2]


def test_faults_strike_only_what_they_are_for(
    proxy: FaultyProxy, client: http.client.HTTPConnection
) -> None:
    proxy.fail(Fault.SLOW_DOWN, on="^PUT /new")
    assert ask(client, "GET", "/new")[0] == 404
    assert ask(client, "PUT", "/other", b"")[0] == 200
    assert ask(client, "PUT", "/new", b"")[0] == 503
    proxy.heal()
    assert ask(client, "PUT", "/new", b"")[0] == 200


def test_a_seed_decides_which_requests_are_struck() -> None:
    def struck(seed: int) -> list[bool]:
        proxy = FaultyProxy("http://127.0.0.1:1", seed=seed)
        proxy.fail(Fault.RESET, probability=0.5)
        return [proxy.draw("GET /key") is not None for _ in range(64)]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 16 < sum(struck(1)) < 48


def test_an_s3_client_works_through_it(moto: S3Server) -> None:
    moto.make_bucket("bucket")
    with FaultyProxy(moto.endpoint) as proxy:
        client = S3Server(proxy.endpoint, moto.access_key, moto.secret_key).client()
        client.put_object(Bucket="bucket", Key="key", Body=BODY)
        assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == BODY
        listed = client.list_objects_v2(Bucket="bucket", Prefix="k")["Contents"]
        assert [each["Size"] for each in listed] == [len(BODY)]
        client.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "key"}]})


def test_a_header_that_a_server_does_not_know_is_not_passed_on(moto: S3Server) -> None:
    moto.make_bucket("poor")
    for without, refused in [((), True), (("if-none-match",), False)]:
        with FaultyProxy(moto.endpoint, without=without) as proxy:
            client = S3Server(proxy.endpoint, moto.access_key, moto.secret_key).client()
            client.put_object(Bucket="poor", Key="key", Body=BODY)
            with (
                pytest.raises(ClientError, match="PreconditionFailed") if refused else nullcontext()
            ):
                client.put_object(Bucket="poor", Key="key", Body=BODY, IfNoneMatch="*")
