"""What repro does and leaves be, with a real Dagster instance; as far as nothing is trained."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time
from typer.testing import CliRunner, Result

from defect_assets.automation.materializing import Materializer
from defect_assets.automation.road import Road
from defect_assets.automation.scope import UnknownAsset, scope_of
from defect_assets.automation.telling import tell
from defect_assets.cli import app
from defect_assets.home import Home
from defect_assets.registry import environment
from defect_assets.registry.freshness import Verdict
from defect_assets.registry.installed import installed
from defect_assets.registry.stages import STAGES, Axis
from definitions import defs
from tests.experiments import new_home
from tests.small import cut, ingest, plain
from tests.staleness import why_stale

Repro = Callable[..., Result]
SPLIT = scope_of(["dataset_split"], force=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with a delivery of thirty tiny images."""
    home = new_home(tmp_path / "home")
    home.prepare()
    plain(home, "first", range(30))
    monkeypatch.setenv("DEFECT_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("DEFECT_STORE", raising=False)
    return home


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        yield instance


@pytest.fixture
def repro(home: Home) -> Repro:
    def repro(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["repro", *arguments])
        assert result.exit_code == code, result.output
        return result

    return repro


class Silent:
    """Says nothing of what happens on the road."""

    def start(self, asset: str, partition: str | None, why: str) -> None: ...

    def say(self, message: str) -> None: ...

    def done(self, asset: str, partition: str | None, seconds: float) -> None: ...


def walk(home: Home, instance: dg.DagsterInstance) -> Road:
    """Bring the split up to date, as the command does."""
    tell(instance, home)
    road = Road(home, Materializer(defs, instance, Silent()), scope=SPLIT)
    road.repro(["C-01"])
    tell(instance, home)
    return road


def made(result: Result) -> list[str]:
    return [line.split()[1] for line in result.output.splitlines() if line.startswith("✓")]


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def stale_in_dagster(instance: dg.DagsterInstance, road: Road) -> list[str]:
    return [v.stage for v in road.seen if why_stale(instance, defs, v.stage, v.partition)]


def another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def newer(names: Any) -> dict[str, Any]:
        found = installed(names)
        return found | {"torch": "99.0", "packages": found["packages"] | {"numpy": "99.1"}}

    monkeypatch.setattr(environment, "installed", newer)


def test_a_second_time_nothing_is_computed_and_dagster_does_not_start(repro: Repro) -> None:
    first = repro("dataset_split")
    assert made(first) == [
        "python_environment",
        "raw_images",
        "dataset_manifest",
        "dataset_split",
    ]
    assert "raw_images first (batch first is new: 30 images)" in first.output
    script = (
        "import sys\n"
        "sys.argv = ['defect-assets', 'repro', 'dataset_split']\n"
        "from defect_assets.cli import app\n"
        "try: app()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'dagster', 'torch', 'pandas', 'pyarrow'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", script]
    second = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "All is up to date" in second.stdout


def test_what_was_settled_is_looked_at_again_when_anything_changes(
    home: Home, repro: Repro
) -> None:
    repro("dataset_split")
    plain(home, "second", range(30, 40))
    assert made(repro("dataset_split")) == ["raw_images", "dataset_manifest", "dataset_split"]
    (home.root / "store" / "refs" / "splits" / "DS-1.1.0").unlink()
    assert made(repro("dataset_split")) == ["dataset_split"]
    assert made(repro("python_environment")) == []


def test_a_dry_run_says_what_would_run_and_writes_nothing(home: Home, repro: Repro) -> None:
    before = tree(home.root)
    said = repro("--dry-run").output
    assert "→ raw_images first (batch first is new: 30 images)" in said
    assert "→ dataset_manifest the next version (batch first is new)" in said
    assert "→ trained_model the next version × C-01 (not there yet)" in said
    assert "? defect_bento (perhaps: if the evaluation changes, and passes the gates)" in said
    assert tree(home.root) == before

    repro("dataset_split")
    before = tree(home.root)
    said = repro("dataset_split", "--dry-run", "--explain").output
    assert "nothing would be computed" in said
    assert "✓ dataset_split DS-1.0.0 (same code, same dataset_manifest" in said
    plain(home, "second", range(30, 40))
    before = tree(home.root)
    steps = json.loads(repro("dataset_split", "--dry-run", "--json").stdout)["steps"]
    assert [(s["asset"], s["partition"]) for s in steps if s["state"] != "fresh"] == [
        ("raw_images", "second"),
        ("dataset_manifest", "the next version"),
        ("dataset_split", "the next version"),
    ]
    assert tree(home.root) == before


def test_without_anything_to_go_on_one_is_told_so(home: Home, repro: Repro) -> None:
    shutil.rmtree(home.inbox / "first")
    for arguments in (["--dry-run"], []):
        assert "there is nothing to go on" in repro(*arguments, code=1).output


def test_what_may_come_out_the_same_makes_what_follows_perhaps_stale(
    home: Home, repro: Repro
) -> None:
    repro("dataset_split")
    store = home.store()
    record = store.record("splits/DS-1.0.0")
    assert record is not None
    store.publish("splits/DS-1.0.0", record.model_copy(update={"code_version": "older"}))
    repro("training_config")
    model = {
        "asset": "trained_model",
        "code_version": STAGES["trained_model"].code_version,
        "parents": {
            "dataset_split": record.content,
            "training_config": store.content("configs/C-01"),
            "python_environment": store.content("environment"),
        },
    }
    store.publish("experiments/DS-1.0.0/C-01", record.model_copy(update=model))
    said = repro("trained_model", "--dry-run").output
    assert "→ dataset_split DS-1.0.0 (code of dataset_split changed" in said
    assert "? trained_model DS-1.0.0 × C-01 (perhaps: if the content of dataset_split ch" in said


def test_what_is_forced_is_made_anew_and_no_more(repro: Repro) -> None:
    repro("dataset_split")
    assert made(repro("dataset_split", "--force")) == ["dataset_split"]
    again = made(repro("dataset_split", "--force", "--upstream"))
    assert again == ["python_environment", "dataset_split"]
    assert made(repro("dataset_split")) == []


def test_the_scope_of_an_asset_is_what_it_needs() -> None:
    model = scope_of(["trained_model"], force=True)
    assert "dataset_split" in model.covered
    assert not {"evaluation_report", "model_release"} & model.covered
    assert model.forced == {"trained_model"}
    down = scope_of(["trained_model"], downstream=True, force=True)
    assert down.forced == {"trained_model", "evaluation_report", "model_release", "defect_bento"}
    assert "cross_validation" not in scope_of([], force=False).covered
    assert "cross_validation" in scope_of(["cross_validation"], force=False).covered
    predictions = scope_of(["production_predictions"], force=False).covered
    assert {"dataset_manifest", "production_predictions"} <= predictions
    assert not {"trained_model", "model_release"} & predictions
    with pytest.raises(UnknownAsset, match="there is no asset model; there are: python_env"):
        scope_of(["model"], force=False)


def test_what_was_interrupted_goes_on(repro: Repro, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Materializer.make

    def interrupted(self: Materializer, verdict: Verdict, run_config: dict[str, Any]) -> bool:
        if verdict.stage == "dataset_split":
            raise KeyboardInterrupt
        return make(self, verdict, run_config)

    with monkeypatch.context() as patched:
        patched.setattr(Materializer, "make", interrupted)
        assert "run the same command again" in repro("dataset_split", code=1).output
    assert made(repro("dataset_split")) == ["dataset_split"]


def test_a_refused_delivery_is_reported_and_the_others_are_taken_in(
    home: Home, repro: Repro
) -> None:
    plain(home, "bad", range(40, 42))
    (home.inbox / "bad" / "images" / "s040.png").write_bytes(b"rubbish")
    result = repro("dataset_split", code=1)
    assert "the delivery bad is refused whole" in result.output
    assert home.store().content("batches/first")


def test_what_commands_made_dagster_is_told_without_a_run(
    home: Home, instance: dg.DagsterInstance
) -> None:
    store = home.store()
    ingest(home, store, "first")
    cut(home, store)
    road = walk(home, instance)
    assert [v.stage for v in road.stale] == ["python_environment", "dataset_split"]
    assert instance.get_runs_count() == 2
    assert stale_in_dagster(instance, road) == []
    assert tell(instance, home) == 0


def test_dagster_agrees_with_the_store(
    home: Home,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    road = walk(home, instance)
    assert [v.stage for v in road.stale] == [
        "python_environment",
        "raw_images",
        "dataset_manifest",
        "dataset_split",
    ]
    assert stale_in_dagster(instance, road) == []
    again = walk(home, instance)
    assert again.stale == []

    # Another environment: all that computes is stale, once.
    another_environment(monkeypatch)
    anew = walk(home, instance)
    assert [v.stage for v in anew.stale] == ["python_environment", "dataset_split"]
    changed = "environment changed: numpy "
    assert all(str(v).startswith(changed) and "99.1, torch " in str(v) for v in anew.stale)
    assert stale_in_dagster(instance, anew) == []
    assert walk(home, instance).stale == []

    # Older code: both say so, and both are content afterwards.
    store = home.store()
    record = store.record("splits/DS-1.0.0")
    assert record is not None
    store.publish("splits/DS-1.0.0", record.model_copy(update={"code_version": "older"}))
    tell(instance, home)
    assert stale_in_dagster(instance, anew) == ["dataset_split"]
    assert [v.stage for v in walk(home, instance).stale] == ["dataset_split"]
    assert stale_in_dagster(instance, anew) == []

    # Another Dagster, as beside a clone of the store: it is told, and nothing is computed.
    other = tmp_path / "other"
    other.mkdir()
    (home.dagster / "told.json").unlink()
    with dg.DagsterInstance.local_temp(str(other)) as elsewhere:
        road = walk(home, elsewhere)
        assert road.stale == []
        assert elsewhere.get_runs_count() == 0
        assert stale_in_dagster(elsewhere, road) == []


def test_a_clock_that_was_set_back_changes_no_decision(
    home: Home, instance: dg.DagsterInstance
) -> None:
    later = datetime.now(UTC) + timedelta(days=300)
    with freeze_time(later):
        walk(home, instance)
    store = home.store()
    for name in ("environment", "splits/DS-1.0.0"):
        record = store.record(name)
        assert record is not None
        store.publish(name, record.model_copy(update={"created_at": later}))
    assert walk(home, instance).stale == []
    (home.root / "store" / "refs" / "splits" / "DS-1.0.0").unlink()
    road = walk(home, instance)
    assert [v.stage for v in road.stale] == ["dataset_split"]
    assert stale_in_dagster(instance, road) == []


def test_the_stages_are_those_of_the_definitions() -> None:
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == set(STAGES)
    for stage in STAGES.values():
        node = graph.get(dg.AssetKey(stage.name))
        assert {key.to_user_string() for key in node.parent_keys} == set(stage.upstream)
        assert node.code_version == stage.code_version
        assert node.is_partitioned == (stage.axis is not Axis.NONE)


def test_a_stage_knows_its_names() -> None:
    model = STAGES["trained_model"]
    assert model.ref("C-01|DS-1.0.0") == "experiments/DS-1.0.0/C-01"
    for stage in STAGES.values():
        partition = {Axis.NONE: None, Axis.EXPERIMENT: "C-01|DS-1.0.0"}.get(stage.axis, "x")
        assert stage.partition(stage.ref(partition)) == partition
