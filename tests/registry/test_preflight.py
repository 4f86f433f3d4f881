"""What preflight refuses; and that it passes once one did what the refusal says."""

import shutil
from collections import namedtuple
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import psutil
import pytest
import yaml

from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.dataset.split import split_snapshot
from defect_assets.home import Home
from defect_assets.registry import capacity
from defect_assets.registry.configs import values_of
from defect_assets.registry.environment import record_environment
from defect_assets.registry.plan import Plan
from defect_assets.registry.preflight import Finding, preflight, refusal
from defect_assets.settings import read_settings
from defect_assets.store import Record, Store, packs
from defect_assets.store.digest import object_key
from defect_assets.store.reservations import reserve
from defect_assets.store.tables import table_key
from defect_assets.training.config import TrainingConfig
from tests import small
from tests.checkouts import commit_all, git

SMALL = {"architecture": {"widths": [8, 16]}, "input": {"height": 64, "width": 64}, "seed": 0}


class Ready:
    """A home and a checkout in which all is ready for a training."""

    def __init__(self, root: Path) -> None:
        self.home: Home = small.home_of(root / "home")
        self.store: Store = self.home.store()
        self.project = root / "checkout"
        (self.project / "configs").mkdir(parents=True)
        (self.project / "defect_assets").mkdir()
        (self.project / "defect_assets" / "__init__.py").write_text("")
        (self.project / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.11"\n')
        self.config = self.project / "configs" / "C-01.yaml"
        self.lock = self.project / "requirements.lock"
        self.configure()
        self.lock.write_text(f"numpy=={metadata.version('numpy')}\n")
        commit_all(self.project)
        small.plain(self.home, "first", range(24))
        small.ingest(self.home, self.store, "first")
        small.cut(self.home, self.store)
        self.split()
        self.record_config()
        self.record_environment()

    def configure(self, **changes: object) -> None:
        self.config.write_text(yaml.safe_dump(SMALL | changes))

    def split(self) -> None:
        digest, _ = find_snapshot(self.store, "DS-1.0.0")
        self.name("splits/DS-1.0.0", split_snapshot(self.store, digest).model_dump(mode="json"))

    def record_config(self) -> None:
        self.name("configs/C-01", values_of(read_settings(self.config, TrainingConfig)))

    def record_environment(self) -> None:
        digest = record_environment(self.store, self.lock)
        self.store.publish("environment", Record(asset="python_environment", content=digest))

    def name(self, name: str, value: object) -> None:
        self.store.publish(name, Record(asset="x", content=self.store.objects.put_json(value)))

    def commit(self) -> None:
        commit_all(self.project)

    def path(self, key: str) -> Path:
        return self.home.root / "store" / key

    def failed(self, **changes: str) -> list[Finding]:
        plan = Plan(
            **{  # type: ignore[arg-type]
                "project": self.project,
                "store": self.home.store(),
                "home": self.home.root,
                "dataset": "DS-1.0.0",
                "config": "C-01",
                **changes,
            }
        )
        return [finding for finding in preflight(plan) if not finding.passed]

    def only(self, **changes: str) -> Finding:
        [finding] = self.failed(**changes)
        assert finding.mend
        return finding


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ready:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr(packs, "PACK_BYTES", 500)
    ready = Ready(tmp_path)
    assert ready.failed() == []
    return ready


# What makes a result unpinned: how to spoil it, what is said, how to mend it.

Work = Callable[[Ready], object]


def stash(ready: Ready) -> None:
    git(ready.project, "stash", "--include-untracked")


UNPINNED: dict[str, tuple[Work, str, Work]] = {
    "changed code": (
        lambda r: (r.project / "defect_assets" / "__init__.py").write_text("changed = 1\n"),
        "not as in commit .*: defect_assets/__init__.py",
        Ready.commit,
    ),
    "new code": (
        lambda r: (r.project / "defect_assets" / "new.py").write_text(""),
        "defect_assets/new.py",
        stash,
    ),
    "no repository": (
        lambda r: shutil.rmtree(r.project / ".git"),
        "not a git repository",
        Ready.commit,
    ),
    "recorded configuration": (
        lambda r: (r.configure(steps=7), r.commit()),
        "configs/C-01.yaml says something else than the store's C-01",
        Ready.record_config,
    ),
    "split policy": (
        lambda r: r.name(
            "splits/DS-1.0.0",
            (split := r.store.objects.get_json(r.store.content("splits/DS-1.0.0") or ""))
            | {"policy": split["policy"] | {"seed": 9}},
        ),
        "was split by another policy or seed",
        Ready.split,
    ),
    "no seed recorded": (
        lambda r: r.name(
            "configs/C-01",
            {
                k: v
                for k, v in values_of(TrainingConfig.model_validate(SMALL)).items()
                if k != "seed"
            },
        ),
        "has no seed",
        Ready.record_config,
    ),
    "installed packages": (
        lambda r: (r.lock.write_text("numpy==0.0.1\n"), r.commit(), r.record_environment()),
        "numpy .* instead of 0.0.1",
        lambda r: (
            r.lock.write_text(f"numpy=={metadata.version('numpy')}\n"),
            r.commit(),
            r.record_environment(),
        ),
    ),
    "recorded environment": (
        lambda r: (r.lock.write_text(r.lock.read_text() + "\n"), r.commit()),
        "the store records another environment",
        Ready.record_environment,
    ),
    "Python": (
        lambda r: (
            (r.project / "pyproject.toml").write_text('[project]\nrequires-python = ">=9"\n'),
            r.commit(),
        ),
        "this is Python 3.* not >=9",
        lambda r: git(r.project, "reset", "--hard", "HEAD~1"),
    ),
}


@pytest.mark.parametrize("case", UNPINNED)
def test_what_nobody_could_look_up_is_refused_or_waived(ready: Ready, case: str) -> None:
    spoil, says, mend = UNPINNED[case]
    spoil(ready)
    found = ready.failed()
    assert found
    assert all(finding.waivable and finding.mend for finding in found)
    with pytest.raises(AssertionError, match=says):
        assert not found, "\n".join(f.wrong for f in found)
    assert "--allow-unpinned" in refusal(found, allow_unpinned=False)
    assert refusal(found, allow_unpinned=True) == ""
    mend(ready)
    assert ready.failed() == []


def test_a_configuration_that_is_not_committed_is_named(ready: Ready) -> None:
    ready.configure(steps=9)
    ready.record_config()
    code, config = ready.failed()
    assert "configs/C-01.yaml" in code.wrong
    assert config.wrong == "configs/C-01.yaml is not committed as it is"
    git(ready.project, "add", "configs/C-01.yaml")
    assert len(ready.failed()) == 2  # as long as it is not committed
    ready.commit()
    assert ready.failed() == []


def test_a_lock_that_is_not_committed_is_named(ready: Ready) -> None:
    ready.lock.write_text(ready.lock.read_text() + "\n")
    ready.record_environment()
    assert "requirements.lock is not committed as it is" in [f.wrong for f in ready.failed()]
    ready.commit()
    assert ready.failed() == []


# What makes a training impossible, or worthless.


def one_pack(ready: Ready) -> Path:
    [index, *_] = ready.store.backend.entries("indexes")
    return ready.path(
        object_key(min(packs.packs_in(packs.read_index(ready.store.backend, index.key))))
    )


def a_pack(ready: Ready) -> Path:
    return ready.path(object_key(min(ready.store.objects.packs.packs())))


def moved_aside(ready: Ready, path: Path, tmp_path: Path) -> Callable[[], object]:
    shutil.move(path, tmp_path / "aside")
    return lambda: shutil.move(tmp_path / "aside", path)


def a_table(ready: Ready) -> Path:
    split = ready.store.objects.get_json(ready.store.content("splits/DS-1.0.0") or "")
    return ready.path(table_key(split["rows"]))


def a_header(ready: Ready) -> Path:
    return ready.path(object_key(ready.store.content("batches/first") or ""))


def a_split(ready: Ready) -> Path:
    return ready.path("refs/splits/DS-1.0.0")


def a_snapshot(ready: Ready) -> Path:
    return ready.path("refs/datasets/DS-1.0.0")


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (a_pack, "it is gone, and tables/"),
        (a_table, "it is gone, and objects/"),
        (a_header, "it is gone, and "),
        (a_split, "DS-1.0.0 is not split yet"),
        (a_snapshot, "there is no dataset DS-1.0.0; known: none"),
    ],
)
def test_without_its_data_nothing_is_trained(
    ready: Ready, where: Callable[[Ready], Path], says: str, tmp_path: Path
) -> None:
    mend = moved_aside(ready, where(ready), tmp_path)
    finding = ready.only()
    assert says in finding.wrong
    assert not finding.waivable
    assert "--allow-unpinned" not in refusal([finding], allow_unpinned=False)
    assert says in refusal([finding], allow_unpinned=True)
    mend()
    assert ready.failed() == []


