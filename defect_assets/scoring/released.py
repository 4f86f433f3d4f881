"""Which model looks: a release's, with what other runtimes need of it where it was packed."""

from defect_assets.inference.bundle import FILES
from defect_assets.inference.exported import CHECK, EXPORTED, MODEL
from defect_assets.registry.packaging import REF as BENTOS
from defect_assets.registry.release.releases import Release
from defect_assets.scoring.model import Model
from defect_assets.store import Store

_PACKED = "model/"
"""Where in a bento's files the model's are."""


def as_served(store: Store, release: Release) -> Model:
    """Return a release's model, to be run by the fastest runtime that answers as PyTorch does."""
    packed = store.content(f"{BENTOS}{release.id}")
    tree = store.objects.get_json(packed) if packed else {}
    wanted = {name: tree.get(f"{_PACKED}{name}") for name in (MODEL, CHECK, EXPORTED)}
    exported = {name: store.objects.get(digest) for name, digest in wanted.items() if digest}
    return Model({**_bundle(store, release), **exported}, "auto")


def as_evaluated(store: Store, release: Release) -> Model:
    """Return a release's model, to be run as its evaluation ran it: the same on all processors."""
    return Model(_bundle(store, release), None)


def _bundle(store: Store, release: Release) -> dict[str, bytes]:
    files = store.objects.get_tree(release.bundle)
    return {name: files[name] for name in FILES if name in files}
