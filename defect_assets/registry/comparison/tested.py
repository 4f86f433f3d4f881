"""What of two test splits can be held against each other."""

from dataclasses import dataclass

from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import Split, read_split
from defect_assets.store import Digest, Store


@dataclass(frozen=True)
class CommonTest:
    """The images that two test splits have in common, and those that do not count."""

    samples: frozenset[str]
    """In both test splits."""
    relabelled: frozenset[str]
    """Of these, whose label, or image, is another one in the second."""
    seen: frozenset[str]
    """Of these, those of parts of which the other one has images to train or validate on: where a
    sample was given to another part in between."""
    trained_by_second: int
    """Samples that the first tests, and the second trains or validates on."""
    trained_by_first: int


def common_test(store: Store, first: Digest, second: Digest) -> CommonTest:
    """Compare two splits by their tests.

    Parameters
    ----------
    store
        Where they lie.
    first, second
        The digests of the splits.
    """
    splits = [read_split(store, digest) for digest in (first, second)]
    one, other = (_places(store, split) for split in splits)
    tested = [{s for s, (part, _) in places.items() if part == "test"} for places in (one, other)]
    samples = tested[0] & tested[1]
    before, after = (_labels(store, split) for split in splits)
    return CommonTest(
        samples=frozenset(samples),
        relabelled=frozenset(s for s in samples if before[s] != after[s]),
        seen=frozenset(samples & (_seen(one, other) | _seen(other, one))),
        trained_by_second=len((tested[0] & other.keys()) - tested[1]),
        trained_by_first=len((tested[1] & one.keys()) - tested[0]),
    )


def _places(store: Store, split: Split) -> dict[str, tuple[str, str]]:
    """Return the part of the split and the physical part of each sample."""
    rows = store.objects.get_table(split.rows, ["sample", "part", "group"])
    columns = (rows[name].to_pylist() for name in ("sample", "part", "group"))
    return {sample: (part, group) for sample, part, group in zip(*columns, strict=True)}


def _seen(one: dict[str, tuple[str, str]], other: dict[str, tuple[str, str]]) -> set[str]:
    """Return the samples of parts, as the first has them, that the second does not only test."""
    parts = {one[s][1] for s, (part, _) in other.items() if part != "test" and s in one}
    return {sample for sample, (_, group) in one.items() if group in parts}


def _labels(store: Store, split: Split) -> dict[str, tuple[str, str, str]]:
    """Return the class, the mask and the image of each sample."""
    batches = read_snapshot(store, split.snapshot).batches
    table = samples_of(store, batches, ("sample", "class", "mask", "image"))
    columns = (table[name].to_pylist() for name in table.column_names)
    return {sample: label for sample, *label in zip(*columns, strict=True)}  # type: ignore[misc]
