"""A Postgres server of Debian's package, for as long as a test takes."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.conftest import free_port
from tests.servers.s3 import Unavailable


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server with an empty database; yield its URL.

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
    server = subprocess.Popen(
        [
            *(str(found[-1] / "postgres"), "-D", str(data), "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=user,
        cwd=folder,
    )
    address = ("--host", "127.0.0.1", "--port", str(port), "--username", "defect")
    try:
        for _ in range(100):
            try:
                run("createdb", *address, "dagster")
                break
            except subprocess.CalledProcessError:
                time.sleep(0.2)
        yield f"postgresql://defect@127.0.0.1:{port}/dagster"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
