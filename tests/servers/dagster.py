"""Dagster's code server and daemon as processes of their own, which a test may kill one by one."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from tests.end_to_end.conftest import Checkout, free_port, tool

LOCATION = "defect-assets"
_PREPARE = """
import dagster
from defect_assets.home import default_home
default_home().prepare()
dagster.DagsterInstance.get().dispose()
"""


@dataclass
class Servers:
    """A code server, and as many daemons as are started, on a checkout's home."""

    checkout: Checkout
    port: int = field(default_factory=free_port)
    code_server: subprocess.Popen | None = None
    daemons: list[subprocess.Popen] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        """The file by which daemons, commands and webservers find the code server."""
        return self.checkout.home / "workspace.yaml"

    def prepare(self) -> None:
        """Make the instance as the checkout says; processes that make it at once break it."""
        subprocess.run(
            [sys.executable, "-c", _PREPARE],
            cwd=self.checkout.root,
            env=self.checkout.environment,
            check=True,
        )
        server = {"host": "127.0.0.1", "port": self.port, "location_name": LOCATION}
        self.workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))

    def start_code_server(self) -> None:
        """Start the code server, and wait until it listens."""
        self.code_server = self._start(
            "code-server",
            *("dagster", "api", "grpc", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--python-file", "definitions.py", "--location-name", LOCATION),
        )
        deadline = time.monotonic() + 120
        while self.code_server.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(self.log("code-server"))

    def start_daemon(self) -> None:
        """Start a daemon, beside those that run."""
        command = ("dagster-daemon", "run", "--workspace", str(self.workspace))
        self.daemons.append(self._start("daemon", *command))

    def switch_on(self, *sensors: str) -> None:
        """Switch some sensors on; without names, all."""
        for which in [[sensor] for sensor in sensors] or [["--start-all"]]:
            command = [tool("dagster"), "sensor", "start", *which, "-w", str(self.workspace)]
            subprocess.run(
                command,
                cwd=self.checkout.root,
                env=self.checkout.environment,
                check=True,
                capture_output=True,
            )

    def runs(self) -> list[psutil.Process]:
        """Return the processes that work on runs, those whose code server was killed included."""
        found = []
        for process in processes(self.checkout):
            with suppress(psutil.Error):
                if "spawn_main" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def log(self, name: str) -> str:
        """Return the end of what a server printed."""
        return (self.checkout.root / f"{name}.log").read_text()[-3000:]

    def _start(self, name: str, command: str, *arguments: str) -> subprocess.Popen:
        with (self.checkout.root / f"{name}.log").open("a") as output:
            return subprocess.Popen(
                [tool(command), *arguments],
                cwd=self.checkout.root,
                env=self.checkout.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def processes(checkout: Checkout) -> list[psutil.Process]:
    """Return the processes that work on a checkout's home."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get("DEFECT_HOME") == str(checkout.home):
                found.append(process)
    return found


def kill(*victims: subprocess.Popen | psutil.Process | None) -> None:
    """Kill processes as the kernel does where memory runs out, and see them end."""
    there = [victim for victim in victims if victim is not None]
    for victim in there:
        with suppress(psutil.Error, ProcessLookupError):
            victim.send_signal(signal.SIGKILL)
    for victim in there:
        victim.wait(10)


@contextmanager
def dagster_servers(checkout: Checkout) -> Iterator[Servers]:
    """Start the code server; when the block ends, end it, the daemons, and all that they began."""
    servers = Servers(checkout)
    servers.prepare()
    try:
        servers.start_code_server()
        yield servers
    finally:
        kill(*servers.daemons, servers.code_server)
        kill(*processes(checkout))
