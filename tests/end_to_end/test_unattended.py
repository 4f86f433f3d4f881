"""The platform alone: real daemon, real webserver, sensors on, and deliveries that just arrive."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
import yaml

from defect_assets.dataset.delivery import write_delivery
from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.home import Home, known_description
from defect_assets.inbox import REASONS
from tests.checkouts import commit_all
from tests.end_to_end.conftest import Checkout, free_port
from tests.servers.webhook import Receiver, webhook
from tests.servers.webserver import Webserver

pytestmark = pytest.mark.slow

POLICY = {
    "cut": {"batches": 2, "images": 10_000},
    "train": {"configs": [{"config": "C-01"}]},
    "release": {"channel": "staging"},
}
ROAD = {
    "python_environment": 1,
    "raw_images": 2,
    "dataset_manifest": 1,
    "dataset_split": 1,
    "training_config": 1,
    "trained_model": 1,
    "evaluation_report": 1,
    "model_release": 1,
    "defect_bento": 1,
}
"""How often each asset is materialized, for two deliveries that make one snapshot."""

_SENSORS = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
    name location { name } sensors { name } } } } }"""
_START = """mutation($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) {
    __typename ... on PythonError { message } } }"""


class Platform(Webserver):
    """Daemon and webserver on a home, over the addresses that people and scripts use."""

    def __init__(self, url: str, home: Home) -> None:
        super().__init__(url)
        self.home = home

    def switch_everything_on(self) -> list[str]:
        [repository] = self.ask(_SENSORS)["repositoriesOrError"]["nodes"]
        for sensor in repository["sensors"]:
            selector = {
                "repositoryName": repository["name"],
                "repositoryLocationName": repository["location"]["name"],
                "sensorName": sensor["name"],
            }
            answer = self.ask(_START, sensor=selector)["startSensor"]
            assert answer["__typename"] == "Sensor", answer
        return [sensor["name"] for sensor in repository["sensors"]]

    def materialized(self) -> dict[str, int]:
        with dg.DagsterInstance.from_config(str(self.home.dagster)) as instance:
            return {
                asset: len(instance.fetch_materializations(dg.AssetKey(asset), limit=100).records)
                for asset in ROAD
            }

    def wait_for(self, name: str, minutes: float) -> None:
        """Wait until a name stands in the store."""
        deadline = time.monotonic() + minutes * 60
        while self.home.store().refs.get(name) is None:
            assert time.monotonic() < deadline, f"{name} did not come: {self.materialized()}"
            time.sleep(2)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with webhook() as server:
        monkeypatch.setenv("DEFECT_WEBHOOK", server.url)
        yield server


@contextmanager
def running(checkout: Checkout) -> Iterator[Platform]:
    port = free_port()
    command = [sys.executable, "-m", "defect_assets", "dev", "--port", str(port)]
    with checkout.background(command, f"http://127.0.0.1:{port}/server_info"):
        yield Platform(f"http://127.0.0.1:{port}", Home(checkout.home))


def deliver(inbox: Path, outside: Path, name: str, first: int, tiles: int, bad: int = 0) -> None:
    """Let a delivery appear in an inbox at once, some of its images no images."""
    folder = write_delivery(outside, name, synthetic_samples(0, first, tiles), name)
    for image in sorted((folder / "images").iterdir())[:bad]:
        image.write_bytes(b"rubbish")
    inbox.mkdir(parents=True, exist_ok=True)
    folder.rename(inbox / name)


def test_deliveries_become_a_staged_release_and_a_bad_one_is_refused(
    copy_checkout: Callable[[], Checkout], receiver: Receiver, tmp_path: Path
) -> None:
    checkout = copy_checkout()
    (checkout.root / "configs" / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    commit_all(checkout.root)
    with running(checkout) as platform:
        home = platform.home
        home.hold(known_description("synthetic-tiles"))
        assert "new_images" in platform.switch_everything_on()
        deliver(home.inbox, tmp_path, "bad", 900, 3, bad=2)
        deliver(home.inbox, tmp_path, "week-45", 1, 90)
        deliver(home.inbox, tmp_path, "week-46", 91, 60)
        platform.wait_for("channels/staging", minutes=12)

        store = home.store()
        assert store.content("channels/staging") == store.content("releases/v0.1.0")
        [move] = json.loads(checkout.cli("channels", "staging", "--json").stdout)
        assert (move["by"], move["release"]) == ("policy", "v0.1.0")
        assert "C-01 passed its gates" in move["why"]

        reasons = json.loads((home.rejected / "bad" / REASONS).read_text())
        assert len(reasons) == 2
        assert store.refs.get("batches/bad") is None
        # One message, of the one thing that failed.
        assert [(m["asset"], m["partition"]) for m in receiver.messages] == [("raw_images", "bad")]

        # Nothing changed, so nothing is computed, however often the sensors look.
        assert platform.materialized() == ROAD
        time.sleep(60)
        assert platform.materialized() == ROAD
