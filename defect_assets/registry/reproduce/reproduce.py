"""Making a release again: its commit, data, configuration, environment and seed, trained anew.

On the same kind of machine the bundle must come out the same, to the last bit. On another one, or
where the environment cannot be made the same, rounding differs, and with it the weights: then both
models are tested on the test split by the evaluation of today, and must agree within a tolerance.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import read_part, read_split
from defect_assets.errors import UserError
from defect_assets.inference.bundle import HISTORY, WEIGHTS, bundle_digest, read_spec
from defect_assets.registry.environment import Environment
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.release.releases import Release, find_release, releases
from defect_assets.registry.reproduce import retraining
from defect_assets.registry.reproduce.elsewhere import ScriptFailed, run_script
from defect_assets.registry.reproduce.reproduction import TOLERANCE, Compared, Reproduction
from defect_assets.registry.reproduce.scratch_environment import recorded_environment
from defect_assets.registry.reproduce.worktrees import worktree
from defect_assets.registry.subjects import find_subject
from defect_assets.store import Digest, Record, Store, canonical_json, digest_of
from defect_assets.store.objects import write_tree

SCORES = ("dice", "iou", "macro_dice", "region_recall", "image_auroc")
"""The scores that must agree where the bundle need not be the same."""
MACHINE = ("device", "processor", "threads", "processes", "precision")
"""What of a machine decides how sums are rounded; as the records of trainings call it."""
_REASON = 6
"""Lines of what a failed training said that are passed on."""


class NotReproducible(UserError):
    """A release that cannot be trained again; the message says what it lacks."""


@dataclass(frozen=True)
class Place:
    """Where to train again.

    Parameters
    ----------
    store
        Where the release lies. Nothing is written to it.
    url, cache
        How another process opens it.
    project
        A checkout whose repository has the commit.
    environments
        The folder for environments that are made.
    scratch
        The folder for images at the network's resolution and the training's state, which an
        interrupted attempt leaves to the next one, and for a bundle that came out another one.
    """

    store: Store
    url: str
    cache: Path
    project: Path
    environments: Path
    scratch: Path


def reproduce(
    place: Place,
    release_id: str,
    tolerance: float = TOLERANCE,
    say: Callable[[str], None] = lambda message: None,
) -> Reproduction:
    """Train a release again by the code of its commit, and compare.

    Parameters
    ----------
    place
        Where.
    release_id
        E.g. ``v1.4.2``.
    tolerance
        By how much scores may differ where the machine or the environment does.
    say
        Is told of progress.

    Raises
    ------
    NotReproducible
        If the release or its record lacks something, or its code cannot be run in this way.
    UnknownCommit
        If the repository does not have the commit.
    EnvironmentFailed
        If the environment cannot be made.
    NotInStore, Corrupted
        If the store lacks something.
    """
    store = place.store
    release = find_release(store, release_id)
    if release is None:
        known = ", ".join(found.id for found in releases(store)) or "none"
        raise NotReproducible(f"there is no release {release_id}; known: {known}")
    model = find_subject(store, release_id).model
    parents = _parents(release, model)
    recorded = Environment.model_validate(store.objects.get_json(parents["python_environment"]))
    environment = recorded_environment(
        store, parents["python_environment"], place.environments, say
    )
    say(
        "the present environment is the recorded one"
        if environment.present
        else f"using {environment.python.parents[1]}"
    )
    scratch = place.scratch / release_id
    with worktree(place.project, model.commit) as code:
        say(f"training by the code of {model.commit[:12]}")
        found = _retrain(place, environment.python, code, scratch, release.config, model, say)
        lock = code / "requirements.lock"
        committed_lock = digest_of(lock.read_bytes()) if lock.exists() else "none"
    made = scratch / retraining.MODEL
    surroundings = [*_environments(recorded, found), *_machines(model, found)]
    compared = (
        Compared(what="commit", recorded=model.commit, found=model.commit),
        Compared(what="code that trains", recorded=model.code_version, found=found["code_version"]),
        Compared(what="configuration", recorded=parents["training_config"], found=found["config"]),
        Compared(
            what="split, divided anew", recorded=parents["dataset_split"], found=found["split"]
        ),
        Compared(what="lock in the commit", recorded=recorded.lock, found=committed_lock),
        *surroundings,
        *_bundles(store, release, made),
    )
    same_bundle = bundle_digest(made) == release.bundle
    scores = {}
    if not same_bundle:
        say("the bundle came out another one: testing both")
        scores = _scores(store, release, made, parents["dataset_split"])
    _tidy(scratch, same_bundle)
    return Reproduction(
        release=release_id,
        compared=compared,
        same_machine=all(pair.equal for pair in surroundings),
        same_bundle=same_bundle,
        scores=scores,
        tolerance=tolerance,
    )


def _parents(release: Release, model: Record) -> dict[str, Digest]:
    """Return what a model was made of, if that can be looked up.

    Raises
    ------
    NotReproducible
        If its record does not say it, or it was trained unpinned.
    """
    reasons = why_unpinned(model)
    if not model.commit or model.commit.endswith("+"):
        reasons.append("its code was not committed")
    needed = ("dataset_split", "training_config", "python_environment")
    reasons += [f"its record names no {stage}" for stage in needed if stage not in model.parents]
    if reasons:
        raise NotReproducible(f"{release.id} cannot be made again: {'; '.join(reasons)}")
    return model.parents


def _retrain(
    place: Place,
    python: Path,
    code: Path,
    scratch: Path,
    config: str,
    model: Record,
    say: Callable[[str], None],
) -> retraining.Found:
    """Train by the code in a folder; the bundle is in the scratch folder then."""
    environment = Environment.model_validate(
        place.store.objects.get_json(model.parents["python_environment"])
    )
    device = model.details.get("device", "cpu")
    hardware = {
        "accelerator": "cpu" if device == "cpu" else "auto",
        "devices": model.details.get("processes", 1),
    }
    deciding = [model.commit, sorted(model.parents.items()), hardware]
    with tempfile.TemporaryDirectory(prefix="defect-reproduce-") as temporary:
        folder = Path(temporary)
        lock = folder / "requirements.lock"
        lock.write_bytes(place.store.objects.get(environment.lock))
        task: retraining.Task = {
            "code": str(code),
            "store": place.url,
            "cache": str(place.cache),
            "split": model.parents["dataset_split"],
            "config": model.parents["training_config"],
            "config_file": f"configs/{config}.yaml",
            "lock": str(lock),
            "hardware": hardware,
            "identity": digest_of(canonical_json(deciding)),
            "scratch": str(scratch),
        }
        (folder / retraining.TASK).write_text(json.dumps(task))
        _run(python, code, folder, say)
        shutil.rmtree(scratch / retraining.MODEL, ignore_errors=True)
        shutil.move(folder / retraining.MODEL, scratch / retraining.MODEL)
        found: retraining.Found = json.loads((folder / retraining.FOUND).read_text())
    return found


def _run(python: Path, code: Path, folder: Path, say: Callable[[str], None]) -> None:
    try:
        run_script(python, Path(retraining.__file__), code, folder, say)
    except ScriptFailed as error:
        said = "\n".join(error.said[-_REASON:])
        if error.status == retraining.TOO_OLD:
            raise NotReproducible(
                "the code of its commit lacks something that is needed to train it from here: "
                f"check the commit out, and train there. It says:\n{said}"
            ) from error
        raise NotReproducible(f"the training failed, which says:\n{said}") from error


def _environments(recorded: Environment, found: retraining.Found) -> Iterator[Compared]:
    """Yield how the environments compare as a whole, and then what differs."""
    there = Environment.model_validate(found["environment"])
    one, other = (
        {**e.model_dump(mode="json", exclude={"packages"}), **e.packages} for e in (recorded, there)
    )
    yield Compared(
        what="environment",
        recorded=digest_of(canonical_json(recorded.model_dump(mode="json"))),
        found=digest_of(canonical_json(there.model_dump(mode="json"))),
    )
    for name in [*one, *(other.keys() - one.keys())]:
        if one.get(name) != other.get(name):
            yield Compared(what=name, recorded=str(one.get(name)), found=str(other.get(name)))


def _machines(model: Record, found: retraining.Found) -> Iterator[Compared]:
    for name in MACHINE:
        was, is_now = (str(d.get(name, "unknown")) for d in (model.details, found["record"]))
        yield Compared(what=name, recorded=was, found=is_now)


def _bundles(store: Store, release: Release, made: Path) -> Iterator[Compared]:
    """Yield how the files of the bundles compare, and the thresholds."""
    files = store.objects.get_json(release.bundle)
    for name, what in ((WEIGHTS, "weights"), (HISTORY, "training curves")):
        found = digest_of((made / name).read_bytes())
        yield Compared(what=what, recorded=files.get(name, "none"), found=found)
    with tempfile.TemporaryDirectory() as folder:
        write_tree(store.objects.get_tree(release.bundle), Path(folder))
        was, is_now = (
            str(read_spec(place).postprocessing.threshold) for place in (Path(folder), made)
        )
    yield Compared(what="threshold", recorded=was, found=is_now)
    yield Compared(what="bundle", recorded=release.bundle, found=bundle_digest(made))


def _scores(
    store: Store, release: Release, made: Path, split: Digest
) -> dict[str, tuple[float | None, float | None]]:
    """Test the released and the new model on the test split by today's evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        write_tree(store.objects.get_tree(release.bundle), Path(folder))
        one, other = (_tested(store, bundle, split) for bundle in (Path(folder), made))
    return {name: (one.get(name), other.get(name)) for name in SCORES}


def _tested(store: Store, bundle: Path, digest: Digest) -> dict[str, float | None]:
    from defect_assets.evaluation.evaluate import evaluate
    from defect_assets.evaluation.metrics import summarize
    from defect_assets.inference.detector import Detector

    split = read_split(store, digest)
    description = read_snapshot(store, split.snapshot).description
    detector = Detector.load(bundle)
    table = evaluate(detector, read_part(store, split, "test"), description).images
    return summarize(table, detector.spec.class_map.values()).model_dump(include=set(SCORES))


def _tidy(scratch: Path, same_bundle: bool) -> None:
    """Remove what only an interrupted attempt should leave, and a bundle that is there already."""
    if same_bundle:
        shutil.rmtree(scratch)
        return
    for path in scratch.iterdir():
        if path.name == retraining.MODEL:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
