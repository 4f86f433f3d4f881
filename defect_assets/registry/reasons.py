"""Why something is out of date, as one would say it: what it was, and what it is now."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from defect_assets.registry.checkout import NoCheckout
from defect_assets.registry.code import commit, sources
from defect_assets.registry.comparison.differences import (
    Change,
    changes_between,
    environment_changes,
    files_that_differ,
    sources_in,
)
from defect_assets.registry.stages import Stage
from defect_assets.store import Digest, Record, short

SHOWN = 4
"""Changes that a sentence lists; of more it says how many."""
LONG = 60
"""Letters from which on a change is named and not written out, e.g. of a list of transforms."""


def config_changed(config: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Say what is another value in a configuration."""
    return _changed(f"configuration {config}", changes_between(before, after))


def environment_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Say which packages have another version."""
    changes = environment_changes(before, after)
    return _changed("environment", changes) if changes else "environment changed: the lock"


def code_changed(stage: Stage, record: Record, project: Path) -> str:
    """Say which files of a stage's code compute something else since a result was made.

    Parameters
    ----------
    stage
        The stage.
    record
        Of the result.
    project
        The checkout, in whose repository the code of then is looked up.
    """
    now = commit()
    said = f"code of {stage.name} changed"
    if record.commit and now and record.commit != now:
        said += f": commit {_short_commit(record.commit)} → {_short_commit(now)}"
    if not record.commit or record.commit.endswith("+"):
        return said  # no commit has what it was
    try:
        files = files_that_differ(
            sources_in(project, record.commit, *stage.modules), sources(*stage.modules)
        )
    except NoCheckout:
        return said
    return f"{said}, {_listed(files)}" if files else said


def content_changed(stage: str, before: Digest | None, after: Digest | None) -> str:
    """Say that what a result was made from is another by now."""
    if before is None:
        return f"it was made without {stage}"
    return f"{stage} changed: {short(before)} → {short(after) if after else 'gone'}"


def batch_is_new(batch: str, images: int | None) -> str:
    """Say that a delivery was not taken in yet; of how many images, where that is known."""
    if images is None:
        return f"batch {batch} is new"
    return f"batch {batch} is new: {images} image{'' if images == 1 else 's'}"


def batches_are_new(batches: Iterable[str]) -> str:
    """Say which batches the newest snapshot lacks."""
    names = list(batches)
    if len(names) == 1:
        return f"batch {names[0]} is new"
    return f"{len(names)} batches are new: {_listed(names)}"


def _changed(what: str, changes: Mapping[str, Change]) -> str:
    said = (name if len(str(c)) > LONG else f"{name} {c}" for name, c in changes.items())
    return f"{what} changed: {_listed(said)}"


def _listed(items: Iterable[str]) -> str:
    found = list(items)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _short_commit(commit: str) -> str:
    return commit[:7] + ("+" if commit.endswith("+") else "")
