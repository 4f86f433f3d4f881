"""Whether anything that decides what is up to date has changed since all of it was.

What a walk would find follows from the files and names that are listed here. Where they are as they
were when a walk found nothing to do, it need not be walked again: that is seen in a fraction of the
time that Dagster takes to start. Forgetting it costs this time and nothing else.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from defect_assets.home import CONFIGS, LOCK, POSTGRES, PROJECT, Home
from defect_assets.inbox import delivered, is_complete
from defect_assets.registry.environment import digest_of_environment
from defect_assets.store import Digest, Store, canonical_json, digest_of

STANDING = ("batches", "datasets", "releases")
"""Folders of names that stand for the same content for ever: here the names say all."""
MOVING = (
    *("configs", "splits", "experiments", "reports", "crossvalidations", "leakaudits", "bentos"),
    *("channels", "predictions"),
)
CODE = ("defect_assets", "bento", "configs")
"""Folders of the checkout that results are computed by."""
_SETTLED = "settled.json"


def inputs_of(home: Home) -> Digest:
    """Return a digest of what a walk starts from: code, configurations, environment, inbox."""
    return digest_of(
        canonical_json(
            {
                "code": _files([*(PROJECT / name for name in CODE), PROJECT / "definitions.py"]),
                "configs": _files([CONFIGS]),
                "environment": digest_of_environment(LOCK),
                "dataset": _files([home.dataset]),
                "inbox": [name for name in delivered(home) if is_complete(home, name)],
                "places": [home.url, home.inbox_url, os.environ.get(POSTGRES, "")],
            }
        )
    )


def results_of(home: Home) -> Digest:
    """Return a digest of what a walk leads to: names in the store, and bentos."""
    bentos = sorted(map(str, home.bentoml.glob("bentos/*/*/bento.yaml")))
    return digest_of(canonical_json({"names": dict(_names(home.store())), "bentos": bentos}))


def is_settled(home: Home, question: str) -> bool:
    """Tell whether a walk that asked the same found nothing to do, and nothing changed since."""
    found = _read(home)
    return question in found.get("questions", ()) and found["state"] == [
        inputs_of(home),
        results_of(home),
    ]


def settle(home: Home, question: str, inputs: Digest, results: Digest) -> None:
    """Remember that a walk found nothing to do.

    Parameters
    ----------
    home
        Where it walked.
    question
        What it was asked, e.g. which configurations.
    inputs
        What `inputs_of` returned before it began.
    results
        What `results_of` returned before it looked.
    """
    found, state = _read(home), [inputs, results]
    before = found["questions"] if found.get("state") == state else []
    new = {"state": state, "questions": sorted({*before, question})}
    (home.dagster / _SETTLED).write_text(json.dumps(new))


def _read(home: Home) -> dict[str, list[str]]:
    try:
        found: dict[str, list[str]] = json.loads((home.dagster / _SETTLED).read_text())
    except (OSError, ValueError):
        return {}
    return found


def _names(store: Store) -> Iterator[tuple[str, str | None]]:
    yield "environment", store.refs.get("environment")
    for folder in STANDING:
        yield from ((name, None) for name in store.refs.names(f"{folder}/"))
    for folder in MOVING:
        yield from ((name, store.refs.get(name)) for name in store.refs.names(f"{folder}/"))


def _files(roots: Iterable[Path]) -> dict[str, str]:
    """Return the digest of each file below some folders, but for what Python compiled."""
    found = {}
    for root in roots:
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file() and path.parent.name != "__pycache__":
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
