"""One training, or one look at some images, with whatever code of this package is found first.

As a script it is run with the path of another commit and perhaps by another interpreter, so what it
calls must have been there then: `train_on_split` and `Checkpoint`, `Detector`, `decode_image`,
`code_version` and the store. What goes in and out lies in a folder:

- ``task.json``: what is to be done, see `Training` and `Looking`
- ``model/``: the bundle, which a training writes and a look reads
- ``record.json``: what the training says of itself
- ``0.npz``, ``1.npz`` …: of each image mask, probability and verdict
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

TASK, MODEL, RECORD = "task.json", "model", "record.json"
STAGE = "training.experiment"


class Training(TypedDict):
    """What to train."""

    store: str
    """How the store is opened."""
    split: str
    config: dict[str, Any]
    """Its values."""
    code_version: str
    """Which code it has to be."""
    fitted: str
    """The folder for images at the network's resolution."""
    state: str
    """The folder of the checkpoint."""
    identity: str
    """See `defect_assets.training.checkpoint.Checkpoint`."""


class Looking(TypedDict):
    """What to look at."""

    store: str
    code_version: str
    images: list[str]
    """Digests."""


def train(folder: Path, task: Training, say: Callable[[str], None]) -> None:
    """Train, and write the bundle and what the training says of itself."""
    _check(task["code_version"])
    from defect_assets.dataset.split import read_split
    from defect_assets.store import open_store
    from defect_assets.training.checkpoint import Checkpoint
    from defect_assets.training.config import TrainingConfig
    from defect_assets.training.experiment import train_on_split

    store = open_store(task["store"])
    model = train_on_split(
        store,
        read_split(store, task["split"]),
        TrainingConfig.model_validate(task["config"]),
        Path(task["fitted"]),
        checkpoint=Checkpoint(Path(task["state"]), task["identity"]),
        report=lambda progress: say(str(progress)),
    )
    for name, data in model.files.items():
        (folder / MODEL).mkdir(exist_ok=True)
        (folder / MODEL / name).write_bytes(data)
    (folder / RECORD).write_text(json.dumps(model.record))


def look(folder: Path, task: Looking, say: Callable[[str], None]) -> None:
    """Look at images, and write what is found in each."""
    _check(task["code_version"])
    import numpy as np

    from defect_assets.inference.detector import Detector
    from defect_assets.inference.images import decode_image
    from defect_assets.store import open_store

    store = open_store(task["store"])
    detector = Detector.load(folder / MODEL)
    for i, digest in enumerate(task["images"]):
        found = detector.analyze(decode_image(store.objects.get(digest)))
        np.savez_compressed(
            folder / f"{i}.npz",
            mask=found.mask,
            probability=found.probability,
            verdict=np.array(found.verdict),
        )
        if (i + 1) % 50 == 0:
            say(f"{i + 1} of {len(task['images'])} test images")


def _check(code_version: str) -> None:
    from defect_assets.registry import code

    here = code.code_version(STAGE)
    if here != code_version:
        raise SystemExit(
            f"the code of this commit is {here}, not {code_version}, which the record says: the "
            "model was trained with changes that were not committed"
        )


if __name__ == "__main__":
    _folder = Path(sys.argv[1])
    _task = json.loads((_folder / TASK).read_text())
    (train if "split" in _task else look)(_folder, _task, lambda text: print(text, flush=True))
