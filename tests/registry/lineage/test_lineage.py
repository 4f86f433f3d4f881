"""Where things come from and what came of them, against what was written down while making them."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from defect_assets.cli import app
from defect_assets.dataset.split import read_split, split_snapshot
from defect_assets.home import Home
from defect_assets.registry.lineage.graph import Graph
from defect_assets.registry.lineage.lineage import Lineage, UnknownThing, lineage
from defect_assets.store import Record, Store, digest_of, open_store
from tests.small import cut, deliver, home_of, ingest, mask, picture, plain

MODELS = {
    "v0.1.0": ("DS-1.0.0", "C-01"),
    "v0.2.0": ("DS-1.0.1", "C-01"),
    "v0.3.0": ("DS-2.0.0", "C-02"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three snapshots, each with a model and a release.

    DS-1.0.0 is of samples 0 to 11. A correction gives s001 another mask, which makes DS-1.0.1.
    Then s002 is withdrawn, which makes DS-2.0.0.
    """
    home = home_of(tmp_path_factory.mktemp("lineage") / "home")
    store = home.store()
    plain(home, "one", range(12))
    deliver(home, "fix", {}, {"s001": mask(1, 99)})
    deliver(home, "withdrawn", {}, {}, remove=["s002"])
    environment = store.objects.put_json({"python": "3"})
    store.publish("environment", Record(asset="python_environment", content=environment))
    for batch, (release, (dataset, config)) in zip(
        ("one", "fix", "withdrawn"), MODELS.items(), strict=True
    ):
        ingest(home, store, batch)
        snapshot = cut(home, store)
        assert snapshot is not None
        assert snapshot.id == dataset
        split = split_snapshot(store, store.content(f"datasets/{dataset}") or "")
        content = store.objects.put_json(split.model_dump(mode="json"))
        parents = {"dataset_manifest": split.snapshot}
        store.publish(
            f"splits/{dataset}", Record(asset="dataset_split", content=content, parents=parents)
        )
        train(store, release, dataset, config)
    return home


@pytest.fixture
def store(home: Home) -> Store:
    """For tests that read it."""
    return home.store()


@pytest.fixture
def own(home: Home, tmp_path: Path) -> Store:
    """For tests that change it."""
    shutil.copytree(home.root / "store", tmp_path / "store")
    return open_store(str(tmp_path / "store"))


def train(store: Store, release: str, dataset: str, config: str) -> None:
    """Leave the records of a training, an evaluation and a release."""
    split = store.content(f"splits/{dataset}") or ""
    environment = {"python_environment": store.content("environment") or ""}
    values = store.objects.put_json({"seed": int(config[-1])})
    bundle = store.objects.put_tree(
        {"model.safetensors": b"weights", "bundle.json": release.encode()}
    )
    report = store.objects.put_tree({"report.json": f"of {release}".encode()})
    made = store.objects.put_json({"id": release, "bundle": bundle, "report": report})
    trained_on = {"dataset_split": split, "training_config": values, **environment}
    tested_on = {"trained_model": bundle, "dataset_split": split, **environment}
    for name, content, parents in (
        (f"configs/{config}", values, {}),
        (f"experiments/{dataset}/{config}", bundle, trained_on),
        (f"reports/{dataset}/{config}", report, tested_on),
        (f"releases/{release}", made, {"trained_model": bundle, "evaluation_report": report}),
    ):
        store.publish(name, Record(asset="x", content=content, parents=parents, commit="c" * 40))


def part_of(store: Store, dataset: str, sample: str) -> str | None:
    split = read_split(store, store.content(f"splits/{dataset}") or "")
    rows = store.objects.get_table(split.rows, ["sample", "part"]).to_pylist()
    return {row["sample"]: row["part"] for row in rows}.get(sample)


def names(graph: Graph | None) -> set[str]:
    assert graph is not None
    return {name for node in graph.nodes.values() for name in node.names}


