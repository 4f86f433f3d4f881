"""Whether work goes to a Ray cluster, and reaching it."""

import importlib.util
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from defect_assets.errors import UserError

DEPLOY = "DEFECT_DEPLOY"
"""The variable that says where the graph runs: ``local``, the default, or ``ray``."""
ADDRESS = "RAY_ADDRESS"
"""Ray's own variable for the cluster: ``head:6379``; by default the one on this machine."""


class NoCluster(UserError):
    """The cluster that is asked for cannot be used; the message says what to do."""


def on_ray() -> bool:
    """Tell whether work goes to a Ray cluster.

    Raises
    ------
    NoCluster
        If the variable says neither, or Ray is not installed.
    """
    asked = os.environ.get(DEPLOY) or "local"
    if asked not in ("local", "ray"):
        raise NoCluster(f"{DEPLOY} is {asked!r}: it is local or ray")
    if asked == "ray" and importlib.util.find_spec("ray") is None:
        raise NoCluster(
            f"{DEPLOY} is ray, but Ray is not installed: uv pip install -r requirements-ray.lock, "
            "or the extra ray: defect-assets[ray]"
        )
    return asked == "ray"


def connect() -> None:
    """Reach the cluster that `ADDRESS` names; one that was reached already stays.

    Raises
    ------
    NoCluster
        If there is none.
    """
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get(ADDRESS) or "auto"
    try:
        if address != "auto":  # Ray itself would wait for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        with _own_signals():
            ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, ValueError) as error:
        where = "on this machine" if address == "auto" else f"at {address}"
        raise NoCluster(
            f"there is no Ray cluster {where}: start one with ray start --head, or name another "
            f"in {ADDRESS}, such as head:6379 ({error})"
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the process's answer to SIGTERM: by Ray's own, a run that is cancelled just ends, and
    Dagster does not hear of it."""
    own = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, own)
