"""A Ray cluster for tests: a head and workers, each with processes of its own on this machine."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.conftest import PROJECT
from tests.end_to_end.conftest import free_port, tool
from tests.servers.hosts import Host

OBJECT_STORE_BYTES = 200 * 2**20
START_SECONDS = 90


@dataclass
class Node:
    """One of a cluster's nodes: `ray start --block`, and all that it started."""

    process: subprocess.Popen
    log: Path

    def processes(self) -> list[psutil.Process]:
        """Return all of its processes, those of Ray's workers included."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self, name: str) -> list[psutil.Process]:
        """Return the processes that do what begins with a name, which they bear: ``Scorer``,
        ``IDLE``."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if title.startswith(f"ray::{name}"):
                    found.append(process)
        return found

    def kill(self) -> None:
        """Kill all of it at once, as when a machine loses its power."""
        doomed = self.processes()
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.suspend()  # so that none sees another die
        for process in {*doomed, *self.processes()}:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(30)


@dataclass
class RayCluster:
    """A cluster. Its folder is short, since Ray's sockets lie in it."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp")))
    code: Path = PROJECT
    """The checkout whose code the workers run."""
    variables: dict[str, str] = field(default_factory=dict)
    """Of the nodes' own environment, beside this process's."""
    host: str = "127.0.0.1"
    """The head's address, and that of workers that have no host of their own."""
    port: int = field(default_factory=free_port)
    head: Node | None = None
    workers: list[Node] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client's processes are told, beside their own environment."""
        return {"RAY_ADDRESS": self.address, "DEFECT_DEPLOY": "ray", **_QUIET}

    def start(self, cpus: int = 1, *options: str) -> Node:
        """Start the head, on the same port each time."""
        self.head = self._node(
            *("--head", f"--port={self.port}", f"--temp-dir={self.folder}"),
            *("--include-dashboard=false", f"--ray-client-server-port={free_port()}"),
            *(f"--num-cpus={cpus}", *options),
        )
        return self.head

    def add_worker(self, cpus: int = 1, *options: str, on: Host | None = None) -> Node:
        """Start one more node, on a host of its own if there is one."""
        worker = self._node(f"--address={self.address}", f"--num-cpus={cpus}", *options, on=on)
        self.workers.append(worker)
        return worker

    def kill_worker(self) -> None:
        """Kill the node that was added last."""
        self.workers.pop().kill()

    def kill_head(self) -> None:
        assert self.head is not None
        self.head.kill()
        self.head = None

    def stop(self) -> None:
        """End all nodes, and remove what they left behind."""
        for node in [*self.workers, *([self.head] if self.head else [])]:
            node.kill()
        self.workers, self.head = [], None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _node(self, *options: str, on: Host | None = None) -> Node:
        log = self.folder / f"node-{time.monotonic_ns()}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [
                    *(on.command if on else ()),
                    *(tool("ray"), "start", "--block", "--disable-usage-stats", *options),
                    f"--node-ip-address={on.address if on else self.host}",
                    f"--object-store-memory={OBJECT_STORE_BYTES}",
                ],
                cwd=self.code,
                env={
                    **_without_cluster(),
                    **_QUIET,
                    **self.variables,
                    "PYTHONPATH": str(self.code),
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        node = Node(process, log)
        deadline = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                node.kill()
                raise RuntimeError(f"ray start did not get ready: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        return node


_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_DATA_DISABLE_PROGRESS": "1"}


def _without_cluster() -> dict[str, str]:
    """Return this process's environment without what would lead a node to another cluster."""
    return {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "DEFECT_DEPLOY")}


@contextmanager
def ray_cluster(*cpus: int) -> Iterator[RayCluster]:
    """Run a cluster: a head, and workers, with so many processors each."""
    cluster = RayCluster()
    try:
        head, *others = cpus or (1,)
        cluster.start(head)
        for worker in others:
            cluster.add_worker(worker)
        yield cluster
    finally:
        cluster.stop()
