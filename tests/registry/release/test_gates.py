"""Each gate, passed and failed, on experiments of which it is known how good they are."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from defect_assets.dataset.split import read_split
from defect_assets.home import CONFIGS
from defect_assets.registry.release.gates import GateResult, Gates
from defect_assets.registry.release.releasing import GatesFailed, propose
from defect_assets.settings import SettingsError, read_settings
from defect_assets.store import Record, Store
from tests.checkouts import git
from tests.experiments import LENIENT, Made, publish_experiment, write_gates


def judged(store: Store, project: Path, made: Made, **gates: Any) -> dict[str, GateResult]:
    """Return how a model does at some gates, by the name of the gate."""
    publish_experiment(store, made)
    write_gates(project, **gates)
    results = propose(store, project, made.dataset, made.config).results
    assert len({result.gate for result in results}) == len(results)
    for result in results:
        assert result.why
        assert bool(result.mend) != result.passed
    return {result.gate: result for result in results}


GOOD = Made(found=1)
POOR = Made(missed={"Crack": 1, "Hole": 0.5, "Free": 0.5}, p95_ms=80)


@pytest.mark.parametrize(
    ("gates", "gate"),
    [
        ({"floors": {"dice": 0.9}}, "Dice"),
        ({"floors": {"macro_dice": 0.9}}, "macro Dice"),
        ({"floors": {"worst_class_dice": 0.9}}, "Dice of the worst class, Crack"),
        ({"floors": {"region_recall": 0.9}}, "region recall"),
        ({"floors": {"image_auroc": 0.9}}, "image AUROC"),
        ({"class_dice": {"Hole": 0.9}}, "Dice of Hole"),
        ({"ceilings": {"false_alarms": 0.1}}, "false alarms"),
        ({"ceilings": {"escapes": 0.1}}, "escapes"),
        ({"latency_p95_ms": 50}, "latency"),
    ],
)
def test_a_good_model_passes_and_a_poor_one_fails(
    store: Store, project: Path, dataset: str, gates: dict[str, Any], gate: str
) -> None:
    good = judged(store, project, GOOD, **gates)
    assert all(result.passed for result in good.values())
    assert len(good) == 2
    poor = judged(store, project, POOR, **gates)
    assert [name for name, result in poor.items() if not result.passed] == [gate]
    [required] = yaml.safe_load(yaml.safe_dump(list(gates.values())))
    asked = next(iter(required.values())) if isinstance(required, dict) else required
    assert poor[gate].required == asked
    assert isinstance(poor[gate].measured, float)
    assert poor[gate].waivable


def test_what_is_just_as_good_as_asked_for_passes(
    store: Store, project: Path, dataset: str
) -> None:
    half = Made(missed={"Crack": 0.5, "Hole": 0.5, "Free": 0.5})
    results = judged(store, project, half, ceilings={"escapes": 0.5, "false_alarms": 0.5})
    assert all(result.passed for result in results.values())
    assert results["escapes"].measured == 0.5


def test_what_was_not_measured_does_not_pass(store: Store, project: Path, dataset: str) -> None:
    results = judged(store, project, Made(p95_ms=None), latency_p95_ms=50, class_dice={"Dent": 0.1})
    assert "it was not measured" in results["latency"].why
    assert "evaluate the model again" in results["latency"].mend
    assert not results["latency"].passed
    assert not results["Dice of Dent"].passed
    assert results["Dice of Dent"].measured is None


def test_a_part_in_two_places_does_not_pass(store: Store, project: Path, dataset: str) -> None:
    split = read_split(store, store.content(f"splits/{dataset}") or "")
    rows = store.objects.get_table(split.rows)
    parts = pa.array(["train", "test"] * (len(rows) // 2))
    at = rows.column_names.index("part")
    torn = split.model_copy(
        update={"rows": store.objects.put_table(rows.set_column(at, "part", parts))}
    )
    content = store.objects.put_json(torn.model_dump(mode="json"))
    store.publish(f"splits/{dataset}", Record(asset="dataset_split", content=content))
    assert not judged(store, project, GOOD, no_leaks=True)["no leaks"].passed
    assert "the group part-0 is in several parts" in str(
        judged(store, project, GOOD, no_leaks=True)["no leaks"]
    )
    assert "no leaks" not in judged(store, project, GOOD)


def test_what_is_not_pinned_never_passes(store: Store, project: Path, dataset: str) -> None:
    results = judged(store, project, Made(unpinned=("not committed: a.py",)))
    pinned = results["provenance pinned"]
    assert not pinned.passed
    assert not pinned.waivable
    assert "trained unpinned, which is never released (not committed: a.py)" in pinned.why
    assert "it trains anew" in pinned.mend
    proposal = propose(store, project, dataset, "C-01")
    with pytest.raises(GatesFailed, match="Nobody can override: provenance pinned"):
        proposal.admit("the line waits for it", project)


def test_a_model_of_unknown_origin_never_passes(store: Store, project: Path, dataset: str) -> None:
    publish_experiment(store, GOOD)
    name = f"experiments/{dataset}/C-01"
    model = store.record(name)
    assert model is not None
    parents = {k: v for k, v in model.parents.items() if k != "python_environment"}
    store.publish(name, model.model_copy(update={"parents": parents}))
    [failed] = propose(store, project, dataset, "C-01").failed
    assert failed.why == "the model's record does not say which python_environment made it"
    assert not failed.waivable


def test_gates_count_once_they_are_committed(store: Store, project: Path, dataset: str) -> None:
    publish_experiment(store, GOOD)
    path = project / "configs" / "gates.yaml"
    path.write_text(yaml.safe_dump(LENIENT | {"floors": {"dice": 0.0}}))
    [pinned] = [r for r in propose(store, project, dataset, "C-01").results if not r.passed]
    assert "configs/gates.yaml is not committed as it is" in pinned.why
    assert pinned.mend == "git add configs/gates.yaml && git commit"
    assert not pinned.waivable
    git(project, "commit", "--quiet", "--all", "--message", "gates")
    assert not propose(store, project, dataset, "C-01").failed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("floors: {dice: 1.5}", "floors.dice"),
        ("flors: {dice: 0.5}", "flors"),
        ("latency_p95_ms: 0", "latency_p95_ms"),
    ],
)
def test_a_faulty_file_is_refused_by_its_key(
    store: Store, project: Path, dataset: str, text: str, says: str
) -> None:
    publish_experiment(store, GOOD)
    (project / "configs" / "gates.yaml").write_text(text)
    with pytest.raises(SettingsError, match=says):
        propose(store, project, dataset, "C-01")


def test_without_gates_nothing_is_released(store: Store, project: Path, dataset: str) -> None:
    publish_experiment(store, GOOD)
    (project / "configs" / "gates.yaml").unlink()
    with pytest.raises(SettingsError, match=r"gates\.yaml: No such file"):
        propose(store, project, dataset, "C-01")


def test_the_shipped_gates_pass_a_good_model_and_refuse_a_poor_one(
    store: Store, project: Path, dataset: str
) -> None:
    shipped = read_settings(CONFIGS / "gates.yaml", Gates)
    values = shipped.model_dump(mode="json", exclude_defaults=True)
    assert all(result.passed for result in judged(store, project, GOOD, **values).values())
    poor = judged(store, project, POOR, **values)
    assert sum(not result.passed for result in poor.values()) >= 5
