"""Releases: evaluated models with a version, for good."""

from pydantic import BaseModel, ConfigDict, Field

from defect_assets.dataset.version import Version
from defect_assets.evaluation.metrics import Metrics
from defect_assets.registry.release.gates import Gates
from defect_assets.store import Digest, Store

REF = "releases/"
DOCUMENTS = "documents"
"""Where in a release's record the tree of its documents stands."""
NOTE = "RELEASE.md"
"""The one that says what is new, and how good it is."""


class Release(BaseModel):
    """A released model. Who released it, when, and how it did at the gates stands in its record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    bundle: Digest
    """The model."""
    report: Digest
    """Its evaluation."""
    dataset: str
    config: str
    metrics: Metrics
    """On the test split."""
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """95 % intervals of the metrics; see `defect_assets.evaluation.bootstrap`."""
    gates: Gates | None = None
    """What it was asked for; None in releases from before there were gates."""
    previous: str | None = None
    """The release that its number follows."""
    notes: str = ""
    """What people should know of it."""


def find_release(store: Store, release: str) -> Release | None:
    """Return a release by its id, e.g. ``v1.4.2``, or None."""
    digest = store.content(REF + release)
    return read_release(store, digest) if digest else None


def read_release(store: Store, digest: Digest) -> Release:
    """Return the release with a digest."""
    return Release.model_validate(store.objects.get_json(digest))


def releases(store: Store) -> list[Release]:
    """Return all releases, oldest version first."""
    versions = sorted(Version.parse(name.removeprefix(REF)) for name in store.refs.names(REF))
    return [found for version in versions if (found := find_release(store, str(version)))]


def released_as(store: Store, dataset: str, config: str) -> Release | None:
    """Return the release of an experiment as it stands now, or None.

    The same model on a corrected test split is another release: its scores differ.
    """
    bundle = store.content(f"experiments/{dataset}/{config}")
    report = store.content(f"reports/{dataset}/{config}")
    past = [r for r in releases(store) if (r.bundle, r.report) == (bundle, report)]
    return past[-1] if past else None


def read_documents(store: Store, release: str) -> dict[str, bytes]:
    """Return the documents of a release by name; none of one from before there were any."""
    record = store.record(REF + release)
    tree: Digest | None = record.details.get(DOCUMENTS) if record else None
    return store.objects.get_tree(tree) if tree else {}