ROLE = {
    "train": "trained on it",
    "val": "its threshold was chosen on it",
    "test": "tested on it",
}


@pytest.mark.parametrize("number", range(12))
def test_an_image_tells_which_releases_were_trained_on_it(store: Store, number: int) -> None:
    sample = f"s{number:03}"
    found = lineage(store, digest_of(picture(number)))
    expected: dict[str, list[str]] = {role: [] for role in ROLE.values()}
    for release, (dataset, _) in MODELS.items():
        if part := part_of(store, dataset, sample):
            expected[ROLE[part]].append(release)
    assert found.releases == expected
    if sample == "s002":
        assert sum(map(len, expected.values())) == 2


def test_all_parts_of_the_split_are_seen_in_the_test_above(store: Store) -> None:
    parts = {part_of(store, "DS-1.0.0", f"s{n:03}") for n in range(12)}
    assert parts == {"train", "val", "test"}


def test_a_corrected_mask_is_in_no_later_snapshot_and_the_image_in_all(store: Store) -> None:
    old, new = (lineage(store, digest_of(mask(1, n))) for n in (1, 99))
    assert old.subject.kind == new.subject.kind == "mask"
    assert {n for n in names(old.forward) if n.startswith("datasets/")} == {"datasets/DS-1.0.0"}
    assert {n for n in names(new.forward) if n.startswith("datasets/")} == {
        "datasets/DS-1.0.1",
        "datasets/DS-2.0.0",
    }
    image = lineage(store, digest_of(picture(1)))
    assert {n for n in names(image.forward) if n.startswith(("datasets/", "batches/"))} == {
        "batches/one",
        "batches/fix",
        "datasets/DS-1.0.0",
        "datasets/DS-1.0.1",
        "datasets/DS-2.0.0",
    }


def test_a_release_was_made_of_its_data_configuration_and_environment_alone(store: Store) -> None:
    found = lineage(store, "v0.2.0")
    assert names(found.backward) == {
        "releases/v0.2.0",
        "reports/DS-1.0.1/C-01",
        "experiments/DS-1.0.1/C-01",
        "splits/DS-1.0.1",
        "configs/C-01",
        "datasets/DS-1.0.1",
        "batches/one",
        "batches/fix",
        "environment",
    }


def test_a_batch_tells_what_came_of_it(store: Store) -> None:
    came = lineage(store, "fix").forward
    assert {n for n in names(came) if n.startswith("releases/")} == {
        "releases/v0.2.0",
        "releases/v0.3.0",
    }


def test_a_channel_knows_where_it_led(own: Store) -> None:
    for release in ("v0.1.0", "v0.3.0"):
        digest = own.content(f"releases/{release}") or ""
        own.publish("channels/production", Record(asset="channel", content=digest))
    found = lineage(own, "production")
    assert found.backward is not None
    roles = {
        found.backward.nodes[edge.source].title: edge.role
        for edge in found.backward.made_of("channels/production")
    }
    assert roles == {"release v0.1.0": "before", "release v0.3.0": "now"}
    assert "channels/production" in names(lineage(own, "v0.1.0").forward)
    assert "channels/production" not in names(lineage(own, "v0.2.0").forward)


