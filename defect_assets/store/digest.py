"""The one way in which this project names content."""

import hashlib
import json
import re
from typing import Any, TypeAlias

from defect_assets.errors import UserError

Digest: TypeAlias = str
"""Lower-case hexadecimal SHA-256, 64 characters."""

OBJECTS = "objects/"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes) -> Digest:
    """Return the SHA-256 of some bytes.

    >>> digest_of(b"")[:12]
    'e3b0c44298fc'
    """
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Encode a JSON value so that equal values have equal bytes.

    Keys are sorted, there is no white space, text is UTF-8.

    Raises
    ------
    ValueError
        For NaN and infinities, which JSON cannot hold.

    >>> canonical_json({"b": 1, "a": [1.5, "é"]}).decode()
    '{"a":[1.5,"é"],"b":1}'
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def check_digest(text: str) -> Digest:
    """Return ``text`` if it is a digest; raise ``ValueError`` if it is not.

    Digests become keys and file names, so nothing else may pass for one.
    """
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"{text!r} is not a SHA-256 digest (64 hexadecimal characters)")
    return text


class Corrupted(UserError):
    """Something in the store does not have the digest that names it.

    Parameters
    ----------
    what
        The key, or what lies in it.
    how
        What is wrong with it.
    """

    def __init__(self, what: str, how: str = "does not have its digest") -> None:
        self.what = what
        self.how = how
        super().__init__(
            f"the store is damaged: {what} {how}; defect-assets verify tells "
            "what that touches, and with --repair-from restores it from another store"
        )


def object_key(digest: Digest) -> str:
    """Return the key under which the object with a digest lies."""
    return f"{OBJECTS}{check_digest(digest)[:2]}/{digest[2:]}"


def object_digest(key: str) -> Digest:
    """Return the digest that an object's key says."""
    return key.removeprefix(OBJECTS).replace("/", "")


def short(digest: Digest) -> str:
    """Return the first 12 characters, as shown to people."""
    return digest[:12]
