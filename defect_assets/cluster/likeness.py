"""Whether a worker is what the run is: the same code, Python and PyTorch.

A record says which code made a result; on a cluster that is true only where all nodes have it.
"""

import hashlib
import platform
import socket
from functools import cache
from importlib import metadata
from pathlib import Path

from defect_assets.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]


class OtherCode(UserError):
    """A node is not what the run is; the message says which, and what to do."""


@cache
def likeness() -> str:
    """Return a digest of this package's sources, and of the versions that decide results."""
    hasher = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        hasher.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    versions = [platform.python_version(), *(metadata.version(p) for p in ("torch", "numpy"))]
    hasher.update(" ".join(versions).encode())
    return hasher.hexdigest()


def demand(expected: str) -> None:
    """Make sure that this process is what another one is.

    Raises
    ------
    OtherCode
        If it is not.
    """
    if likeness() != expected:
        raise OtherCode(
            f"the node {socket.gethostname()} has another defect_assets, Python, PyTorch or NumPy "
            f"than the run ({PACKAGE}): bring all nodes to one commit and one lock, "
            "and start Ray there anew"
        )
