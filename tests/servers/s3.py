"""S3 servers for tests: moto's, which is quick, and Ceph's radosgw, which behaves as production."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from defect_assets.store import S3Access

CEPH_CACHE = Path.home() / ".cache" / "defect-assets-tests" / "ceph"
CEPH_PACKAGES = ["radosgw", "ceph-mon", "ceph-osd", "ceph-common"]


class Unavailable(Exception):
    """This machine cannot have the server; the message says why."""


@dataclass(frozen=True)
class S3Server:
    """A running server, and the credentials of the user it knows."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def environment(self) -> dict[str, str]:
        """What a user would export in a shell to work with this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,  # obstore reads both, boto3 the second only
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }

    def client(self) -> Any:
        """A boto3 client: a second opinion on what the server holds."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(
                s3={"addressing_style": "path"},
                # Ceph 16 does not know the checksums that boto3 sends by default.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def make_bucket(self, name: str) -> None:
        self.client().create_bucket(Bucket=name)

    def new_store(self) -> str:
        """Make a bucket; return the URL of a store in it."""
        bucket = f"bucket-{uuid.uuid4()}"
        self.make_bucket(bucket)
        return f"s3://{bucket}/some/prefix"

    def access(self, endpoint: str | None = None) -> S3Access:
        """How this server is reached, or by way of a proxy's endpoint."""
        session = boto3.Session(self.access_key, self.secret_key, region_name=self.region)
        return S3Access(session, endpoint or self.endpoint)


# It ends when its standard input does: also when the tests are killed. One request at a time, since
# moto looks whether a condition holds, and writes, without a lock.
_MOTO = """
import logging, sys, threading
from moto.moto_server import threaded_moto_server
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
class OneByOne(threaded_moto_server.DomainDispatcherApplication):
    turn = threading.Lock()
    def __call__(self, *arguments):
        with self.turn:
            return super().__call__(*arguments)
threaded_moto_server.DomainDispatcherApplication = OneByOne
server = ThreadedMotoServer(ip_address=sys.argv[1], port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def moto_server(host: str = "127.0.0.1") -> Iterator[S3Server]:
    """Run moto's server in a process of its own. It forgets everything at its end."""
    server = subprocess.Popen(
        [sys.executable, "-c", _MOTO, host], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"moto's server ended with {server.wait()} before it was ready")
        yield S3Server(f"http://{host}:{int(port)}", "moto-access", "moto-secret")
    finally:
        server.kill()
        server.communicate()


@contextmanager
def ceph_server(folder: Path) -> Iterator[S3Server]:
    """Run a Ceph of one node with its S3 gateway, its data below `folder`.

    The first run on a machine downloads Debian's packages (70 MB) and unpacks them below
    `CEPH_CACHE`; nothing is installed.

    Raises:
        Unavailable: The machine is not a Debian, we are not root, or apt has no Ceph.
        RuntimeError: A daemon did not start; the message ends with its log.
    """
    folder = folder.resolve()
    with ExitStack() as daemons:
        yield _Ceph(_ceph_packages(), folder, daemons).start()


