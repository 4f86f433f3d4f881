"""A committed copy of the checkout with a small network, in which the demo was run as users do.

Committed, because nothing else is trained into a release, and the developer's may not be.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, sync_playwright

from tests.browser import chromium
from tests.checkouts import commit_all
from tests.conftest import PROJECT

NEEDS_CHROMIUM = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs Debian's chromium"
)
SHIPPED = [
    ".gitignore",
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
    folder: str = "home"
    """The home's, below the checkout."""

    @property
    def home(self) -> Path:
        return self.root / self.folder

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

    def configure(self, *, commit: bool = True, **changes: object) -> None:
        """Change the configuration, and commit it."""
        path = self.root / "configs" / "C-01.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
        if commit:
            commit_all(self.root)

    def look_often(self) -> None:
        """Let sensors look each second instead of four times a minute, and commit it."""
        for source in (self.root / "defect_assets" / "automation").glob("*.py"):
            text = source.read_text()
            often = text.replace("minimum_interval_seconds=15", "minimum_interval_seconds=1")
            source.write_text(often)
        commit_all(self.root)

    @contextmanager
    def background(
        self, command: list[str], ready: str, folder: Path | None = None
    ) -> Iterator[None]:
        """Run a command until the block ends; enter the block when an address answers."""
        log = self.root / "background.log"
        process = self._start(command, log, folder)
        try:
            if not answers(ready, process) and "Address already in use" in log.read_text():
                # BentoML draws ports for its own sockets before it uses them; draw again.
                process = self._start(command, log, folder)
            assert answers(ready, process), log.read_text()
            yield
        finally:
            # Its workers, too: some outlive their master.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)

    def _start(self, command: list[str], log: Path, folder: Path | None) -> subprocess.Popen:
        with log.open("w") as output:
            return subprocess.Popen(
                command,
                cwd=folder or self.root,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def answers(address: str, process: subprocess.Popen) -> bool:
    """Wait until an address answers; tell whether it did before its server ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return True
        except OSError:
            time.sleep(0.3)
    return False


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def free_port() -> int:
    """Return a free port below those that the system hands out by itself: servers that look for
    free ones of their own would take it otherwise."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            port = random.randint(20_000, 30_000)
            probe.bind(("127.0.0.1", port))
            return port


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
        # A small network for a moment is not what the shipped gates ask for.
        (root / "configs" / "gates.yaml").write_text(yaml.safe_dump({"no_leaks": True}))
        checkout.configure(
            steps=500, input={"height": 64, "width": 64}, architecture={"widths": [8, 16, 32]}
        )
        return checkout

    return copy


@pytest.fixture(scope="session")
def demo(copy_checkout: Callable[[], Checkout]) -> Checkout:
    checkout = copy_checkout()
    (checkout.root / "demo.txt").write_text(checkout.cli("demo").stdout)
    return checkout


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page in Chromium."""
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()
