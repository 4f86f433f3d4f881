"""Whether work goes to a cluster is said by one variable; what is missing is said in a sentence."""

import signal
import subprocess
import sys

import pytest

from defect_assets.cluster.connection import NoCluster, connect, on_ray
from tests.end_to_end.conftest import free_port
from tests.servers.ray import RayCluster


def test_one_machine_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "local"):
        monkeypatch.setenv("DEFECT_DEPLOY", value)
        assert not on_ray()
    monkeypatch.delenv("DEFECT_DEPLOY")
    assert not on_ray()


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFECT_DEPLOY", "Ray")
    with pytest.raises(NoCluster, match="DEFECT_DEPLOY is 'Ray': it is local or ray"):
        on_ray()


def test_a_cluster_that_is_not_there_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(NoCluster, match="start one with ray start --head, or name another"):
        connect()


@pytest.mark.slow
def test_what_a_process_does_when_it_is_terminated_stays(
    cluster: RayCluster,
) -> None:
    """Dagster notes that a run was cancelled; Ray's answer would be to end at once."""
    before = signal.getsignal(signal.SIGTERM)
    connect()
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_asks_for_no_cluster_imports_no_ray() -> None:
    asked = (
        "import sys, definitions; sys.exit('ray' in sys.modules or 'dagster_ray' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", asked], check=True)