def _ceph_packages() -> Path:
    """The folder that Ceph's packages are unpacked in."""
    for tool in ["apt-get", "dpkg", "setpriv"]:
        if shutil.which(tool) is None:
            raise Unavailable(f"Ceph's packages need {tool}, which is not here")
    if os.geteuid() != 0:
        raise Unavailable("apt-get and Ceph's daemons need root")

    root = CEPH_CACHE / "root"
    CEPH_CACHE.mkdir(parents=True, exist_ok=True)
    with (CEPH_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of many test processes one downloads
        if root.is_dir():
            return root
        archives = CEPH_CACHE / "apt" / "archives"
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        download = ["apt-get", "install", "--download-only", "--no-install-recommends", "--yes"]
        download += ["-o", f"Dir::Cache={CEPH_CACHE / 'apt'}", *CEPH_PACKAGES]
        got = subprocess.run(download, capture_output=True, text=True)
        if got.returncode:  # in a fresh container apt has no lists yet
            subprocess.run(["apt-get", "update"], capture_output=True)
            got = subprocess.run(download, capture_output=True, text=True)
        if got.returncode:
            said = got.stderr.strip().splitlines() or ["nothing was said"]
            raise Unavailable(f"apt-get cannot download Ceph: {said[-1]}")

        unpacked = CEPH_CACHE / "root.part"
        shutil.rmtree(unpacked, ignore_errors=True)
        for package in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg", "-x", package, unpacked], check=True)
        if not (unpacked / "usr" / "bin" / "radosgw").exists():
            raise Unavailable("Ceph is installed on this machine, so apt-get downloads none")
        unpacked.rename(root)
    return root


# No mgr, no keys, one copy of everything, and no admin socket: its path could be too long.
_CEPH_CONF = """
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{mon_port}]
public addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
mon allow pool size one = true
mon data avail warn = 1
paxos propose interval = 0.05
paxos min wait = 0.02
osd crush chooseleaf type = 0
osd class update on start = false
osd crush update on start = false
run dir = {folder}
admin socket =
pid file =
log file = {folder}/$name.log
erasure code dir = {libraries}/ceph/erasure-code
plugin dir = {libraries}/ceph
osd class dir = {libraries}/rados-classes
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = bluestore
bluestore block create = true
bluestore block size = 10737418240
osd memory target = 1073741824

[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{s3_port} tcp_nodelay=1
"""


class _Ceph:
    def __init__(self, root: Path, folder: Path, daemons: ExitStack) -> None:
        self.folder = folder
        self.daemons = daemons
        self.bin = root / "usr" / "bin"
        self.libraries = next((root / "usr" / "lib").glob("*-linux-gnu*"))
        libraries = [self.libraries, root / "lib" / self.libraries.name, self.libraries / "ceph"]
        self.environment = os.environ | {
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PYTHONPATH": str(root / "usr" / "lib" / "python3" / "dist-packages"),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
        }
        self.conf = folder / "ceph.conf"
        self.mon_port, self.s3_port = _free_ports(2)

    def start(self) -> S3Server:
        for name in ["mon", "osd", "rgw"]:
            (self.folder / name).mkdir(parents=True)
        fsid = str(uuid.uuid4())
        settings = {"fsid": fsid, "mon_port": self.mon_port, "s3_port": self.s3_port}
        self.conf.write_text(
            _CEPH_CONF.format(folder=self.folder, libraries=self.libraries, **settings)
        )
        monmap, mon = str(self.folder / "monmap"), f"[v1:127.0.0.1:{self.mon_port}]"
        self.run("monmaptool", "--create", "--addv", "a", mon, "--fsid", fsid, monmap)
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self.daemon("ceph-mon", "-i", "a", log="mon.a.log", port=self.mon_port)
        self.run("ceph", "osd", "create")
        # Not by itself at its start, where it sometimes asks the mon for it before it knows which
        # cluster it is in, is refused, and ends.
        self.run("ceph", "osd", "crush", "add", "osd.0", "1", "root=default")
        self.run("ceph-osd", "-i", "0", "--mkfs")
        self.daemon("ceph-osd", "-i", "0", log="osd.0.log")
        self.daemon("radosgw", "-n", "client.rgw", log="client.rgw.log", port=self.s3_port)

        server = S3Server(f"http://127.0.0.1:{self.s3_port}", "ceph-access", "ceph-secret")
        keys = ["--access-key", server.access_key, "--secret", server.secret_key]
        user = ["user", "create", "--uid=tests", "--display-name=tests", *keys]
        self.run("radosgw-admin", "-n", "client.rgw", *user)
        return server

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), "-c", str(self.conf), *arguments]
        if program == "monmaptool":
            command = [command[0], *arguments]
        done = subprocess.run(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)} failed: {done.stdout[-2000:]}")

    def daemon(self, program: str, *arguments: str, log: str, port: int | None = None) -> None:
        # In the foreground, so that it is ours to kill; setpriv kills it when the tests are
        # killed.
        command = ["setpriv", "--pdeathsig", "KILL", str(self.bin / program)]
        running = subprocess.Popen(
            [*command, "-f", "-c", str(self.conf), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.daemons.callback(running.wait)
        self.daemons.callback(running.kill)
        deadline = time.monotonic() + 90
        while port is not None and not _answers(port):
            if running.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / log).read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{program} did not start: {said}")
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