@pytest.mark.parametrize("where", [a_header, a_table, a_split])
def test_damaged_data_are_found(ready: Ready, where: Callable[[Ready], Path]) -> None:
    path = where(ready)
    sound = path.read_bytes()
    small.damage(path, at=5)
    assert any(not finding.waivable for finding in ready.failed())
    path.write_bytes(sound)
    assert ready.failed() == []


def test_a_table_that_is_another_table_is_found(ready: Ready) -> None:
    one = a_table(ready)
    other = next(p for p in ready.path("tables").rglob("*") if p.is_file() and p != one)
    sound = one.read_bytes()
    one.chmod(0o644)
    one.write_bytes(other.read_bytes())
    assert "is not this table" in ready.only().wrong
    one.write_bytes(sound)
    assert ready.failed() == []


def test_a_split_of_another_snapshot_is_of_no_use(ready: Ready) -> None:
    small.plain(ready.home, "second", range(24, 30))
    small.ingest(ready.home, ready.store, "second")
    snapshot = small.cut(ready.home, ready.store)
    assert snapshot is not None
    ready.store.publish(
        f"splits/{snapshot.id}",
        Record(asset="x", content=ready.store.content("splits/DS-1.0.0") or ""),
    )
    assert "is one of another snapshot" in ready.only(dataset=snapshot.id).wrong