def test_everything_is_found_by_what_it_is_called(store: Store, tmp_path: Path) -> None:
    bundle = store.content("experiments/DS-1.0.1/C-01") or ""
    weights = store.objects.get_json(bundle)["model.safetensors"]
    spec = store.objects.get_json(bundle)["bundle.json"]
    (tmp_path / "file.png").write_bytes(picture(3))
    (tmp_path / "bundle.json").write_bytes(store.objects.get(spec))
    expected = {
        "v0.2.0": "release v0.2.0",
        "DS-1.0.1": "snapshot DS-1.0.1",
        "DS-1.0.1/C-01": "model DS-1.0.1 × C-01",
        "DS-1.0.1 × C-01": "model DS-1.0.1 × C-01",
        "C-02": "config C-02",
        "one": "batch one",
        "splits/DS-1.0.1": "split DS-1.0.1",
        bundle: "model DS-1.0.1 × C-01",
        bundle[:8]: "model DS-1.0.1 × C-01",
        spec: "model DS-1.0.1 × C-01",
        digest_of(picture(3))[:10]: "image s003",
        str(tmp_path / "file.png"): "image s003",
        str(tmp_path / "bundle.json"): "model DS-1.0.1 × C-01",
    }
    assert {what: lineage(store, what).subject.title for what in expected} == expected
    # The untrained networks have the same weights: that is for a person to tell apart.
    with pytest.raises(
        UnknownThing, match=r"may be any of these(.|\n)*experiments/DS-1\.0\.0/C-01"
    ):
        lineage(store, weights)
    for stranger in ("v9.9.9", "DS-1.0.0/C-09", bundle[:7], "0" * 64, "nothing"):
        with pytest.raises(UnknownThing, match="nothing here is called"):
            lineage(store, stranger)


def test_what_stood_under_a_name_before_is_still_known(own: Store) -> None:
    record = own.record("experiments/DS-1.0.0/C-01")
    assert record is not None
    other = own.objects.put_tree({"model.safetensors": b"other"})
    own.publish("experiments/DS-1.0.0/C-01", record.model_copy(update={"content": other}))
    found = lineage(own, record.content)
    assert found.subject.title == "model DS-1.0.0 × C-01 as it was before"
    assert "releases/v0.1.0" in names(found.forward)
    assert lineage(own, "DS-1.0.0/C-01").subject.key == other
    assert "releases/v0.1.0" not in names(lineage(own, "DS-1.0.0/C-01").forward)


def test_only_one_direction_is_shown_where_one_is_asked_for(store: Store) -> None:
    assert lineage(store, "DS-1.0.0", backward=False).backward is None
    assert lineage(store, "DS-1.0.0", forward=False).forward is None


def edges(found: Lineage) -> set[tuple[str, str]]:
    return {(edge["source"], edge["target"]) for edge in found.as_json()["edges"]}


def test_json_and_mermaid_say_the_same(store: Store) -> None:
    found = lineage(store, "DS-1.0.1/C-01")
    chart = found.as_mermaid().splitlines()
    value = found.as_json()
    assert chart[0] == "flowchart LR"
    boxes = [line for line in chart if '["' in line]
    arrows = [line for line in chart if "-->" in line]
    assert len(boxes) == len(value["nodes"])
    assert len(arrows) == len(value["edges"]) == len(edges(found))
    for node in value["nodes"]:
        assert sum(f'"{node["title"]}<br/>{node["key"][:12]}"' in box for box in boxes) == 1


runner = CliRunner()


def test_the_command_shows_a_tree_or_prints_for_machines(
    store: Store, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFECT_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "200")
    trained = next(n for n in range(12) if part_of(store, "DS-1.0.0", f"s{n:03}") == "train")
    image = digest_of(picture(trained))
    shown = runner.invoke(app, ["lineage", image[:12]])
    assert shown.exit_code == 0, shown.output
    assert "model DS-1.0.0 × C-01" in shown.output
    assert "in train" in shown.output
    assert "trained on it:" in shown.output
    told = json.loads(runner.invoke(app, ["lineage", image, "--json"]).output)
    assert told["subject"] == image
    assert "v0.1.0" in told["releases"]["trained on it"]
    chart = runner.invoke(app, ["lineage", "v0.1.0", "--mermaid", "--backward"]).output
    assert chart.startswith("flowchart LR\n")
    unknown = runner.invoke(app, ["lineage", "v9.9.9"])
    assert unknown.exit_code == 1
    assert "nothing here is called v9.9.9" in unknown.output
    both = runner.invoke(app, ["lineage", "DS-1.0.1"]).output
    assert "was made of" in both
    assert "and what came of it" in both
