"""What an auditor asks: answered with proof where all is there, or by what is missing."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from defect_assets import home as homes
from defect_assets.cli import app
from defect_assets.home import Home
from defect_assets.registry.audit import Answer, audit
from defect_assets.store import Record, Store
from defect_assets.store.digest import object_key
from tests.checkouts import commit_all, git
from tests.registry.experiments import ENVIRONMENT, experiment, half, released
from tests.small import DESCRIPTION, cut, home_of, ingest, plain


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "code.py").write_text("pass\n")
    commit_all(folder)
    return folder


@pytest.fixture
def commit(project: Path) -> str:
    return git(project, "rev-parse", "HEAD").strip()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Tiny images all look alike, so nobody looks for near-duplicates here."""
    home = home_of(tmp_path / "home")
    rules = DESCRIPTION.groups.model_copy(update={"near_duplicates": False})
    described = DESCRIPTION.model_copy(update={"groups": rules})
    home.dataset.write_text(yaml.safe_dump(described.model_dump(mode="json", exclude_none=True)))
    plain(home, "first", range(48))
    store = home.store()
    ingest(home, store, "first")
    cut(home, store)
    return home


@pytest.fixture
def store(home: Home, commit: str) -> Store:
    """Two releases by a commit, the better one in production."""
    store = home.store()
    for version, answer in (("v0.1.0", half), ("v0.2.0", None)):
        better = {"answer": answer} if answer else {}
        found = experiment(
            store,
            "DS-1.0.0",
            weights=version.encode(),
            commit=commit,
            **better,  # type: ignore
        )
        released(store, found, version)
    lead(store, "v0.2.0")
    return store


def lead(store: Store, version: str) -> None:
    """Put a release into production."""
    digest = store.content(f"releases/{version}") or ""
    details = {"action": "promote", "release": version, "by": "Ann", "why": "the best"}
    store.publish("channels/production", Record(asset="channel", content=digest, details=details))


BEST, PRODUCTION, MADE, LABEL, LEAK, PINNED, OVERRIDDEN = range(7)


def lacks(store: Store, project: Path, *questions: int) -> list[Answer]:
    """Make sure that some questions, and no others, lack something; return these answers."""
    answers = audit(store, project)
    assert [n for n, answer in enumerate(answers) if not answer.holds] == list(questions), answers
    return [answers[n] for n in questions]


def test_where_all_is_there_each_answer_has_its_proof(
    store: Store, project: Path, commit: str
) -> None:
    answers = audit(store, project)
    assert all(answer.holds for answer in answers), answers
    assert "the best release of the last 7 days" in answers[BEST].question
    for number in (BEST, PRODUCTION):
        assert answers[number].answer.startswith("v0.2.0")
        assert "defect-assets reproduce v0.2.0" in answers[number].answer
        proof = "\n".join(answers[number].proof)
        for part in (commit, "snapshot DS-1.0.0", "C-01", "seed 0", "Python 3.11.4", "its lock"):
            assert part in proof
    assert answers[MADE].answer == "DS-1.0.0 and C-01, as v0.2.0"
    assert "by Ann: the best" in answers[MADE].proof[0]
    assert answers[LABEL].answer == "yes, DS-1.0.1 after DS-1.0.0"
    assert answers[LEAK].answer == "no"
    assert answers[PINNED].answer == "no, 2 releases are pinned"
    assert answers[OVERRIDDEN].answer == "none of 2"


def test_of_a_quiet_week_the_best_release_of_all_is_asked_for(store: Store, project: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=8)
    assert audit(store, project, later)[BEST].question == "Can the best release be rebuilt?"


def test_what_is_in_production_need_not_be_the_best(store: Store, project: Path) -> None:
    lead(store, "v0.1.0")
    answers = audit(store, project)
    assert answers[BEST].answer.startswith("v0.2.0")
    assert answers[PRODUCTION].answer.startswith("v0.1.0")
    assert answers[MADE].answer == "DS-1.0.0 and C-01, as v0.1.0"


def test_an_empty_store_lacks_nearly_all(tmp_path: Path, project: Path) -> None:
    empty = Home(tmp_path / "empty").store()
    answers = audit(empty, project)
    assert [answer.holds for answer in answers] == [False] * 5 + [True] * 2
    assert "defect-assets repro" in answers[BEST].missing[0]