def test_what_was_lost_of_older_versions_is_in_nobodys_way(ready: Ready) -> None:
    small.plain(ready.home, "second", range(24, 30))
    small.ingest(ready.home, ready.store, "second")
    snapshot = small.cut(ready.home, ready.store)
    assert snapshot is not None
    digest = ready.store.content(f"datasets/{snapshot.id}")
    assert digest is not None
    ready.name(f"splits/{snapshot.id}", split_snapshot(ready.store, digest).model_dump(mode="json"))
    older = find_snapshot(ready.store, "DS-1.0.0")[1]
    ready.path(table_key(older.changes)).unlink()
    assert ready.failed(dataset=snapshot.id) == []
    assert ready.failed() != []


def test_an_unknown_configuration_is_refused(ready: Ready) -> None:
    found = ready.failed(config="C-09")
    assert [f.wrong for f in found if f.waivable] == []
    assert "C-09 is not in the store" in found[0].wrong
    assert "C-09.yaml" in found[1].wrong


def test_a_configuration_that_is_none_is_refused(ready: Ready) -> None:
    ready.config.write_text("stesp: 3\n")
    ready.commit()
    finding = ready.only()
    assert "stesp" in finding.wrong
    assert not finding.waivable
    ready.configure()
    ready.commit()
    assert ready.failed() == []


def test_a_recorded_configuration_that_this_code_does_not_know_is_refused(ready: Ready) -> None:
    ready.name("configs/C-01", SMALL | {"momentum": 0.9})
    assert "the store's C-01: momentum" in next(f for f in ready.failed() if not f.waivable).wrong
    ready.record_config()
    assert ready.failed() == []


def test_a_training_that_is_not_deterministic_is_unpinned(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loose(TrainingConfig):
        deterministic: bool = False

    with monkeypatch.context() as patched:
        patched.setattr(Plan, "read_config", lambda plan: Loose.model_validate(SMALL))
        finding = ready.only()
    assert "does not train deterministically" in finding.wrong
    assert finding.waivable
    assert ready.failed() == []


def test_a_network_that_cannot_be_built_is_refused(ready: Ready) -> None:
    ready.configure(architecture={"name": "unet", "encoder": "resnot34"})
    ready.commit()
    ready.record_config()
    assert "the network cannot be built" in ready.only().wrong


def test_too_little_memory_is_refused(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    free = namedtuple("free", "available")
    with monkeypatch.context() as little:
        little.setattr(psutil, "virtual_memory", lambda: free(10**8))
        finding = ready.only()
    assert "0.1 GB of memory are free, it takes 0.5 GB" in finding.wrong
    assert not finding.waivable
    assert ready.failed() == []


def test_a_full_disk_is_refused(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    free = namedtuple("free", "free")
    with monkeypatch.context() as little:
        little.setattr(shutil, "disk_usage", lambda path: free(10**5))
        finding = ready.only()
    assert f"are free on the disk of {ready.home.root}" in finding.wrong
    assert not finding.waivable
    assert ready.failed() == []


def test_a_gpu_that_is_not_there_is_refused(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finding = ready.only(accelerator="cuda")
    assert "a GPU is asked for" in finding.wrong
    assert not finding.waivable
    ready.configure(precision="16-mixed")
    ready.commit()
    ready.record_config()
    assert "16-mixed takes a GPU" in ready.only().wrong
    ready.configure(precision="32-true")
    ready.commit()
    ready.record_config()
    assert ready.failed() == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1, 2))
    assert "of the GPU's memory are free" in ready.only().wrong
    assert ready.failed(accelerator="cpu") == []


def test_what_is_needed_grows_with_the_images_and_the_network() -> None:
    config = TrainingConfig.model_validate(SMALL)
    little, much = capacity.needs(config, 10, 2), capacity.needs(config, 10_000, 2)
    assert much.memory - little.memory == 2 * 9_990 * 64 * 64 * 2
    assert much.disk > little.disk
    wider = TrainingConfig.model_validate(SMALL | {"architecture": {"widths": [64, 128]}})
    assert capacity.needs(wider, 10, 2) > little


def test_an_experiment_in_training_is_refused_until_it_ends(ready: Ready) -> None:
    with reserve(ready.store.backend, "experiments/DS-1.0.0/C-01", "run 1"):
        finding = ready.only()
        assert "is making experiments/DS-1.0.0/C-01" in finding.wrong
        assert "wait until it is done" in finding.mend
        assert not finding.waivable
    assert ready.failed() == []


def test_looking_changes_nothing(ready: Ready) -> None:
    before = sorted(p for p in ready.home.root.rglob("*") if "leases" not in str(p))
    ready.failed()
    assert sorted(p for p in ready.home.root.rglob("*") if "leases" not in str(p)) == before
    assert git(ready.project, "status", "--porcelain") == ""
