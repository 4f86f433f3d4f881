"""Preflight: what must hold before a model is trained, so that it can be looked up and made again.

Some findings make a result *unpinned*: it can be trained, for exploration, but never released.
The others make a training impossible, or worthless, and nobody can waive them.
"""

import platform
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from packaging.specifiers import SpecifierSet
from pydantic import BaseModel, ConfigDict

from defect_assets.dataset import snapshot as snapshots
from defect_assets.dataset.snapshot import UnknownDataset, find_snapshot
from defect_assets.dataset.split import REF as SPLITS
from defect_assets.dataset.split import read_split
from defect_assets.registry.capacity import needs
from defect_assets.registry.checkout import NoCheckout, read_checkout
from defect_assets.registry.configs import REF as CONFIGS
from defect_assets.registry.configs import digest_of_config
from defect_assets.registry.environment import digest_of_environment, drift
from defect_assets.registry.plan import Plan
from defect_assets.settings import SettingsError, read_settings
from defect_assets.store import Corrupted, NotInStore
from defect_assets.store.reservations import held_by
from defect_assets.store.verify import missing_or_damaged
from defect_assets.training.config import TrainingConfig


class Finding(BaseModel):
    """What one look at one thing came to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checked: str
    """What should hold, e.g. ``the code is a clean commit``."""
    wrong: str = ""
    """What is wrong; empty where nothing is."""
    mend: str = ""
    """What a person can do about it."""
    waivable: bool = False
    """Whether one may train all the same, unpinned."""

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return not self.wrong

    def __str__(self) -> str:
        if self.passed:
            return f"✓ {self.checked}"
        return f"✗ {self.checked}: {self.wrong}\n    mend it: {self.mend}"


class _Problem(NamedTuple):
    wrong: str
    mend: str
    waivable: bool = False


def preflight(plan: Plan) -> list[Finding]:
    """Look at all that must hold before a training, and say of each how it stands.

    Changes nothing; the store is read, but for the images.

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    """
    findings = []
    for checked, look in _CHECKS.items():
        try:
            problems = list(look(plan))
        except (Corrupted, NotInStore) as error:
            problems = [_Problem(str(error), _REPAIR)]
        if not problems:
            findings.append(Finding(checked=checked))
        findings += [Finding(checked=checked, **problem._asdict()) for problem in problems]
    return findings


def refusal(findings: list[Finding], allow_unpinned: bool) -> str:
    """Return why a training may not begin, with all that is to be mended; empty where it may."""
    failed = [finding for finding in findings if not finding.passed]
    if all(allow_unpinned and finding.waivable for finding in failed):
        return ""
    lines = ["preflight refuses to train:", *map(str, failed)]
    if not allow_unpinned and all(finding.waivable for finding in failed):
        lines.append(
            "Or explore without: defect-assets repro --allow-unpinned, in Dagster's launchpad "
            "allow_unpinned: true. What comes of that is marked unpinned, and is never released."
        )
    return "\n".join(lines)


_REPAIR = "run defect-assets verify --repair-from STORE, with a copy of the store"
_RUN = "defect-assets repro does it on its way"


def _code(plan: Plan) -> Iterator[_Problem]:
    try:
        checkout = read_checkout(plan.project)
    except NoCheckout as error:
        yield _Problem(str(error), "clone the repository, and run from the clone", True)
        return
    if checkout.changed:
        yield _Problem(
            f"not as in commit {checkout.commit[:12]}: {_some(checkout.changed)}",
            "git add and git commit them, or git stash --include-untracked",
            True,
        )


def _data(plan: Plan) -> Iterator[_Problem]:
    store, dataset = plan.store, plan.dataset
    try:
        digest, snapshot = find_snapshot(store, dataset)
    except UnknownDataset as error:
        yield _Problem(str(error), f"cut it: defect-assets cut; {_RUN}")
        return
    names = [f"{snapshots.REF}{dataset}"]
    record = store.record(f"{SPLITS}{dataset}")
    if record is None:
        yield _Problem(f"{dataset} is not split yet", f"materialize dataset_split first; {_RUN}")
    else:
        names.append(f"{SPLITS}{dataset}")
        if read_split(store, record.content).snapshot != digest:
            yield _Problem(
                f"the split of {dataset} is one of another snapshot",
                f"materialize dataset_split again; {_RUN}",
            )
    # What was before is of no use to this training.
    past = [d for d in (snapshot.parent, record.previous if record else None) if d]
    damages = missing_or_damaged(store, names, but=past)
    if damages:
        yield _Problem(_some([f"{d.key}: {d.reason}" for d in damages]), _REPAIR)


def _config(plan: Plan) -> Iterator[_Problem]:
    file = plan.config_file
    recorded = plan.store.content(f"{CONFIGS}{plan.config}")
    if recorded is None:
        yield _Problem(
            f"{plan.config} is not in the store", f"materialize training_config first; {_RUN}"
        )
    try:
        plan.read_config()
    except SettingsError as error:
        yield _Problem(str(error), f"materialize training_config again; {_RUN}")
    try:
        config = read_settings(plan.project / file, TrainingConfig)
    except SettingsError as error:
        yield _Problem(str(error), f"write it as {file}, as its neighbours are")
        return
    if recorded not in (None, digest_of_config(config)):
        yield _Problem(
            f"{file} says something else than the store's {plan.config}",
            f"materialize training_config again; {_RUN}",
            True,
        )
    if not _committed(plan, file):
        yield _Problem(f"{file} is not committed as it is", f"git add {file} && git commit", True)


def _seeds(plan: Plan) -> Iterator[_Problem]:
    if data := plan.read_data():
        split, snapshot = data
        if split.policy != snapshot.description.split:
            yield _Problem(
                f"{plan.dataset} was split by another policy or seed than it is described with",
                f"materialize dataset_split again; {_RUN}",
                True,
            )
    config = _readable_config(plan)
    if config is None:
        return
    if "seed" not in config.model_fields_set:
        yield _Problem(
            f"the store's {plan.config} has no seed",
            f"materialize training_config again; {_RUN}",
            True,
        )
    if not getattr(config, "deterministic", True):
        yield _Problem(
            f"{plan.config} does not train deterministically",
            f"set deterministic: true in {plan.config_file}, and commit it",
            True,
        )


def _environment(plan: Plan) -> Iterator[_Problem]:
    lock = plan.project / "requirements.lock"
    if not lock.exists():
        yield _Problem(f"there is no {lock}", "run from a clone of the repository", True)
        return
    project = tomllib.loads((plan.project / "pyproject.toml").read_text())["project"]
    if not SpecifierSet(project["requires-python"]).contains(platform.python_version()):
        yield _Problem(
            f"this is Python {platform.python_version()}, not {project['requires-python']}",
            "make clean, then make venv PYTHON=python3.12 or another that fits",
            True,
        )
    different = [
        f"{name} {installed} instead of {locked}"
        for name, (locked, installed) in drift(lock).items()
    ]
    if different:
        yield _Problem(_some(different), "touch requirements.lock && make venv", True)
    if not _committed(plan, lock.name):
        yield _Problem(
            f"{lock.name} is not committed as it is", f"git add {lock.name} && git commit", True
        )
    if plan.store.content("environment") != digest_of_environment(lock):
        yield _Problem(
            "the store records another environment than this one, or none",
            f"materialize python_environment; {_RUN}",
            True,
        )


def _reservation(plan: Plan) -> Iterator[_Problem]:
    held = held_by(plan.store.backend, plan.experiment)
    if held:
        yield _Problem(*held)


def _capacity(plan: Plan) -> Iterator[_Problem]:
    data, config = plan.read_data(), _readable_config(plan)
    if data is None or config is None:
        return  # which is said already
    split, snapshot = data
    images = sum(sum(split.counts[part].values()) for part in ("train", "val"))
    try:
        wanted = needs(config, images, len(snapshot.description.classes))
    except ValueError as error:
        mend = f"choose another in {plan.config_file}"
        yield _Problem(f"the network cannot be built: {error}", mend)
        return
    smaller = f"or lower input height and width in {plan.config_file}"
    memory = psutil.virtual_memory().available
    if memory < wanted.memory:
        yield _Problem(
            f"{_gigabytes(memory)} of memory are free, it takes {_gigabytes(wanted.memory)}",
            f"end other programs, {smaller}",
        )
    disk = shutil.disk_usage(_existing(plan.home)).free
    if disk < wanted.disk:
        yield _Problem(
            f"{_gigabytes(disk)} are free on the disk of {plan.home}, it takes "
            f"{_gigabytes(wanted.disk)}",
            f"make room there, e.g. with defect-assets gc --delete, {smaller}",
        )
    yield from _gpu(plan, config, wanted.gpu)


def _gpu(plan: Plan, config: TrainingConfig, wanted: int) -> Iterator[_Problem]:
    import torch

    there = torch.cuda.is_available() and plan.accelerator != "cpu"
    if not there and plan.accelerator in ("cuda", "gpu"):
        yield _Problem("a GPU is asked for, and PyTorch finds none", "train where there is one")
    if not there and config.precision == "16-mixed":
        yield _Problem(
            "precision 16-mixed takes a GPU, and there is none, or it is not used",
            f"train where there is one, or set precision: auto in {plan.config_file}",
        )
    if there and (free := torch.cuda.mem_get_info()[0]) < wanted:
        yield _Problem(
            f"{_gigabytes(free)} of the GPU's memory are free, it takes {_gigabytes(wanted)}",
            "end what else uses it: nvidia-smi lists it",
        )


_CHECKS: dict[str, Callable[[Plan], Iterator[_Problem]]] = {
    "the code is a clean commit": _code,
    "the snapshot and its split are whole": _data,
    "the configuration is committed and recorded": _config,
    "seeds are fixed": _seeds,
    "the environment is the locked one": _environment,
    "nobody else is training it": _reservation,
    "memory, disk and GPU suffice": _capacity,
}


def _readable_config(plan: Plan) -> TrainingConfig | None:
    """Return the recorded configuration. That there is none is said of the configuration."""
    try:
        return plan.read_config()
    except SettingsError:
        return None


def _committed(plan: Plan, file: str) -> bool:
    """Tell whether a file is committed as it is. That there is no commit is said of the code."""
    try:
        return read_checkout(plan.project).holds(file)
    except NoCheckout:
        return True


def _some(things: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(things) - 5} more" if len(things) > 5 else ""
    return ", ".join(things[:5]) + more


def _existing(folder: Path) -> Path:
    """Return a folder, or the first above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