def test_a_commit_that_git_lacks_is_missing(store: Store, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    commit_all(other)
    best, production = lacks(store, other, BEST, PRODUCTION)
    assert "git fetch" in best.missing[0]
    assert best.answer == production.answer
    assert "no, something is missing" in best.answer


@pytest.mark.parametrize("what", ["lock", "weights", "split table", "pack"])
def test_what_is_gone_or_damaged_is_named(
    store: Store, project: Path, home: Home, what: str
) -> None:
    record = store.record("experiments/DS-1.0.0/C-01")
    assert record is not None
    root = home.root / "store"
    split = store.objects.get_json(record.parents["dataset_split"])
    paths = {
        "lock": root / object_key(ENVIRONMENT["lock"]),
        "weights": root / object_key(store.objects.get_json(record.content)["model.safetensors"]),
        "split table": root / "tables" / split["rows"][:2] / split["rows"][2:],
        "pack": max((root / "objects").glob("*/*"), key=lambda path: path.stat().st_size),
    }
    paths[what].unlink()
    answers = audit(home.store(), project)
    best = answers[BEST]
    assert not best.holds
    assert not answers[PRODUCTION].holds
    assert any("--repair-from" in line for line in best.missing), best
    lost = str(paths[what].relative_to(root)).partition("/")[2].replace("/", "")
    if what != "pack":
        assert any(lost in line.replace("/", "") for line in best.missing), best


def test_what_was_trained_unpinned_or_without_a_commit_is_named(
    store: Store, project: Path, commit: str
) -> None:
    for version, changes in (
        ("v0.3.0", {"commit": commit, "details": {"unpinned": ["not committed: a.py"]}}),
        ("v0.4.0", {"commit": f"{commit}+"}),
    ):
        found = experiment(store, "DS-1.0.0", weights=version.encode(), answer=half, **changes)
        released(store, found, version)
    [answer] = lacks(store, project, PINNED)
    assert [line[:6] for line in answer.missing] == ["v0.3.0", "v0.4.0"]
    assert "not committed: a.py" in answer.missing[0]
    assert [line[:6] for line in answer.proof] == ["v0.1.0", "v0.2.0"]


def test_a_model_that_was_tested_on_another_split_is_named(
    store: Store, project: Path, commit: str
) -> None:
    found = experiment(store, "DS-1.0.0", weights=b"other", commit=commit)
    # As if it had been split anew after the training.
    split = store.objects.get_json(found.model.parents["dataset_split"])
    other = store.objects.put_json(split | {"groups": {"train": 1, "val": 1, "test": 1}})
    trained = {**found.model.parents, "dataset_split": other}
    store.publish("experiments/DS-1.0.0/C-01", found.model.model_copy(update={"parents": trained}))
    record = store.record("experiments/DS-1.0.0/C-01")
    assert record is not None
    released(store, type(found)("x", "DS-1.0.0", "C-01", record, found.evaluation), "v0.9.0")
    lead(store, "v0.9.0")
    answers = audit(store, project)
    assert "v0.9.0 was trained on split" in answers[LEAK].missing[0]


def test_what_was_let_through_is_listed_with_the_reason(
    store: Store, project: Path, commit: str
) -> None:
    digest = store.content("releases/v0.2.0") or ""
    details = {"override": {"reason": "the line stands still", "by": "Bob"}}
    store.publish("releases/v0.2.0", Record(asset="m", content=digest, details=details))
    answer = audit(store, project)[OVERRIDDEN]
    assert answer.holds
    assert answer.proof == ("v0.2.0: the line stands still (Bob)",)


def test_the_command_prints_and_fails_where_something_is_missing(
    store: Store, project: Path, home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEFECT_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(homes, "PROJECT", project)
    runner = CliRunner()
    result = runner.invoke(app, ["audit"])
    assert result.exit_code == 0, result.output
    assert result.output.count("✓") == 7
    told = json.loads(runner.invoke(app, ["audit", "--json"]).output)
    assert [answer["holds"] for answer in told] == [True] * 7
    monkeypatch.setattr(homes, "PROJECT", tmp_path)
    result = runner.invoke(app, ["audit"])
    assert result.exit_code == 1
    assert "missing: this repository does not have its commit" in result.output
