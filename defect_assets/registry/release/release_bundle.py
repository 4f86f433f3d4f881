"""The bundle of a release: the model, and all that one should know to use it, under checksums."""

import hashlib
import json
from pathlib import Path

from defect_assets.errors import UserError
from defect_assets.registry.release.releases import NOTE, Release, read_documents
from defect_assets.store import Store
from defect_assets.store.objects import write_tree

RELEASE, MANIFEST = "release.json", "MANIFEST.sha256"
"""Which release it is; the SHA-256 of each other file, as ``sha256sum --check`` reads it."""


class BundleRefused(UserError):
    """A bundle that is not written; the message says why."""


def bundle_files(store: Store, release: Release) -> dict[str, bytes]:
    """Return the files of a release's bundle by name.

    The model's own (weights; label map, pre- and post-processing and thresholds; curves), the
    note, the model card, the metrics, which release it is, and the manifest.
    """
    documents = read_documents(store, release.id)
    about = {
        "release": release.id,
        "digest": release.bundle,
        "dataset": release.dataset,
        "config": release.config,
        "report": release.report,
        "note": documents.get(NOTE, b"").decode(),
        "metrics": release.metrics.model_dump(mode="json"),
    }
    files = {
        **store.objects.get_tree(release.bundle),
        **documents,
        RELEASE: json.dumps(about, indent=1).encode(),
    }
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()]
    return {**files, MANIFEST: "".join(sorted(lines, key=lambda line: line[66:])).encode()}


def write_bundle(store: Store, release: Release, folder: Path) -> None:
    """Write a release's bundle into a new folder.

    Raises
    ------
    BundleRefused
        If there is something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleRefused(f"{folder} is not empty: choose another folder")
    write_tree(bundle_files(store, release), folder)
