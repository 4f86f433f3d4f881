"""Many deliveries are taken in by several processes, and Dagster knows each of them."""

import dagster as dg
import pytest
from dagster import reconstructable

from defect_assets.home import Home
from defect_assets.store.verify import verify
from definitions import defs
from tests.small import contents, deliver, home_of, ingest, picture, plain


def in_parallel() -> dg.JobDefinition:
    return defs.resolve_job_def("batches_in_parallel")


def test_they_come_to_the_same_as_one_after_the_other(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = home_of(home.root / "small")
    small.prepare()
    names = [f"batch-{number}" for number in range(6)]
    for number, name in enumerate(names):
        plain(small, name, range(10 * number, 10 * number + 8))
    deliver(small, "bad", {"s999": b"rubbish"}, {"s998": picture(1)})
    monkeypatch.setenv("DEFECT_HOME", str(small.root))
    with dg.DagsterInstance.from_config(str(small.dagster)) as instance:
        result = dg.execute_job(
            reconstructable(in_parallel),
            instance=instance,
            run_config={"ops": {"portions": {"config": {"processes": 2, "last": "batch-4"}}}},
        )
        assert not result.success  # since one is refused, of which the others know nothing
        [failed] = [e for e in result.all_events if e.is_step_failure]
        assert "the delivery bad is refused whole" in str(failed.step_failure_data)
        assert set(instance.get_dynamic_partitions("batch")) == set(names[:-1])
        key = dg.AssetKey("raw_images")
        assert instance.get_materialized_partitions(key) == set(names[:-1])
    store = small.store()
    assert verify(store).damages == ()
    other = home_of(home.root / "other")
    for number, name in enumerate(names[:-1]):
        plain(other, name, range(10 * number, 10 * number + 8))
        ingest(other, other.store(), name)
    alone = contents(other.store())
    assert {n: c for n, c in contents(store).items() if n.startswith("batches/")} == {
        n: c for n, c in alone.items() if n.startswith("batches/")
    }
