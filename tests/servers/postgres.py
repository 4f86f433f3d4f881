"""A Postgres server of Debian's package, for as long as a test takes."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.conftest import free_port
from tests.servers.s3 import Unavailable


@dataclass
class Postgres:
    """A running server with an empty database."""

    url: str
    start: Callable[[], subprocess.Popen]
    process: subprocess.Popen

    def restart(self, seconds: float) -> None:
        """End it, whoever is connected, and start it again after some time."""
        self.stop()
        time.sleep(seconds)
        self.process = self.start()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server with an empty database; yield its URL.

    Raises
    ------
    Unavailable
        If it is not installed.
    """
    with postgres() as server:
        yield server.url


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a server with an empty database.

    Raises
    ------
    Unavailable
        If it is not installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise Unavailable("Postgres is not installed: apt-get install postgresql")
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to be root
    folder = Path(tempfile.mkdtemp(prefix="defect-assets-postgres-"))
    if user:
        shutil.chown(folder, user)
    port = free_port()

    def run(program: str, *arguments: str) -> None:
        command = [str(found[-1] / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=folder)

    data = folder / "data"
    run("initdb", "--pgdata", str(data), "--username", "defect", "--auth", "trust")

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            [
                *(str(found[-1] / "postgres"), "-D", str(data), "-p", str(port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            cwd=folder,
        )

    server = Postgres(f"postgresql://defect@127.0.0.1:{port}/dagster", start, start())
    address = ("--host", "127.0.0.1", "--port", str(port), "--username", "defect")
    try:
        for _ in range(100):
            try:
                run("createdb", *address, "dagster")
                break
            except subprocess.CalledProcessError:
                time.sleep(0.2)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
