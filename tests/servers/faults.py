"""A proxy in front of an S3 server that fails as networks and S3 do."""

import http.client
import os
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
    "<Message>{message}</Message>"
    "<RequestId>FAULT</RequestId><HostId>FAULT</HostId></Error>"
)


class Fault(Enum):
    RESET = auto()
    """The connection is reset; the server never saw the request."""

    LOST_REPLY = auto()
    """The connection is reset after the server has done what was asked: the client cannot know."""

    SLOW_DOWN = auto()
    """A reply of 503 with S3's SlowDown; the server never saw the request."""

    CONFLICT = auto()
    """A reply of 409, as S3's while another's conditional write is under way; the server never
    saw the request."""

    FORBIDDEN = auto()
    """A reply of 403 with S3's InvalidAccessKeyId; the server never saw the request."""

    STALL = auto()
    """The server has done what was asked, but no byte of its reply comes for a while."""

    STALL_IN_BODY = auto()
    """Half of a GET's body comes, and then no byte for a while."""

    TRUNCATE = auto()
    """Half of a GET's body comes, and then the connection's end."""


_REPLIES = {
    Fault.SLOW_DOWN: (503, "Slow Down", "SlowDown", "Please reduce your request rate."),
    Fault.CONFLICT: (409, "Conflict", "ConditionalRequestConflict", "Please try again."),
    Fault.FORBIDDEN: (403, "Forbidden", "InvalidAccessKeyId", "The key does not exist."),
}


@dataclass
class _Rule:
    fault: Fault
    left: int | None  # None: no end
    probability: float
    on: re.Pattern[str]


class FaultyProxy:
    """Passes requests on to an S3 server, but for the faults it is told to make.

    The client's headers, the Host too, are passed on as they are: signatures stay good.
    Use as a context manager.

    Args:
        upstream: The server's URL.
        seed: Of the choice of the requests that are struck.
        stall_s: How long a stall lasts.
        host: The address that it listens on.
        without: Headers of requests, in small letters, that are not passed on: those of what a
            poorer server does not know.
    """

    def __init__(
        self,
        upstream: str,
        *,
        seed: int = 0,
        stall_s: float = 20,
        host: str = "127.0.0.1",
        without: Collection[str] = (),
    ) -> None:
        self.dropped = {"connection", "expect", "transfer-encoding", *without}
        address = urlsplit(upstream)
        assert address.hostname is not None
        self.upstream = (address.hostname, address.port or 80)
        self.stall_s = stall_s
        self.made: Counter[Fault] = Counter()
        """How often each fault was made."""
        self.requests: list[str] = []
        """Each request that came, as "PUT /bucket/key"."""

        self._rules: list[_Rule] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server = _Server((host, 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def endpoint(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def fail(
        self,
        fault: Fault,
        *,
        times: int | None = None,
        probability: float = 1.0,
        on: str = "",
    ) -> None:
        """Make `fault` from now on.

        Args:
            fault: The fault.
            times: How often; without it, until `heal`.
            probability: With which each request is struck, drawn from the seeded generator.
            on: A regular expression; only requests that hold it are struck, such as
                "^PUT /bucket/refs/".
        """
        with self._lock:
            self._rules.append(_Rule(fault, times, probability, re.compile(on)))

    def heal(self) -> None:
        """Make no more faults."""
        with self._lock:
            self._rules.clear()

    def draw(self, request: str) -> Fault | None:
        """The fault that strikes this request."""
        with self._lock:
            self.requests.append(request)
            for rule in self._rules:
                if rule.left == 0 or not rule.on.search(request):
                    continue
                if rule.fault in (Fault.STALL_IN_BODY, Fault.TRUNCATE) and request[:4] != "GET ":
                    continue
                if self._random.random() >= rule.probability:
                    continue
                if rule.left is not None:
                    rule.left -= 1
                self.made[rule.fault] += 1
                return rule.fault
        return None

    def stall(self) -> None:
        self._closed.wait(self.stall_s)

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    proxy: FaultyProxy
    daemon_threads = True
    block_on_close = False  # clients keep connections open for longer than a test lasts
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hung up is what the tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _pass_on(self) -> None:
        proxy = self.server.proxy
        # Not self.path: it is not always what the client wrote and signed.
        method, target = self.requestline.split(" ")[:2]
        body = self._body()  # whole, as a client may read no reply before it has sent it
        fault = proxy.draw(f"{method} {target}")
        if fault is Fault.RESET:
            return self._reset()
        if fault in _REPLIES:
            status, reason, code, message = _REPLIES[fault]
            headers = [("Content-Type", "application/xml")]
            error = _ERROR.format(code=code, message=message)
            return self._reply(status, reason, headers, error.encode())

        upstream = http.client.HTTPConnection(*proxy.upstream, timeout=120)
        try:
            upstream.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in proxy.dropped:
                    upstream.putheader(name, value)
            if body and self.headers.get("Content-Length") is None:  # it came in chunks
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        headers = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding")
        ]
        if fault is Fault.LOST_REPLY:
            return self._reset()
        if fault is Fault.STALL:
            proxy.stall()
        self._reply(answer.status, answer.reason, headers, content, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _reply(
        self,
        status: int,
        reason: str,
        headers: list[tuple[str, str]],
        content: bytes,
        fault: Fault | None = None,
    ) -> None:
        names = {name.lower() for name, _ in headers}
        if "content-length" not in names and status not in (204, 304):
            headers = [*headers, ("Content-Length", str(len(content)))]
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if self.command == "HEAD":
            return
        half = len(content) // 2
        if fault is Fault.TRUNCATE:
            self.wfile.write(content[:half])
            self.close_connection = True
        elif fault is Fault.STALL_IN_BODY:
            self.wfile.write(content[:half])
            self.server.proxy.stall()
            self.wfile.write(content[half:])
        else:
            self.wfile.write(content)

    def _reset(self) -> None:
        """Close with a RST, which close() sends when it may not linger."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        # By its number: the socket's own close() waits for its readers, and socketserver says a
        # polite FIN first.
        os.close(self.connection.detach())

    def log_message(self, format: str, *arguments: object) -> None:
        pass
