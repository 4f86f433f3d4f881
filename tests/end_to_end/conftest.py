"""A copy of the checkout with a small network, in which the demo was run as a user runs it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import PROJECT

SHIPPED = [
    "defect_assets",
    "bento",
    "configs",
    "definitions.py",
    "workspace.yaml",
    "pyproject.toml",
    "requirements.lock",
]


@dataclass
class Checkout:
    """A checkout of its own, whose code and configurations a test may change."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(self.root),
            "DEFECT_HOME": str(self.home),
            "DAGSTER_HOME": str(self.home / "dagster"),
            "BENTOML_HOME": str(self.home / "bentoml"),
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "defect_assets", *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def configure(self, **changes: object) -> None:
        path = self.root / "configs" / "C-01.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    @contextmanager
    def background(
        self, command: list[str], ready: str, folder: Path | None = None
    ) -> Iterator[None]:
        """Run a command until the block ends; enter the block when an address answers."""
        log = self.root / "background.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=folder or self.root,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                wait_for(ready, process, log)
                yield
            finally:
                # Its workers, too: some outlive their master.
                os.killpg(process.pid, 15)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, 9)


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.3)
    raise AssertionError(f"{address} did not answer: {log.read_text()}")


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def copy_checkout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Checkout]:
    def copy() -> Checkout:
        root = tmp_path_factory.mktemp("checkout")
        for name in SHIPPED:
            source = PROJECT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, root / name, ignore=ignored)
            else:
                shutil.copy(source, root / name)
        checkout = Checkout(root)
        checkout.configure(
            steps=150, input={"height": 64, "width": 64}, architecture={"widths": [8, 16, 32]}
        )
        return checkout

    return copy


@pytest.fixture(scope="session")
def demo(copy_checkout: Callable[[], Checkout]) -> Checkout:
    checkout = copy_checkout()
    (checkout.root / "demo.txt").write_text(checkout.cli("demo").stdout)
    return checkout
