"""The compose file is sound, and what it starts works together: here as processes."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from defect_assets.home import CONFIGS
from defect_assets.store import S3Access, open_store
from tests.conftest import PROJECT
from tests.end_to_end.conftest import free_port
from tests.servers.postgres import postgres_server
from tests.servers.s3 import Unavailable, moto_server
from tests.servers.webserver import Webserver

FOLDER = CONFIGS / "deploy" / "compose"
SECRETS = {
    "POSTGRES_PASSWORD": "of-postgres",
    "S3_ACCESS_KEY": "moto-access",
    "S3_SECRET_KEY": "moto-secret",
    "RAY_AUTH_TOKEN": "only-for-this-test",
    "RAY_WORKER_CPUS": "1",
}


def composed(**variables: str) -> dict[str, Any]:
    """Read the file as compose does: variables first, then what is merged."""

    def value(found: re.Match[str]) -> str:
        name, default, needed = found["name"], found["default"], found["needed"]
        if variables.get(name):
            return variables[name]
        assert needed is None, f"{name}: {needed}"
        return default or ""

    variable = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?(?P<needed>[^}]*))?\}")
    text = variable.sub(value, (FOLDER / "compose.yaml").read_text())
    return dict(yaml.safe_load(text))


def test_compose_understands_it() -> None:
    compose_spec = pytest.importorskip("compose_spec")
    merged = {k: v for k, v in composed(**SECRETS).items() if not k.startswith("x-")}
    spec = compose_spec.PyCompose.from_yaml(yaml.safe_dump(merged))
    spec.validate()
    assert set(spec.service_names()) == set(merged["services"])
    merged["services"]["daemon"]["helthcheck"] = {}
    with pytest.raises(Exception, match="helthcheck"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(merged))


def test_whoever_starts_it_chooses_the_secrets() -> None:
    example = dict(
        line.split("=", 1)
        for line in (FOLDER / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    secret = {name for name in example if re.search("PASSWORD|SECRET|TOKEN", name)}
    assert secret
    for name in secret:
        assert example[name] == ""
        with pytest.raises(AssertionError, match=f"{name}: see .env.example"):
            composed(**{**SECRETS, name: ""})


def test_what_a_service_waits_for_can_be_told() -> None:
    services = composed(**SECRETS)["services"]
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[name]


def test_nobody_from_outside_comes_in_unless_asked() -> None:
    for service in composed(**SECRETS)["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@dataclass
class Composition:
    """The services as processes: their commands, variables and health checks, not their images."""

    services: dict[str, Any]
    places: dict[str, str]
    """What stands in place of a service's name, port or folder on this machine."""
    folder: Path
    sockets: Path
    """A folder with a short name."""
    access: S3Access
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def start(self, name: str, *more: str) -> None:
        """Start a service, and wait until it is healthy, or has ended if it is to end."""
        service = self.services[name]
        command = [self.here(part) for part in service["command"]] + list(more)
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=self.environment(name),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        if check := service.get("healthcheck"):
            deadline = time.monotonic() + 150
            while not self.healthy(name, check["test"]):
                assert process.poll() is None, self.log(name)
                assert time.monotonic() < deadline, self.log(name)
                time.sleep(1)
        elif service["restart"] == "on-failure":
            assert process.wait(120) == 0, self.log(name)

    def healthy(self, name: str, test: list[str]) -> bool:
        kind, *command = map(self.here, test)
        assert kind == "CMD"
        return not subprocess.run(
            command, cwd=PROJECT, env=self.environment(name), capture_output=True, check=False
        ).returncode

    def environment(self, name: str) -> dict[str, str]:
        """Return a service's variables; of this machine's only the path."""
        own = {key: self.here(value) for key, value in self.services[name]["environment"].items()}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        machine = {"PATH": path, "PYTHONPATH": str(PROJECT), "HOME": str(self.folder)}
        return machine | {"OMP_NUM_THREADS": "1"} | own

    def here(self, text: str) -> str:
        for there, here in self.places.items():
            text = text.replace(there, here)
        return text

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-3000:]

    def stop(self, name: str) -> None:
        """Stop a service, and all that it started."""
        process = self.processes.pop(name)
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(process.pid)
            family = [root, *root.children(recursive=True)]
            root.terminate()
            for member in psutil.wait_procs(family, 15)[1]:
                member.kill()
        process.wait(30)

    def stop_all(self) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)


@pytest.fixture
def composition(tmp_path: Path) -> Iterator[Composition]:
    with ExitStack() as stack:
        try:
            database = stack.enter_context(postgres_server())
        except Unavailable as error:
            pytest.skip(str(error))
        s3 = stack.enter_context(moto_server())
        ports = {name: str(free_port()) for name in ("ray", "board", "code", "web")}
        workspace = tmp_path / "workspace.yaml"
        places = {
            "/var/lib/defect-assets": str(tmp_path / "home"),
            "//dagster:of-postgres@postgres:5432/dagster": database.removeprefix("postgresql:"),
            "http://s3:7070": s3.endpoint,
            "ray-head": "127.0.0.1",
            "6379": ports["ray"],
            "8265": ports["board"],
            "4000": ports["code"],
            "3000": ports["web"],
            "0.0.0.0": "127.0.0.1",
            "configs/deploy/compose/workspace.yaml": str(workspace),
        }
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp"))
        services = composed(**SECRETS)["services"]
        composition = Composition(services, places, tmp_path, Path(sockets), s3.access())
        text = (FOLDER / "workspace.yaml").read_text()
        workspace.write_text(composition.here(text.replace("host: code", "host: 127.0.0.1")))
        stack.callback(composition.stop_all)
        yield composition


def deliver(composition: Composition, name: str, first: int) -> None:
    command = [sys.executable, "-m", "defect_assets", "import", "synthetic", "--tiles", "2"]
    subprocess.run(
        [*command, "--name", name, "--first", str(first)],
        env=composition.environment("code"),
        check=True,
        capture_output=True,
    )


@pytest.mark.slow
def test_what_it_starts_takes_deliveries_in(composition: Composition) -> None:
    pytest.importorskip("ray")
    composition.start("prepare")
    start_ray(composition)
    for name in ("code", "webserver", "daemon"):
        composition.start(name)
    webserver = Webserver(composition.here("http://127.0.0.1:3000"))
    deliver(composition, "before", 1)
    run = webserver.launch("batches_in_parallel")
    assert webserver.end(run, 300) == "SUCCESS", webserver.said(run)
    assert "Ray job" in webserver.said(run)

    # A machine that stops, and comes back: what is asked for meanwhile waits.
    composition.stop("ray-worker")
    composition.stop("ray-head")
    deliver(composition, "after", 11)
    run = webserver.launch("batches_in_parallel")
    webserver.hear(run, "Ray cannot be reached")
    start_ray(composition)
    assert webserver.end(run, 300) == "SUCCESS", webserver.said(run)
    store = open_store(composition.environment("code")["DEFECT_STORE"], composition.access)
    assert store.content("batches/before")
    assert store.content("batches/after")


def start_ray(composition: Composition) -> None:
    """Start head and worker, beside other clusters of this machine."""
    agent = "--dashboard-agent-listen-port"
    alone = (
        f"--temp-dir={composition.sockets}",
        f"--dashboard-port={composition.here('8265')}",
        f"--ray-client-server-port={free_port()}",
    )
    composition.start("ray-head", *alone, f"{agent}={free_port()}")
    composition.start("ray-worker", f"{agent}={free_port()}")
