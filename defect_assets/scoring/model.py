"""Which model looks: a release's, with what other runtimes need of it where it was packed."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from defect_assets.inference.bundle import FILES
from defect_assets.inference.detector import Detector
from defect_assets.inference.exported import CHECK, EXPORTED, MODEL
from defect_assets.registry.channels import PRODUCTION, ChannelRefused, channels, leads_to
from defect_assets.registry.packaging import REF as BENTOS
from defect_assets.registry.release.releases import Release, releases
from defect_assets.store import Store
from defect_assets.store.objects import write_tree

_PACKED = "model/"
"""Where in a bento's files the model's are."""


@dataclass(frozen=True)
class Model:
    """A model as it is sent to those who look with it."""

    files: Mapping[str, bytes]
    """Of a bundle's folder."""
    runtime: str | None
    """See `Detector.load`; None: PyTorch in float32, as a model is evaluated."""

    def load(self, callers: int) -> Detector:
        """Load it for so many threads, none of which makes the network take more than its own.

        Raises
        ------
        BundleError
            If the bundle is damaged.
        """
        with tempfile.TemporaryDirectory(prefix="defect-scoring-") as name:
            folder = Path(name)
            write_tree(self.files, folder)
            if self.runtime is None:
                return Detector.load(folder)
            detector = Detector.load(folder, self.runtime, threads=None if callers > 1 else 1)
            if detector.device == "cpu" and detector.at_once < callers:
                # What gives an image all processors gives each of several images one.
                detector = Detector.load(folder, self.runtime, threads=1)
            return detector


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


def chosen(store: Store, name: str | None) -> Release:
    """Return the release that is meant: by default what is in production, or else the newest.

    Raises
    ------
    ChannelRefused
        If there is none.
    """
    if name:
        return leads_to(store, name)
    if PRODUCTION in channels(store):
        return leads_to(store, PRODUCTION)
    known = releases(store)
    if not known:
        raise ChannelRefused("nothing is released yet: run defect-assets repro first")
    return known[-1]
