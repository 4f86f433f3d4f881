"""The state of a training, kept on disk so that an interrupted one goes on."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import torch

_log = logging.getLogger(__name__)


class Checkpoint:
    """One training's state, in one file; it is the old one or the new one, never half of one.

    Parameters
    ----------
    folder
        Where the file lies. What else is found out about the training lies there, too.
    identity
        All that decides the training: data, configuration, code, environment, hardware. The state
        of a training of another identity is not taken up.
    minutes
        How often to save.
    """

    def __init__(self, folder: Path, identity: str, minutes: float = 2) -> None:
        self.folder = folder
        self._identity = identity
        self._interval = minutes * 60
        self._saved = time.monotonic()

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / "checkpoint.pt"

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved >= self._interval

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state instead of the one before; where the disk is full, keep the one before."""
        self._saved = time.monotonic()
        partial = self.path.with_suffix(".partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save({"identity": self._identity, "state": state}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch's writer has its own error
            partial.unlink(missing_ok=True)
            _log.warning("no checkpoint was saved in %s: %s", self.folder, error)

    def load(self) -> dict[str, Any] | None:
        """Return the state to go on from, or None where there is none of this training."""
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with the file, the training starts anew
            _log.warning("the checkpoint in %s cannot be read: %s", self.folder, error)
            return None
        state: dict[str, Any] = kept["state"]
        return state if kept["identity"] == self._identity else None

    def remove(self) -> None:
        """Forget the state: the training's result is kept elsewhere."""
        self.path.unlink(missing_ok=True)
