"""What came of one image or mask: through the tables of batches, snapshots and splits.

Records say which batches a snapshot was cut from and which split a model was trained on, but not
which image was where. The tables do: an image may be overridden by a later batch, or removed, and a
model that comes of its snapshot may have been trained on it, tested on it, or neither.
"""

from collections import defaultdict
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from defect_assets.dataset.batch import read_batch
from defect_assets.dataset.snapshot import Snapshot, read_snapshot
from defect_assets.dataset.split import PARTS, Part, read_split
from defect_assets.dataset.version import Version
from defect_assets.registry.lineage.graph import Edge, Graph, Node
from defect_assets.store import Digest, Store
from defect_assets.store.columns import column

ROLES: dict[Part, str] = {
    "train": "trained on it",
    "val": "its threshold was chosen on it",
    "test": "tested on it",
}
"""What a model has to do with an image, by the part of the split in which the image is."""
_FILES = ("image", "mask")


class _Row(NamedTuple):
    """What a batch says of a sample."""

    image: Digest
    mask: str
    removed: bool


def find_files(store: Store, graph: Graph, prefix: str) -> dict[Digest, Node]:
    """Return the images and masks whose digests begin so, as nodes named by their samples."""
    samples: dict[tuple[str, Digest], set[str]] = defaultdict(set)
    for batch in graph.of_kind("batch"):
        rows = store.objects.get_table(read_batch(store, batch.key).rows, ["sample", *_FILES])
        for kind in _FILES:
            found = rows.filter(pc.starts_with(rows[kind], prefix))
            for digest, sample in zip(
                found[kind].to_pylist(), found["sample"].to_pylist(), strict=True
            ):
                samples[kind, digest].add(sample)
    return {
        digest: Node(key=digest, kind=kind, names=tuple(sorted(f"{kind}s/{n}" for n in names)))
        for (kind, digest), names in samples.items()
        if digest
    }


def traced(store: Store, graph: Graph, file: Node) -> Graph:
    """Return what came of an image or a mask.

    Parameters
    ----------
    store
        Where the tables are.
    graph
        What the records say.
    file
        See `find_files`.

    Returns
    -------
    Graph
        From the file to the batches that hold it, to the snapshots in which it still is after all
        that later batches corrected and removed, to their splits, with the part in which it is, to
        what it had a part in: models that were trained on it or whose threshold was chosen on it,
        reports for which it was tested, and all that came of these.
    """
    samples = column([name.partition("/")[2] for name in file.names], pa.string())
    said = {batch.key: _said_of(store, batch.key, samples) for batch in graph.of_kind("batch")}
    edges = {
        Edge(source=file.key, target=batch)
        for batch, rows in said.items()
        if any(_holds(row, file) for row in rows.values())
    }
    inside: dict[Digest, list[str]] = {}
    for node in graph.of_kind("snapshot"):
        survivors = _survivors(read_snapshot(store, node.key), said, file)
        inside[node.key] = sorted(survivors)
        edges |= {Edge(source=batch, target=node.key) for batch in survivors.values()}
    for node in graph.of_kind("split"):
        split = read_split(store, node.key)
        if not inside.get(split.snapshot):
            continue
        wanted = column(inside[split.snapshot], pa.string())
        rows = store.objects.find_rows(split.rows, {"sample": wanted})
        where = " and ".join(_parts(rows, "part"))
        edges.add(Edge(source=split.snapshot, target=node.key, role=f"in {where}"))
        for edge in graph.went_into(node.key):
            edges |= _onward(graph, edge, rows)
    known = graph.nodes | {file.key: file}
    keys = {file.key, *(end for edge in edges for end in (edge.source, edge.target))}
    return Graph((known[key] for key in keys), edges)


def releases_by_role(lineage: Graph) -> dict[str, list[str]]:
    """Return which releases a file had a part in, by what part.

    Parameters
    ----------
    lineage
        See `traced`.

    Returns
    -------
    dict
        Versions, sorted, by `ROLES`.
    """
    found: dict[str, set[str]] = {role: set() for role in ROLES.values()}
    for edge in lineage.edges:
        for role in set(edge.role.split(", ")) & found.keys():
            onward = lineage.around(edge.target, backward=False)
            found[role] |= {
                name.partition("/")[2] for node in onward.of_kind("release") for name in node.names
            }
    return {
        role: [str(version) for version in sorted(map(Version.parse, versions))]
        for role, versions in found.items()
    }


def _said_of(store: Store, batch: Digest, samples: pa.Array) -> dict[str, _Row]:
    """Return what a batch says of some samples."""
    rows = store.objects.find_rows(read_batch(store, batch).rows, {"sample": samples})
    columns = (rows[name].to_pylist() for name in ("sample", *_Row._fields))
    return {sample: _Row(*said) for sample, *said in zip(*columns, strict=True)}


def _holds(row: _Row, file: Node) -> bool:
    return not row.removed and file.key in (row.image, row.mask)


def _survivors(
    snapshot: Snapshot, said: dict[Digest, dict[str, _Row]], file: Node
) -> dict[str, Digest]:
    """Return the samples that have a file in a snapshot, and the batch that says so."""
    last: dict[str, tuple[Digest, _Row]] = {}
    for pin in snapshot.batches:
        last |= {sample: (pin.digest, row) for sample, row in said.get(pin.digest, {}).items()}
    return {sample: batch for sample, (batch, row) in last.items() if _holds(row, file)}


def _onward(graph: Graph, edge: Edge, rows: pa.Table) -> set[Edge]:
    """Return what came of a split by way of some of its rows, from its arrow to what it made."""
    made = graph.nodes[edge.target]
    parts = _parts(rows, _division_of(made))
    # A model knows nothing of its test, and a report is about the test alone.
    counts: dict[str, tuple[Part, ...]] = {
        "model": ("train", "val"),
        "fold": ("train", "val", "test"),
        "report": ("test",),
    }
    roles = [ROLES[part] for part in counts.get(made.kind, ()) if part in parts]
    if made.kind in counts and not roles:
        return set()
    onward = graph.around(made.key, backward=False)
    return {Edge(source=edge.source, target=edge.target, role=", ".join(roles)), *onward.edges}


def _division_of(made: Node) -> str:
    """Return the column of a split's table that says who was where when something was made."""
    if made.kind != "fold":
        return "part"
    return f"fold-{(*made.names, *made.past_names)[0].split('/')[-1]}"


def _parts(rows: pa.Table, division: str) -> list[Part]:
    """Return the parts in which some samples are, of train, val and test."""
    there = set(rows[division].to_pylist()) if division in rows.column_names else set()
    return [part for part in PARTS if part in there]
