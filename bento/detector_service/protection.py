"""What stands between a request and its handler: ASGI middleware, the outermost first.

`Envelope` gives the request its id, its line in the log and, whatever happens, a reply;
`ErrorReplies` turns refusals into replies; `ApiKeys` asks who it is; `BodyLimit` how much it is.
"""

import hashlib
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detector_service import metrics
from detector_service.errors import ApiError, internal_error

logger = logging.getLogger("detector_service.requests")

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Envelope:
    """Gives every request an id, a reply and a line in the log, and counts it.

    Parameters
    ----------
    app
        What is inside.
    routes
        The known paths; a metric's label is one of them or ``other``.
    """

    def __init__(self, app: ASGIApp, routes: Collection[str]) -> None:
        self._app = app
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        asked = Headers(scope=scope)
        offered = asked.get("x-request-id", "")
        request_id = offered if _SANE_ID.fullmatch(offered) else uuid.uuid4().hex
        scope["state"] = {**scope.get("state", {}), "request_id": request_id, "log": {}}
        sent: dict[str, Any] = {"status": 0, "bytes": 0}
        coming = asked.get("content-length", "0") != "0" or "transfer-encoding" in asked

        async def receive_until_end() -> Message:
            nonlocal coming
            message = await receive()
            coming = coming and message.get("more_body", False)
            return message

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                if coming:
                    # The server would go on to read what nobody wants any more.
                    headers["Connection"] = "close"
            else:
                sent["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive_until_end, count)
        except Exception:
            logger.exception("request %s failed", request_id)
            if sent["status"]:
                raise  # half a reply is out: the server has to close the connection
            await internal_error().reply(request_id)(scope, receive, count)
        finally:
            self._record(scope, sent, time.perf_counter() - begun)

    def _record(self, scope: Scope, sent: dict[str, Any], seconds: float) -> None:
        route = scope["path"] if scope["path"] in self._routes else "other"
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
        metrics.REQUESTS.labels(route, method, sent["status"]).inc()
        metrics.DURATION.labels(route).observe(seconds)
        client = scope.get("client")
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": scope["state"]["request_id"],
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"][:200],
            "status": sent["status"],
            "bytes": sent["bytes"],
            "ms": round(seconds * 1000, 2),
            **scope["state"]["log"],
        }
        logger.info("%s", json.dumps(line))


class ErrorReplies:
    """Answers with one body for all errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ApiError as error:
            scope["state"]["log"]["error"] = error.detail.code
            await error.reply(scope["state"]["request_id"])(scope, receive, send)


class KeyRing:
    """The keys that open the service.

    Parameters
    ----------
    keys
        That do not change.
    file
        With more, one a line; it is read again when it changes.

    Raises
    ------
    OSError
        If the file cannot be read at the start.
    """

    def __init__(self, keys: str, file: Path | None) -> None:
        self._fixed = [_digest(key) for key in map(str.strip, keys.split(",")) if key]
        self._file = file
        self._read: tuple[int, list[bytes]] = (0, [])
        if file is not None:
            self._read = self._read_file(file)

    @property
    def asks(self) -> bool:
        """Whether a key is needed at all. An empty file opens to nobody."""
        return bool(self._fixed) or self._file is not None

    def knows(self, key: str) -> bool:
        """Tell whether a key opens, in a time that does not tell how nearly it does."""
        if self._file is not None:
            try:
                self._read = self._read_file(self._file)
            except OSError:
                logger.exception("the keys that were read last still count")
        given = _digest(key)
        matches = [hmac.compare_digest(given, known) for known in (*self._fixed, *self._read[1])]
        return any(matches)

    def _read_file(self, file: Path) -> tuple[int, list[bytes]]:
        changed = file.stat().st_mtime_ns
        if changed == self._read[0]:
            return self._read
        lines = map(str.strip, file.read_text().splitlines())
        return changed, [_digest(line) for line in lines if line and not line.startswith("#")]


def _digest(key: str) -> bytes:
    """All keys become as long as each other."""
    return hashlib.sha256(key.encode()).digest()


class ApiKeys:
    """Lets in who has a key, and everybody to the open paths.

    Parameters
    ----------
    app
        What is inside.
    ring
        The keys.
    open_paths
        What needs none.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing, open_paths: Collection[str]) -> None:
        self._app = app
        self._ring = ring
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._ring.asks and scope["path"] not in self._open:
            headers = Headers(scope=scope)
            scheme, _, token = headers.get("authorization", "").partition(" ")
            key = headers.get("x-api-key") or (token if scheme.lower() == "bearer" else "")
            if not key or not self._ring.knows(key):
                raise ApiError(
                    401,
                    "api_key_needed",
                    "the API key is not known" if key else "an API key is needed",
                    "send it in the header X-API-Key, or as Authorization: Bearer …",
                    {"WWW-Authenticate": "Bearer"},
                )
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies that are too long: at once by their declared length, else as they come in."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limit:
            raise self._refusal()
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._refusal()
            return message

        await self._app(scope, counted, send)

    def _refusal(self) -> ApiError:
        return ApiError(
            413,
            "body_too_large",
            f"the request is larger than {self._limit / 1e6:g} MB",
            "send a smaller file, or ask the operator to raise DETECTOR_MAX_BODY_MB",
        )
