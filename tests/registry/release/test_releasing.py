"""What a release records and tells: gates, overrides, note, model card, bundle."""

import json
import subprocess
from pathlib import Path

import pytest

from defect_assets.inference.bundle import check_bundle
from defect_assets.inference.detector import Detector
from defect_assets.registry.release.candidates import ReleaseRefused, last_evaluated
from defect_assets.registry.release.release_bundle import MANIFEST, BundleRefused, write_bundle
from defect_assets.registry.release.releases import read_documents, released_as
from defect_assets.registry.release.releasing import GatesFailed, propose
from defect_assets.store import Store, digest_of, open_store
from defect_assets.store.verify import verify
from tests.experiments import Made, new_home, publish_experiment, small_dataset, write_gates
from tests.registry.releasing import publish_release

STRICT = {"floors": {"dice": 0.99, "region_recall": 1}, "ceilings": {"escapes": 0}}


@pytest.fixture
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose gates hardly any model passes, in which git knows who is at work."""
    write_gates(tmp_path / "strict", **STRICT)
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Ann")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "ann@example.com")
    return tmp_path / "strict"


def test_a_refusal_lists_all_gates_and_says_how_to_go_on(
    store: Store, strict: Path, dataset: str
) -> None:
    publish_experiment(store, Made(missed={"Crack": 0.5}))
    proposal = propose(store, strict, dataset, "C-01")
    with pytest.raises(GatesFailed) as refused:
        proposal.admit("", strict)
    said = str(refused.value)
    assert said.startswith("DS-1.0.0 × C-01 is not released: it fails 3 of 4 gates")
    for line in ("✓ provenance pinned", "✗ Dice: 0.", "✗ region recall", "✗ escapes"):
        assert line in said
    assert said.count("mend it: look at the worst images") == 1  # of three in a row
    assert 'defect-assets release DS-1.0.0/C-01 --override "why"' in said
    assert [r.gate for r in refused.value.results if not r.passed] == [
        "Dice",
        "region recall",
        "escapes",
    ]


def test_an_override_is_recorded_with_who_and_shown(
    store: Store, strict: Path, dataset: str
) -> None:
    publish_experiment(store, Made(missed={"Crack": 0.5}))
    made = publish_release(store, strict, override=" the line waits for it ")
    record = store.record(f"releases/{made.id}")
    assert record is not None
    by = "Ann <ann@example.com>"
    assert record.details["override"] == {"reason": "the line waits for it", "by": by}
    failed = [gate["gate"] for gate in record.details["gates"] if not gate["passed"]]
    assert failed == ["Dice", "region recall", "escapes"]
    told = read_documents(store, made.id)
    for name in ("RELEASE.md", "MODEL_CARD.md"):
        assert f"by {by}: the line waits for it" in told[name].decode()
    assert "| escapes | **no** |" in told["RELEASE.md"].decode()


def test_a_reason_where_none_is_needed_is_no_override(
    store: Store, project: Path, dataset: str
) -> None:
    publish_experiment(store, Made())
    made = publish_release(store, project, override="to be sure")
    record = store.record(f"releases/{made.id}")
    assert record is not None
    assert "override" not in record.details
    assert "though it failed" not in read_documents(store, made.id)["RELEASE.md"].decode()


def test_the_note_says_what_it_is_how_good_and_what_changed(
    store: Store, project: Path, dataset: str
) -> None:
    publish_experiment(store, Made())
    first = publish_release(store, project, notes="How it began.")
    told = read_documents(store, first.id)["RELEASE.md"].decode()
    assert "# v0.1.0\n\nHow it began.\n\nTrained on DS-1.0.0 with C-01, commit `c0ffee`" in told
    assert "It is the first release." in told
    assert "What changed" not in told

    publish_experiment(store, Made(steps=20, threshold=0.6, missed={"Crack": 0.25}))
    second = publish_release(store, project)
    told = read_documents(store, second.id)["RELEASE.md"].decode()
    assert "It follows v0.1.0 as a minor release: the configuration changed." in told
    assert "## What changed since v0.1.0\n\n- Configuration: steps 10 → 20\n" in told
    dice = second.metrics.dice
    assert dice is not None
    low, high = second.intervals["dice"]
    assert low < dice < high
    assert f"| Dice | {dice:.3f} | {low:.3f} – {high:.3f} |" in told
    crack = second.metrics.classes["Crack"].dice
    assert f"- Found worst: Crack, Dice {crack:.3f}" in told
    assert "Tested on fewer than 10 parts, so intervals may be too narrow: Crack (8)" in told
    assert "| no leaks | yes |" in told


def test_the_model_card_has_the_headings_of_its_kind(
    store: Store, project: Path, dataset: str
) -> None:
    publish_experiment(store, Made())
    card = read_documents(store, publish_release(store, project).id)["MODEL_CARD.md"].decode()
    headings = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert headings == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ]
    for said in (
        "Crack, Hole",
        "64 × 64",
        "10 steps",
        "threshold 0.5,",
        "Free: 8 images",
        "abacus",
    ):
        assert said in card
    assert "None" not in card.replace("None of", "")


def test_the_same_work_gives_the_same_release_elsewhere(tmp_path: Path, project: Path) -> None:
    """Another latency, another time, another store: none of it is in the release."""
    digests = []
    for place, latency in (("here", 10.0), ("there", 99.0)):
        store = open_store(str(tmp_path / place / "store"))
        small_dataset(new_home(tmp_path / place / "home"), store)
        publish_experiment(store, Made(p95_ms=latency))
        made = publish_release(store, project, notes="the same")
        digests.append(store.content(f"releases/{made.id}"))
        assert digest_of(store.objects.get(digests[-1] or "")) == digests[-1]
    assert digests[0] == digests[1]


def test_all_that_a_release_leads_to_is_verified_and_kept(
    store: Store, project: Path, dataset: str
) -> None:
    publish_experiment(store, Made())
    made = publish_release(store, project)
    assert verify(store).damages == ()
    record = store.record(f"releases/{made.id}")
    assert record is not None
    note = store.objects.get_json(record.details["documents"])["RELEASE.md"]
    store.backend.delete(f"objects/{note[:2]}/{note[2:]}")
    assert len(verify(store).damages) == 1


def test_what_was_not_evaluated_is_not_released(store: Store, project: Path, dataset: str) -> None:
    with pytest.raises(ReleaseRefused, match="nothing was evaluated yet"):
        last_evaluated(store)
    with pytest.raises(ReleaseRefused, match="materialize trained_model first"):
        propose(store, project, dataset, "C-01")
    publish_experiment(store, Made())
    store.backend.delete("refs/reports/DS-1.0.0/C-01")
    with pytest.raises(ReleaseRefused, match="materialize evaluation_report first"):
        propose(store, project, dataset, "C-01")


def test_what_was_trained_again_since_is_not_released(
    store: Store, project: Path, dataset: str
) -> None:
    publish_experiment(store, Made())
    model, report = (store.record(f"{kind}/DS-1.0.0/C-01") for kind in ("experiments", "reports"))
    assert model is not None
    assert report is not None
    other = store.objects.put_tree({"model.safetensors": b"other"})
    store.publish("experiments/DS-1.0.0/C-01", model.model_copy(update={"content": other}))
    with pytest.raises(ReleaseRefused, match="trained again since"):
        propose(store, project, dataset, "C-01")
    # Pinned again, but evaluated when it was not.
    publish_experiment(store, Made(unpinned=("not committed: a.py",)))
    store.publish("experiments/DS-1.0.0/C-01", model)
    with pytest.raises(ReleaseRefused, match="materialize evaluation_report first"):
        propose(store, project, dataset, "C-01")


def test_a_test_without_a_defect_is_no_evidence(
    store: Store, project: Path, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import experiments

    kept = experiments.images
    monkeypatch.setattr(
        experiments, "images", lambda *a: kept(*a).query("`class` == 'Free'").reset_index(drop=True)
    )
    publish_experiment(store, Made())
    with pytest.raises(ReleaseRefused, match="without a single defect"):
        propose(store, project, dataset, "C-01")


def test_an_experiment_is_released_once(store: Store, project: Path, dataset: str) -> None:
    publish_experiment(store, Made())
    assert released_as(store, dataset, "C-01") is None
    made = publish_release(store, project)
    assert released_as(store, dataset, "C-01") == made
    publish_experiment(store, Made(found=0.7))  # evaluated otherwise
    assert released_as(store, dataset, "C-01") is None
    publish_experiment(store, Made())
    assert released_as(store, dataset, "C-01") == made


@pytest.fixture
def bundle(store: Store, project: Path, dataset: str, tmp_path: Path) -> Path:
    publish_experiment(store, Made())
    write_bundle(store, publish_release(store, project), tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_holds_all_that_is_needed_under_checksums(store: Store, bundle: Path) -> None:
    about = json.loads((bundle / "release.json").read_text())
    check_bundle(bundle, about["digest"])
    assert about["release"] == "v0.1.0"
    spec = Detector.load(bundle).spec
    assert spec.class_map == {1: "Crack", 2: "Hole"}
    assert spec.postprocessing.threshold == 0.5
    metrics = json.loads((bundle / "metrics.json").read_text())
    assert metrics["test"]["images"] == 24
    assert set(metrics["intervals"]) >= {"dice", "dice Crack"}
    listed = {line.split("  ")[1] for line in (bundle / MANIFEST).read_text().splitlines()}
    assert listed | {MANIFEST} == {path.name for path in bundle.iterdir()}
    check = ["sha256sum", "--check", "--strict", MANIFEST]
    assert subprocess.run(check, cwd=bundle, capture_output=True, check=False).returncode == 0
    (bundle / "MODEL_CARD.md").write_text("All is well.\n")
    assert subprocess.run(check, cwd=bundle, capture_output=True, check=False).returncode == 1


def test_a_bundle_overwrites_nothing(store: Store, bundle: Path) -> None:
    from defect_assets.registry.release.releases import find_release

    release = find_release(store, "v0.1.0")
    assert release is not None
    with pytest.raises(BundleRefused, match="is not empty"):
        write_bundle(store, release, bundle)


def test_what_never_failed_may_fail_all_the_same(store: Store, project: Path, dataset: str) -> None:
    publish_experiment(store, Made())
    told = read_documents(store, publish_release(store, project).id)["RELEASE.md"].decode()
    assert "No defective part was let pass, which does not say never: up to " in told
