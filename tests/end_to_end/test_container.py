"""The image that ``bentoml containerize`` makes, and the service in it, without a container engine.

By buildah, in chroot isolation; the base image is made of Debian's packages.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.conftest import Checkout, answers, free_port, tool
from tests.end_to_end.test_service import post, tiles

NEEDED = ("buildah", "mmdebstrap")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah's chroots need root here"),
    pytest.mark.skipif(
        not all(map(shutil.which, NEEDED)), reason=f"apt-get install {' '.join(NEEDED)}"
    ),
]


class Builder:
    """Buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self.environment = {
            **os.environ,
            "BUILDAH_ISOLATION": "chroot",
            "STORAGE_DRIVER": "vfs",
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )

    def __call__(self, *arguments: str) -> str:
        return self.run(["buildah", *arguments])

    def run(self, command: list[str], **variables: str) -> str:
        result = subprocess.run(
            command,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
        return result.stdout.strip()


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Buildah, with Debian's Python under the name of the base image that BentoML asks for."""
    folder = tmp_path_factory.mktemp("buildah")
    builder = Builder(folder)
    base = folder / "base.tar"
    made = subprocess.run(
        [
            "mmdebstrap",
            "--variant=minbase",
            "--include=python3-venv,python3-pip,ca-certificates",
            "--customize-hook=ln -s python3 $1/usr/bin/python",
            "--customize-hook=rm -f $1/usr/lib/python3*/EXTERNALLY-MANAGED",
            "bookworm",
            str(base),
            "http://deb.debian.org/debian",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if made.returncode:
        pytest.skip(f"Debian's packages cannot be had: {made.stderr[-300:]}")
    container = builder("from", "scratch")
    builder("add", "--quiet", container, str(base), "/")
    if CERTIFICATES.exists():  # this machine's, for a registry of its own
        builder("copy", "--quiet", container, str(CERTIFICATES), "/etc/ssl/machine.crt")
        for variable in ("SSL_CERT_FILE", "PIP_CERT"):
            builder("config", "--env", f"{variable}=/etc/ssl/machine.crt", container)
    builder("commit", "--quiet", "--rm", container, "docker.io/library/python:3.11-slim")
    base.unlink()
    return builder


@pytest.fixture(scope="module")
def image(demo: Checkout, builder: Builder) -> str:
    containerize = [tool("bentoml"), "containerize", "defect_detector:v0.1.0"]
    options = ["--backend", "buildah", "--opt", "pull-never", "-t", "detector:cpu"]
    builder.run([*containerize, *options], BENTOML_HOME=str(demo.home / "bentoml"))
    return "localhost/detector:cpu"


@pytest.fixture(scope="module")
def service(
    builder: Builder, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    container, port = builder("from", "--pull-never", image), free_port()
    entry = ["/home/bentoml/bento/env/docker/entrypoint.sh", "serve", "--port", str(port)]
    log = tmp_path_factory.mktemp("container") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["buildah", "run", "--user", "bentoml", container, "--", *entry],
            env=builder.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert answers(f"http://127.0.0.1:{port}/readyz", process), log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        # A chroot is no process namespace: its processes do not end with it.
        family = psutil.Process(process.pid).children(recursive=True)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.terminate()
        for member in psutil.wait_procs(family, 30)[1]:
            member.kill()
        process.wait(60)


def test_the_image_for_processors_holds_no_pytorch(builder: Builder, image: str) -> None:
    container = builder("from", "--pull-never", image)
    python = ("run", container, "--", "/app/.venv/bin/python", "-c")
    find = "from importlib.util import find_spec; print(find_spec({!r}) is not None)"
    assert builder(*python, find.format("openvino")) == "True"
    assert builder(*python, find.format("torch")) == "False"
    assert builder(*python, find.format("dagster")) == "False"


def test_the_service_in_the_image_answers(demo: Checkout, service: str) -> None:
    verdicts = set()
    for tile in tiles(demo, 6):
        status, reply = post(service, tile.read_bytes())
        assert status == 200
        assert reply["model"]["release"] == "v0.1.0"
        assert reply["model"]["runtime"].startswith("openvino")
        verdicts.add(reply["verdict"])
    assert "ng" in verdicts
    status, reply = post(service, b"no image")
    assert (status, reply["error"]["code"]) == (415, "unknown_format")
