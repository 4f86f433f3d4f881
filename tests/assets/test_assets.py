"""The assets in a real Dagster instance, on a small synthetic line and a small network."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from defect_assets.assets import clearance, environment, experiment, release
from defect_assets.automation import road
from defect_assets.automation.materializing import Materializer
from defect_assets.automation.road import Blocked, Road
from defect_assets.dataset.split import read_split
from defect_assets.dataset.version import Bump
from defect_assets.evaluation.crossvalidation import read_crossvalidation
from defect_assets.evaluation.leak_audit import LeakAudit
from defect_assets.evaluation.metrics import summarize
from defect_assets.evaluation.report import Report
from defect_assets.evaluation.trial import TrialResult
from defect_assets.home import Home
from defect_assets.partitions import experiment_key
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.release.releasing import GatesFailed
from defect_assets.registry.stages import published_as
from defect_assets.store import Store
from defect_assets.store.leases import signature
from defect_assets.store.reservations import reserve
from defect_assets.training import trials
from defect_assets.training.trials import Trial, run_trial
from definitions import defs
from tests.checkouts import commit_all
from tests.conftest import PROJECT, deliver
from tests.staleness import why_stale

CONFIG = {
    "notes": "for tests",
    "architecture": {"widths": [8, 16, 16]},
    "input": {"height": 64, "width": 64},
    "steps": 30,
    "sampling": {"batch_size": 4},
}

EXPERIMENT = experiment_key("DS-1.0.0", "C-01")


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        yield instance


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configurations of a checkout of their own, committed: what preflight looks at."""
    project = tmp_path / "checkout"
    folder = project / "configs"
    folder.mkdir(parents=True)
    (folder / "C-01.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "gates.yaml").write_text(yaml.safe_dump({"no_leaks": True}))
    for name in ("pyproject.toml", "requirements.lock", "defect_assets/__init__.py"):
        (project / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, project / name)
    commit_all(project)
    for module in (environment, road):
        monkeypatch.setattr(module, "CONFIGS", folder)
    for module in (clearance, release, road):
        monkeypatch.setattr(module, "PROJECT", project)
    return folder


class Platform:
    """Materializes partitions as the UI does, on one home."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.home = home
        self.instance = instance

    def materialize(
        self, asset: str, partition: str | None = None, config: dict | None = None
    ) -> dg.ExecuteInProcessResult:
        definition = defs.resolve_asset_graph().get(dg.AssetKey(asset)).partitions_def
        if isinstance(definition, dg.DynamicPartitionsDefinition):
            self.instance.add_dynamic_partitions(definition.name or "", [partition or ""])
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(asset)],
            partition_key=partition,
            run_config={"ops": {asset: {"config": config}}} if config else None,
            raise_on_error=False,
        )

    def prepare(self) -> Store:
        """Do all that comes before the training; return the store."""
        deliver(self.home.inbox, "first", 1, 16)
        for asset, partition in [
            ("python_environment", None),
            ("raw_images", "first"),
            ("dataset_manifest", "DS-1.0.0"),
            ("dataset_split", "DS-1.0.0"),
            ("training_config", "C-01"),
        ]:
            assert self.materialize(asset, partition).success, asset
        return self.home.store()

    def road(self) -> Road:
        return Road(self.home, Materializer(defs, self.instance, Silent()))

    def version(self, asset: str, partition: str | None = None) -> str:
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=dg.AssetKey(asset), asset_partitions=[partition] if partition else None
            ),
            limit=1,
        ).records
        assert records[0].asset_materialization is not None
        return (records[0].asset_materialization.tags or {})["dagster/data_version"]


class Silent:
    """Says nothing of what happens on the road."""

    def start(self, asset: str, partition: str | None, why: str) -> None: ...

    def say(self, message: str) -> None: ...

    def done(self, asset: str, partition: str | None, seconds: float) -> None: ...


def failure(result: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult:
    assert not result.success
    [event] = [e for e in result.all_events if e.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return data


def checked(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    [evaluation] = [e for e in result.get_asset_check_evaluations() if e.check_name == name]
    return evaluation


@pytest.fixture
def platform(
    home: Home, instance: dg.DagsterInstance, configs: Path, monkeypatch: pytest.MonkeyPatch
) -> Platform:
    monkeypatch.setenv("DEFECT_HOME", str(home.root))
    return Platform(home, instance)


def test_the_road_leaves_every_digest_in_dagster_and_in_the_store(platform: Platform) -> None:
    deliver(platform.home.inbox, "first", 1, 16)
    road = [
        ("python_environment", None, "environment"),
        ("raw_images", "first", "batches/first"),
        ("dataset_manifest", "DS-1.0.0", "datasets/DS-1.0.0"),
        ("dataset_split", "DS-1.0.0", "splits/DS-1.0.0"),
        ("training_config", "C-01", "configs/C-01"),
        ("trained_model", EXPERIMENT, "experiments/DS-1.0.0/C-01"),
        ("evaluation_report", EXPERIMENT, "reports/DS-1.0.0/C-01"),
        ("model_release", "v0.1.0", "releases/v0.1.0"),
        ("defect_bento", "v0.1.0", "bentos/v0.1.0"),
    ]
    assert [published_as(asset, partition) for asset, partition, _ in road] == [
        r for _, _, r in road
    ]
    store = platform.home.store()
    for asset, partition, ref in road:
        result = platform.materialize(asset, partition)
        assert result.success, asset
        record = store.record(ref)
        assert record is not None
        assert platform.version(asset, partition) == record.content
        assert record.run_id == result.run_id
        assert record.code_version

    model = store.record("experiments/DS-1.0.0/C-01")
    assert model is not None
    assert model.parents == {
        "dataset_split": store.content("splits/DS-1.0.0"),
        "training_config": store.content("configs/C-01"),
        "python_environment": store.content("environment"),
    }
    # How long an image takes differs from run to run: it stands in the record, and on the page at
    # home, but in no content.
    evaluation = store.record("reports/DS-1.0.0/C-01")
    assert evaluation is not None
    timed = {x["runtime"]: x for x in evaluation.details["latencies"]}
    assert {"torch fp32", "onnx fp32"} <= set(timed)
    assert all(0 < x["p50_ms"] <= x["p95_ms"] for x in timed.values())
    at_home = (platform.home.report("DS-1.0.0", "C-01") / "report.html").read_text()
    stored = store.objects.get_tree(evaluation.content)["report.html"].decode()
    assert ("Time and memory" in at_home, "Time and memory" in stored) == (True, False)

    before = {ref: store.content(ref) for _, _, ref in road}
    for asset, partition, _ in road:
        assert platform.materialize(asset, partition).success, asset
    assert {ref: store.content(ref) for _, _, ref in road} == before


def test_a_refused_delivery_fails_the_run_with_its_list(platform: Platform) -> None:
    folder = deliver(platform.home.inbox, "bad", 1, 2)
    images = sorted((folder / "images").iterdir())
    images[0].write_bytes(b"no image")
    images[1].write_bytes(b"")
    data = failure(platform.materialize("raw_images", "bad"))
    table = data.metadata_entries if hasattr(data, "metadata_entries") else data.metadata
    records = table["problems"].value.records
    assert [r.data["file"] for r in records] == [f"images/{i.name}" for i in images[:2]]
    assert "refused whole, 2 problems" in data.description
    assert platform.home.store().refs.get("batches/bad") is None
    # Nothing but the mark of who was about to write.
    assert {path.name for path in (platform.home.root / "store").iterdir()} <= {"leases"}


def test_a_delivery_that_changed_after_it_was_taken_is_reported(platform: Platform) -> None:
    folder = deliver(platform.home.inbox, "first", 1, 2)
    assert platform.materialize("raw_images", "first").success
    before = platform.home.store().content("batches/first")
    (folder / "batch.yaml").write_text("notes: changed\n")
    data = failure(platform.materialize("raw_images", "first"))
    assert "was taken in before and has changed since" in data.description
    assert platform.home.store().content("batches/first") == before


def test_a_batch_outlives_its_delivery(platform: Platform) -> None:
    folder = deliver(platform.home.inbox, "first", 1, 2)
    assert platform.materialize("raw_images", "first").success
    before = platform.version("raw_images", "first")
    shutil.rmtree(folder)
    assert platform.materialize("raw_images", "first").success
    assert platform.version("raw_images", "first") == before


@pytest.mark.parametrize(
    ("asset", "partition", "says"),
    [
        ("raw_images", "ghost", "there is no delivery ghost"),
        ("dataset_manifest", "DS-1.0.0", "materialize raw_images first"),
        ("dataset_split", "DS-1.0.0", "there is no dataset DS-1.0.0"),
        ("trained_model", EXPERIMENT, "there is no dataset DS-1.0.0"),
        ("model_release", "v0.1.0", "nothing was evaluated yet"),
        ("defect_bento", "v0.1.0", "materialize model_release first"),
    ],
)
def test_a_step_too_early_says_what_comes_first(
    platform: Platform, asset: str, partition: str, says: str
) -> None:
    platform.instance.add_dynamic_partitions("dataset", ["DS-1.0.0"])
    assert says in failure(platform.materialize(asset, partition)).description


def test_a_model_is_not_tested_on_what_it_may_have_seen(platform: Platform) -> None:
    store = platform.prepare()
    assert platform.materialize("trained_model", EXPERIMENT).success
    record = store.record("splits/DS-1.0.0")
    assert record is not None
    other = store.objects.get_json(record.content)
    other["policy"]["seed"] = 99
    moved = record.model_copy(update={"content": store.objects.put_json(other)})
    store.publish("splits/DS-1.0.0", moved)
    said = failure(platform.materialize("evaluation_report", EXPERIMENT)).description
    assert "may have seen what is now for testing: materialize trained_model first" in said


def test_too_few_parts_are_refused_before_the_training(platform: Platform) -> None:
    deliver(platform.home.inbox, "first", 1, 2)
    platform.materialize("python_environment")
    platform.materialize("raw_images", "first")
    platform.materialize("dataset_manifest", "DS-1.0.0")
    platform.materialize("dataset_split", "DS-1.0.0")
    platform.materialize("training_config", "C-01")
    said = failure(platform.materialize("trained_model", EXPERIMENT)).description
    assert "no images for test: 2 parts are too few" in said


def test_what_is_not_pinned_is_not_trained_unless_to_explore(
    platform: Platform, configs: Path
) -> None:
    store = platform.prepare()
    stray = configs.parent / "defect_assets" / "stray.py"
    stray.write_text("")
    said = failure(platform.materialize("trained_model", EXPERIMENT)).description
    assert "defect_assets/stray.py" in said
    assert "git add and git commit" in said
    assert "allow_unpinned" in said
    assert store.content("experiments/DS-1.0.0/C-01") is None

    explored = platform.materialize("trained_model", EXPERIMENT, {"allow_unpinned": True})
    assert platform.materialize("evaluation_report", EXPERIMENT).success
    [event] = explored.asset_materializations_for_node("trained_model")
    assert "stray.py" in str(event.metadata["unpinned"].value)
    assert "✗ the code is a clean commit" in str(event.metadata["preflight"].value)
    for name in ("experiments/DS-1.0.0/C-01", "reports/DS-1.0.0/C-01"):
        [reason] = why_unpinned(store.record(name))
        assert "stray.py" in reason
    said = failure(platform.materialize("model_release", "v0.1.0")).description
    assert "Nobody can override: provenance pinned" in said
    assert "trained unpinned, which is never released" in said
    assert "stray.py" in said

    stray.unlink()
    bundle = store.content("experiments/DS-1.0.0/C-01")
    pinned = platform.materialize("trained_model", EXPERIMENT)
    [event] = pinned.asset_materializations_for_node("trained_model")
    assert "unpinned" not in event.metadata
    assert store.content("experiments/DS-1.0.0/C-01") == bundle  # nothing but its record changed
    assert why_unpinned(store.record("experiments/DS-1.0.0/C-01")) == []
    said = failure(platform.materialize("model_release", "v0.1.0")).description
    assert "materialize evaluation_report first" in said
    assert platform.materialize("evaluation_report", EXPERIMENT).success
    assert platform.materialize("model_release", "v0.1.0").success


def test_what_cannot_be_trained_is_refused_to_explorers_too(platform: Platform) -> None:
    store = platform.prepare()
    store.backend.delete("refs/configs/C-01")
    result = platform.materialize("trained_model", EXPERIMENT, {"allow_unpinned": True})
    assert "C-01 is not in the store" in failure(result).description


def test_an_experiment_is_trained_by_one_at_a_time(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = platform.prepare()
    name = "experiments/DS-1.0.0/C-01"
    with reserve(store.backend, name, "another run"):
        said = failure(platform.materialize("trained_model", EXPERIMENT)).description
        assert f"is making {name}" in said
    assert platform.materialize("trained_model", EXPERIMENT).success
    assert list(store.backend.entries("leases/reservations")) == []

    before = store.refs.get(name)

    def lose() -> None:
        """What happens where others think that this machine died."""
        [entry] = store.backend.entries("leases/reservations")
        store.backend.delete(entry.key)
        store.backend.create(entry.key, signature(run="theirs"))

    monkeypatch.setattr(experiment, "environment_of", lambda store: lose() or {})
    said = failure(platform.materialize("trained_model", EXPERIMENT)).description
    assert "this run lost its reservation" in said
    assert store.refs.get(name) == before


def test_a_delivery_still_being_copied_is_not_taken(platform: Platform) -> None:
    (deliver(platform.home.inbox, "first", 1, 2) / "_COMPLETE").unlink()
    data = failure(platform.materialize("raw_images", "first"))
    assert "is not complete yet" in data.description


def test_a_faulty_configuration_is_refused_by_its_key(platform: Platform, configs: Path) -> None:
    (configs / "C-01.yaml").write_text("stesp: 10\n")
    assert "stesp" in failure(platform.materialize("training_config", "C-01")).description


def test_a_torn_group_fails_the_blocking_check(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(platform.home.inbox, "first", 1, 8)
    platform.materialize("raw_images", "first")
    platform.materialize("dataset_manifest", "DS-1.0.0")
    assert platform.materialize("dataset_split", "DS-1.0.0").success

    from defect_assets.dataset import split

    store = platform.home.store()
    digest = store.content("splits/DS-1.0.0")
    assert digest is not None
    made = split.read_split(store, digest)
    rows = store.objects.get_table(made.rows)
    parts = pa.array(["train", "val", "test"] * (len(rows) // 3))
    moved = store.objects.put_table(rows.set_column(3, "part", parts))
    broken = made.model_copy(update={"rows": moved})
    monkeypatch.setattr(split, "split_snapshot", lambda *_: broken)
    result = platform.materialize("dataset_split", "DS-1.0.0")
    evaluation = checked(result, "no_part_in_several_places")
    assert not evaluation.passed
    assert evaluation.metadata["dataset"].value == "DS-1.0.0"
    assert evaluation.metadata["torn groups"].value == [f"tile-{n:04d}" for n in range(1, 9)]
    assert not result.success


def test_near_duplicates_in_several_parts_block_until_they_are_joined(platform: Platform) -> None:
    folder = deliver(platform.home.inbox, "first", 1, 8)
    # As if nobody knew which images show one part.
    table = folder / "samples.csv"
    header, *rows = table.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    unknown = [f"{sample},{name},,{exposure}" for sample, name, _, exposure in cells]
    table.write_text("\n".join([header, *unknown]) + "\n")
    platform.materialize("raw_images", "first")
    platform.materialize("dataset_manifest", "DS-1.0.0")
    result = platform.materialize("dataset_split", "DS-1.0.0")
    assert not result.success
    evaluation = checked(result, "no_part_in_several_places")
    assert not evaluation.passed
    assert evaluation.metadata["images compared"].value == 24
    assert "groups.csv" in (evaluation.description or "")
    pairs = evaluation.metadata["near-duplicates"].value.records
    assert pairs
    # tile-0001-exp1 looks like tile-0001-exp2, and never like tile-0002-exp1.
    assert all(r.data["sample"][:9] == r.data["looks like"][:9] for r in pairs)

    # The road ends here, and goes no further when it is walked again.
    road = platform.road()
    for _ in range(2):
        with pytest.raises(Blocked, match=r"DS-1\.0\.0 is torn: .* looks like .*groups\.csv"):
            road.experiment("DS-1.0.0", "C-01")

    rules = {"near_duplicates": {"similarity": 0.8}}
    described = yaml.safe_load(platform.home.dataset.read_text()) | {"groups": rules}
    platform.home.dataset.write_text(yaml.safe_dump(described))
    assert platform.materialize("dataset_manifest", "DS-2.0.0").success
    result = platform.materialize("dataset_split", "DS-2.0.0")
    assert result.success
    assert checked(result, "no_part_in_several_places").passed
    materialized = result.asset_materializations_for_node("dataset_split")[0]
    assert materialized.metadata["samples moved"].value > 0


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The trials that are run from now on, in their order."""
    heard: list[Trial] = []
    monkeypatch.setattr(trials, "run_trial", lambda *a: heard.append(a[1]) or run_trial(*a))
    return heard


def test_each_part_is_tested_once_by_a_model_that_never_saw_it(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = platform.prepare()
    tried: list[Trial] = []

    def until_the_power_fails(*arguments: Any) -> TrialResult:
        if len(tried) == 2:
            raise RuntimeError("the power failed")
        tried.append(arguments[1])
        return run_trial(*arguments)

    monkeypatch.setattr(trials, "run_trial", until_the_power_fails)
    assert not platform.materialize("cross_validation", EXPERIMENT).success
    assert list(store.refs.names("trials/")) == [
        "trials/DS-1.0.0/C-01/fold-1",
        "trials/DS-1.0.0/C-01/fold-2",
    ]
    assert store.refs.get("crossvalidations/DS-1.0.0/C-01") is None

    heard: list[Trial] = []
    monkeypatch.setattr(trials, "run_trial", lambda *a: heard.append(a[1]) or run_trial(*a))
    assert platform.materialize("cross_validation", EXPERIMENT).success
    assert ([t.fold for t in tried], [t.fold for t in heard]) == ([1, 2], [3, 4, 5])

    record = store.record("crossvalidations/DS-1.0.0/C-01")
    assert record is not None
    assert platform.version("cross_validation", EXPERIMENT) == record.content
    result = read_crossvalidation(store, record.content)
    files = store.objects.get_tree(record.content)
    table = pd.read_csv(io.BytesIO(files["images.csv"]))
    split = read_split(store, store.content("splits/DS-1.0.0") or "")
    rows = store.objects.get_table(split.rows).to_pandas().set_index("sample")
    assert sorted(table["sample"]) == sorted(rows.index)
    for sample, fold in zip(table["sample"], table["fold"], strict=True):
        assert rows.loc[sample, f"fold-{fold}"] == "test"
    assert result.pooled.images == len(rows)
    assert result.pooled == summarize(table, result.pooled.classes)
    assert set(result.intervals) >= {"dice", "macro_dice", "part_escapes"}

    # The same again gives the same, and trains nothing.
    heard.clear()
    assert platform.materialize("cross_validation", EXPERIMENT).success
    assert heard == []
    assert store.content("crossvalidations/DS-1.0.0/C-01") == record.content

    # Where only the testing's code is another one, no fold is trained.
    monkeypatch.setattr("defect_assets.assets.trials.TRIAL_CODE", "another")
    assert platform.materialize("cross_validation", EXPERIMENT).success
    assert [trial.bundle for trial in heard] == [fold.bundle for fold in result.folds]
    assert store.content("crossvalidations/DS-1.0.0/C-01") == record.content


def test_the_same_configuration_on_a_random_split_is_put_beside(
    platform: Platform, configs: Path, tried: list[Trial]
) -> None:
    store = platform.prepare()
    name = "leakaudits/DS-1.0.0/C-01"
    data = failure(platform.materialize("leak_audit", EXPERIMENT))
    assert "materialize evaluation_report first" in data.description
    for asset in ("trained_model", "evaluation_report", "leak_audit"):
        assert platform.materialize(asset, EXPERIMENT).success, asset

    audit = LeakAudit.model_validate(store.objects.get_json(store.content(name) or ""))
    assert audit.by_part.bundle == store.content("experiments/DS-1.0.0/C-01")
    assert audit.by_part.bundle != audit.by_image.bundle
    assert audit.by_part.seen == 0
    assert audit.by_image.seen > 0.5
    assert audit.by_part.test.images == audit.by_image.test.images
    report = store.objects.get_tree(store.content("reports/DS-1.0.0/C-01") or "")["report.json"]
    scores = Report.model_validate_json(report).test
    of_pixels = {"aupro": None, "calibration_error": None}  # no table of images holds these
    assert audit.by_part.test == scores.model_copy(update=of_pixels)

    # The same again gives the same, and trains nothing.
    again = store.content(name)
    assert platform.materialize("leak_audit", EXPERIMENT).success
    assert (len(tried), store.content(name)) == (1, again)

    # What was evaluated with another configuration is no other side of this one.
    path = configs / "C-01.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"seed": 7}))
    commit_all(configs.parent)
    assert platform.materialize("training_config", "C-01").success
    data = failure(platform.materialize("leak_audit", EXPERIMENT))
    assert "materialize trained_model and evaluation_report first" in data.description
    assert (len(tried), store.content(name)) == (1, again)


def test_what_was_tried_unpinned_is_trained_anew_for_a_pinned_cross_validation(
    platform: Platform, configs: Path, tried: list[Trial]
) -> None:
    (configs / "new.txt").write_text("not committed")
    store = platform.prepare()
    name = "crossvalidations/DS-1.0.0/C-01"
    assert not platform.materialize("cross_validation", EXPERIMENT).success
    unpinned = {"allow_unpinned": True}
    assert platform.materialize("cross_validation", EXPERIMENT, unpinned).success
    assert why_unpinned(store.record(name))
    explored = store.content(name)
    assert platform.materialize("cross_validation", EXPERIMENT, unpinned).success
    assert len(tried) == 5

    commit_all(configs.parent)
    assert platform.materialize("cross_validation", EXPERIMENT).success
    assert [trial.bundle for trial in tried[5:]] == [None] * 5
    assert why_unpinned(store.record(name)) == []
    assert store.content(name) == explored


def test_what_fails_a_gate_is_released_for_a_reason_or_not_at_all(
    platform: Platform, configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Ann")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "ann@example.com")
    gates = {"floors": {"dice": 0.999}, "no_leaks": True, "no_class_worse_than_production": True}
    (configs / "gates.yaml").write_text(yaml.safe_dump(gates))
    commit_all(configs.parent)
    store = platform.prepare()
    for asset in ("trained_model", "evaluation_report"):
        assert platform.materialize(asset, EXPERIMENT).success, asset
    said = failure(platform.materialize("model_release", "v0.1.0"))
    assert "it fails 1 of 4 gates" in said.description
    assert "launchpad override: why" in said.description
    rows = [record.data for record in said.metadata["gates"].value.records]
    assert [row["gate"] for row in rows if not row["passed"]] == ["Dice"]
    assert len(rows) == 4

    walk = platform.road()
    with pytest.raises(GatesFailed, match="it fails 1 of 4 gates"):
        walk.release("DS-1.0.0", "C-01", bump=Bump.MAJOR)
    assert platform.instance.get_dynamic_partitions("release") == []  # its number stays free
    assert list(store.refs.names("releases/")) == []
    too_high = failure(platform.materialize("model_release", "v3.0.0", {"override": "x"}))
    assert "the next version is v0.1.0" in too_high.description

    result = platform.materialize("model_release", "v0.1.0", {"override": "to try the line"})
    assert result.success
    [event] = result.asset_materializations_for_node("model_release")
    who = "Ann <ann@example.com>: to try the line"
    assert event.metadata["released though it failed"].value == who
    assert "**Released though it failed gates**" in str(event.metadata["note"].value)
    record = store.record("releases/v0.1.0")
    assert record is not None
    assert record.details["override"]["reason"] == "to try the line"

    # What is released stays so, whatever the gates say by then.
    walk.release("DS-1.0.0", "C-01")
    assert store.record("releases/v0.1.0") == record
    assert platform.materialize("model_release", "v0.1.0").success
    assert store.record("releases/v0.1.0") == record


@pytest.mark.slow
def test_folds_side_by_side_come_to_the_same(platform: Platform) -> None:
    store = platform.prepare()
    assert platform.materialize("cross_validation", EXPERIMENT, {"at_once": 2}).success
    side_by_side = store.content("crossvalidations/DS-1.0.0/C-01")
    shutil.rmtree(platform.home.root / "store" / "refs" / "trials")
    assert platform.materialize("cross_validation", EXPERIMENT).success
    assert store.content("crossvalidations/DS-1.0.0/C-01") == side_by_side


def test_a_class_that_the_dataset_lacks_is_not_painted(platform: Platform, configs: Path) -> None:
    wrong = CONFIG | {
        "sampling": {"batch_size": 4, "painted": 0.2},
        "paint": {"Scratch": "crack"},
    }
    (configs / "C-01.yaml").write_text(yaml.safe_dump(wrong))
    commit_all(configs.parent)
    platform.prepare()
    data = failure(platform.materialize("trained_model", EXPERIMENT))
    assert "paint names Scratch, which the dataset lacks" in data.description


def test_a_binary_model_goes_the_whole_road(platform: Platform, configs: Path) -> None:
    (configs / "C-01.yaml").write_text(yaml.safe_dump(CONFIG | {"task": "binary"}))
    commit_all(configs.parent)
    store = platform.prepare()
    for asset in ("trained_model", "evaluation_report"):
        assert platform.materialize(asset, EXPERIMENT).success, asset
    report = store.objects.get_tree(store.content("reports/DS-1.0.0/C-01") or "")
    test = json.loads(report["report.json"])["test"]
    assert list(test["classes"]) == ["Defect"]
    assert test["classes"]["Defect"]["dice"] == pytest.approx(test["dice"])


def test_a_training_is_seen_while_it_runs(platform: Platform) -> None:
    platform.prepare()
    assert platform.materialize("trained_model", EXPERIMENT).success
    key = dg.AssetKey("trained_model")
    seen = platform.instance.fetch_observations(key, limit=100).records
    assert len(seen) == 5
    newest = seen[0].event_log_entry.asset_observation
    assert newest is not None
    assert {"step", "loss", "validation Dice", "curves", "predictions"} <= set(newest.metadata)
    events = list((platform.home.tensorboard / "DS-1.0.0-C-01").glob("*/events*"))
    assert events
    assert all(event.stat().st_size for event in events)
    assert not (platform.home.training("DS-1.0.0", "C-01") / "checkpoint.pt").exists()
    assert why_stale(platform.instance, defs, "trained_model", EXPERIMENT) is None
