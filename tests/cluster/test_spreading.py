"""On a cluster a function gives what it gives here, in the same order, whoever dies meanwhile."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defect_assets.cluster.likeness import OtherCode
from defect_assets.cluster.spreading import OnRay
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.ingest import ingest
from defect_assets.spreading import in_threads, one_by_one
from defect_assets.store import Store
from defect_assets.store.digest import Corrupted
from defect_assets.store.verify import verify
from tests.conftest import deliver
from tests.servers.ray import RayCluster
from tests.small import damage

pytestmark = pytest.mark.slow


def square(number: int) -> int:
    return number * number


def whose(_: int) -> int:
    return os.getppid()


def variable(name: str) -> str | None:
    return os.environ.get(name)


def dies_once(item: tuple[Path, int]) -> int:
    mark, number = item
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def is_damaged(key: str) -> str:
    raise Corrupted(key)


@given(st.lists(st.integers(-1000, 1000), max_size=40))
@settings(max_examples=5)
def test_here_the_results_have_the_order_of_the_items(numbers: list[int]) -> None:
    expected = [number * number for number in numbers]
    assert list(in_threads(square, numbers)) == expected
    assert list(one_by_one(square, iter(numbers))) == expected


@pytest.mark.usefixtures("cluster")
def test_on_the_cluster_the_results_have_the_order_of_the_items() -> None:
    for count in (0, 1, 40):
        assert list(OnRay()(square, iter(range(count)))) == [n * n for n in range(count)]


@pytest.mark.usefixtures("cluster")
def test_both_nodes_work_and_are_told_the_variables() -> None:
    assert len(set(OnRay()(whose, range(40)))) == 2
    assert list(OnRay({"BUCKET_KEY": "x"})(variable, ["BUCKET_KEY"])) == ["x"]


@pytest.mark.usefixtures("cluster")
def test_only_a_few_items_are_taken_ahead() -> None:
    taken = []
    results = OnRay()(square, (taken.append(n) or n for n in range(1000)))
    assert next(results) == 0
    assert len(taken) < 10
    results.close()


@pytest.mark.usefixtures("cluster")
def test_what_a_dead_worker_had_is_given_to_another(tmp_path: Path) -> None:
    items = [(tmp_path / "died", number) for number in range(8)]
    assert list(OnRay()(dies_once, items)) == list(range(8))
    assert (tmp_path / "died").exists()


@pytest.mark.usefixtures("cluster")
def test_an_error_is_the_same_as_here() -> None:
    with pytest.raises(Corrupted, match="objects/ab does not have its digest") as here:
        list(one_by_one(is_damaged, ["objects/ab"]))
    with pytest.raises(Corrupted) as there:
        list(OnRay()(is_damaged, ["objects/ab"]))
    assert str(there.value) == str(here.value)


def test_a_delivery_is_the_same_batch_and_damage_is_found(
    cluster: RayCluster, store: Store, tmp_path: Path, description: DatasetDescription
) -> None:
    folder = deliver(tmp_path / "inbox", "first", 1, 6)
    here = ingest(store, folder, description)
    there = ingest(store, folder, description, spread=OnRay())
    assert there == here
    assert verify(store, spread=OnRay()) == verify(store)
    [pack] = [
        path
        for path in (tmp_path / "store").rglob("*")
        if path.is_file() and path.stat().st_size > 50_000
    ]
    damage(pack, 100)
    found = verify(store, spread=OnRay())
    assert len(found.damages) == 1
    assert found == verify(store)


@pytest.mark.usefixtures("cluster")
def test_a_node_with_other_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defect_assets.cluster.spreading.likeness", lambda: "another commit")
    with pytest.raises(OtherCode, match="bring all nodes to one commit"):
        list(OnRay()(square, [1]))
