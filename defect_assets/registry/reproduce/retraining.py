"""A script that trains a released model again, by the code of the commit that is found first.

It is run with the path of a checkout of that commit and perhaps by another interpreter, so what it
calls must have been there then. It reads the store and writes only into the folder that it is
given:

- ``task.json``: what to do, see `Task`
- ``model/``: the bundle
- ``found.json``: what it found out on its way, see `Found`
"""

import json
import sys
from pathlib import Path
from typing import Any, TypedDict

TASK, MODEL, FOUND = "task.json", "model", "found.json"
TOO_OLD = 3
"""The exit status where the code of the commit lacks something that this script needs."""
STAGE = "training.experiment"


class Task(TypedDict):
    """What to train."""

    code: str
    """The checkout."""
    store: str
    """How the store is opened."""
    cache: str
    """Where what was read of a bucket is kept."""
    split: str
    config: str
    """Their digests."""
    config_file: str
    """Where the configuration stands, below the checkout."""
    lock: str
    """The environment's lock file."""
    hardware: dict[str, Any]
    """See `defect_assets.training.hardware.Hardware`."""
    identity: str
    """See `defect_assets.training.checkpoint.Checkpoint`."""
    scratch: str
    """The folder for images at the network's resolution and for the training's state."""


class Found(TypedDict):
    """What the code of the commit makes of what it is given."""

    code_version: str
    """Its own, of the stage that trains."""
    config: str
    """Digest of the configuration as it stands in the checkout."""
    split: str
    """Digest of the split, divided anew from the snapshot."""
    environment: dict[str, Any]
    """What it runs in; see `defect_assets.registry.environment.Environment`."""
    record: dict[str, Any]
    """What the training says of itself."""


def main(folder: Path) -> None:
    """Do the task in a folder."""
    task: Task = json.loads((folder / TASK).read_text())
    from defect_assets.dataset.split import read_split, split_snapshot
    from defect_assets.registry.code import code_version
    from defect_assets.registry.configs import digest_of_config
    from defect_assets.registry.environment import current_environment
    from defect_assets.settings import read_settings
    from defect_assets.store import canonical_json, digest_of, open_store
    from defect_assets.store.tables import write_table
    from defect_assets.training.checkpoint import Checkpoint
    from defect_assets.training.config import TrainingConfig
    from defect_assets.training.experiment import train_on_split
    from defect_assets.training.hardware import Hardware

    store = open_store(task["store"], cache=Path(task["cache"]))
    # Dividing anew is to tell the digest, not to leave anything behind.
    store.objects.put_table = lambda table: write_table(table)[0]  # type: ignore[method-assign]
    split = read_split(store, task["split"])
    again = split_snapshot(store, split.snapshot).model_dump(mode="json")
    file = Path(task["code"]) / task["config_file"]
    values = digest_of_config(read_settings(file, TrainingConfig)) if file.exists() else ""
    scratch = Path(task["scratch"])

    def report(progress: Any) -> None:
        print(progress, flush=True)

    model = train_on_split(
        store,
        split,
        TrainingConfig.model_validate(store.objects.get_json(task["config"])),
        scratch / "fitted",
        hardware=Hardware(**task["hardware"]),
        checkpoint=Checkpoint(scratch, task["identity"], 0.5),
        report=report,
    )
    for name, data in model.files.items():
        path = folder / MODEL / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    found: Found = {
        "code_version": code_version(STAGE),
        "config": values,
        "split": digest_of(canonical_json(again)),
        "environment": current_environment(Path(task["lock"])).model_dump(mode="json"),
        "record": model.record,
    }
    (folder / FOUND).write_text(json.dumps(found))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (ImportError, AttributeError, TypeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(TOO_OLD) from error
