"""Where a recipe is followed: here, or with the code of another commit, or in another environment.

Here is only what has this very code and these very packages. What differs in either is trained and
looked at by another process: in a scratch worktree of the commit, by an interpreter that has the
recorded packages.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from defect_assets.errors import UserError
from defect_assets.registry.checkout import NoCheckout
from defect_assets.registry.code import code_version
from defect_assets.registry.reproduce.elsewhere import ScriptFailed, run_script
from defect_assets.registry.reproduce.scratch_environment import (
    EnvironmentFailed,
    recorded_environment,
)
from defect_assets.registry.reproduce.worktrees import UnknownCommit, worktree
from defect_assets.registry.triage import trial
from defect_assets.registry.triage.recipes import Recipe
from defect_assets.settings import explain
from defect_assets.store import Digest, Store
from defect_assets.store.objects import write_tree

if TYPE_CHECKING:
    from defect_assets.inference.postprocessing import Analysis

_ROOT = Path(__file__).resolve().parents[3]


class CannotFollow(UserError):
    """A recipe that cannot be followed here; the message says why."""


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    files: dict[str, bytes]
    """The bundle."""
    record: dict[str, Any]
    """See `defect_assets.training.loop.TrainingResult`."""


@dataclass(frozen=True)
class Place:
    """Code and an interpreter."""

    python: Path
    code: Path
    """The folder in which the package lies."""

    @property
    def is_here(self) -> bool:
        """Whether it is what this process has."""
        return self.python == Path(sys.executable) and self.code == _ROOT


@dataclass(frozen=True)
class Workshop:
    """Follows recipes.

    Parameters
    ----------
    store
        Where data and models lie.
    url
        How other processes open it.
    project
        The checkout whose repository has the commits.
    fitted
        The folder for images at the network's resolution.
    states
        The folder for the state of trainings, to go on from.
    environments
        The folder for environments that are made.
    """

    store: Store
    url: str
    project: Path
    fitted: Path
    states: Path
    environments: Path

    def train(self, recipe: Recipe, say: Callable[[str], None]) -> Trained:
        """Train a model; an interrupted training goes on.

        Raises
        ------
        CannotFollow
            If its code or its environment cannot be had, or the code does not know what the
            configuration asks for, or the training diverges.
        """
        state = self.states / recipe.key
        task: trial.Training = {
            "store": self.url,
            "split": recipe.split,
            "config": self.store.objects.get_json(recipe.config),
            "code_version": recipe.code_version,
            "fitted": str(self.fitted),
            "state": str(state),
            "identity": recipe.key,
        }
        with self._place(recipe, say) as place, tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            if place.is_here:
                _train_here(folder, task, say)
            else:
                _run(place, folder, {**task}, say)
            model = folder / trial.MODEL
            trained = Trained(
                {path.name: path.read_bytes() for path in sorted(model.iterdir())},
                json.loads((folder / trial.RECORD).read_text()),
            )
        (state / "checkpoint.pt").unlink(missing_ok=True)
        return trained

    def look(
        self, recipe: Recipe, bundle: Digest, images: Sequence[Digest], say: Callable[[str], None]
    ) -> Iterator[Analysis]:
        """Yield what a model finds in some images, with the code that it was made with.

        Raises
        ------
        CannotFollow
            If its code or its environment cannot be had.
        """
        import numpy as np

        from defect_assets.inference.postprocessing import Analysis

        task: trial.Looking = {
            "store": self.url,
            "code_version": recipe.code_version,
            "images": list(images),
        }
        with self._place(recipe, say) as place, tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_tree(self.store.objects.get_tree(bundle), folder / trial.MODEL)
            if place.is_here:
                trial.look(folder, task, say)
            else:
                _run(place, folder, {**task}, say)
            for i in range(len(images)):
                with np.load(folder / f"{i}.npz") as found:
                    verdict: Any = str(found["verdict"])
                    yield Analysis(verdict, [], found["mask"], found["probability"])

    @contextmanager
    def _place(self, recipe: Recipe, say: Callable[[str], None]) -> Iterator[Place]:
        with ExitStack() as stack:
            try:
                made = recorded_environment(self.store, recipe.environment, self.environments, say)
                if made.differs:
                    differs = ", ".join(f"{n} {b} → {a}" for n, (b, a) in made.differs.items())
                    raise CannotFollow(f"its environment cannot be made here: {differs}")
                code = _ROOT
                if code_version(trial.STAGE) != recipe.code_version:
                    if not recipe.commit:
                        raise CannotFollow("its code is in no commit")
                    code = stack.enter_context(worktree(self.project, recipe.commit.rstrip("+")))
            except (UnknownCommit, NoCheckout, EnvironmentFailed) as error:
                raise CannotFollow(str(error)) from error
            yield Place(made.python, code)


def _train_here(folder: Path, task: trial.Training, say: Callable[[str], None]) -> None:
    from defect_assets.training.experiment import ConfigMismatch
    from defect_assets.training.loop import TrainingDiverged

    try:
        trial.train(folder, task, say)
    except ValidationError as error:
        raise CannotFollow(
            f"this code does not know the configuration: {explain(error)}"
        ) from error
    except (ConfigMismatch, TrainingDiverged) as error:
        raise CannotFollow(str(error)) from error


def _run(place: Place, folder: Path, task: dict[str, Any], say: Callable[[str], None]) -> None:
    """Follow a task in another process; pass on what it says.

    Raises
    ------
    CannotFollow
        If it fails, with the last that it said.
    """
    (folder / trial.TASK).write_text(json.dumps(task))
    try:
        run_script(place.python, Path(trial.__file__), place.code, folder, say)
    except ScriptFailed as error:
        raise CannotFollow(f"with its own code it fails, which says: {error}") from error
