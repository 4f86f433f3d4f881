"""What was made of what: the graph that the records of a store amount to.

A node is a content, named by its digest, or a channel, which is nothing but a name. An arrow leads
from what was needed to what was made of it. Everything that a name ever stood for is in it, so that
the past of what was made of an older result is found as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from defect_assets.registry.pinning import why_unpinned
from defect_assets.spreading import while_waiting
from defect_assets.store import Digest, Record, Store

CHANNELS = "channels/"
KINDS = {
    "environment": "environment",
    "configs": "config",
    "batches": "batch",
    "datasets": "snapshot",
    "splits": "split",
    "experiments": "model",
    "reports": "report",
    "folds": "fold",
    "crossvalidations": "cross-validation",
    "releases": "release",
    "bentos": "bento",
    "channels": "channel",
    "predictions": "predictions",
}
"""What a name stands for, by the folder that it is in."""
_OF_STAGE = {
    "python_environment": "environment",
    "training_config": "config",
    "raw_images": "batch",
    "dataset_manifest": "snapshot",
    "dataset_split": "split",
    "trained_model": "model",
    "evaluation_report": "report",
    "model_release": "release",
}
"""What a stage makes: of a parent that no name in this store ever stood for."""


class Node(BaseModel):
    """A content, or a channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """Its digest; of a channel its name."""
    kind: str
    """See `KINDS`; of a single file ``image`` or ``mask``."""
    names: tuple[str, ...] = ()
    """The names that stand for it, e.g. ``experiments/DS-1.1.0/C-01``."""
    past_names: tuple[str, ...] = ()
    """The names that stood for it and stand for something else now."""
    created_at: datetime | None = None
    """When it was first made."""
    commit: str = ""
    """Of the code that made it then."""
    unpinned: tuple[str, ...] = ()
    """Why nobody can look up what it was made with; see `pinning`."""

    @property
    def title(self) -> str:
        """How people call it, e.g. ``model DS-1.1.0 × C-01``."""
        called = ", ".join(filter(None, dict.fromkeys(map(_plain, self.names or self.past_names))))
        past = "" if self.names or not self.past_names else " as it was before"
        return f"{self.kind} {called}".strip() + past


class Edge(BaseModel):
    """Something was made of something."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """What was needed, by its key."""
    target: str
    """What was made of it."""
    role: str = ""
    """In what way; empty where it goes without saying."""


class Graph:
    """Nodes and the arrows between them.

    Parameters
    ----------
    nodes
        What there is.
    edges
        From what was needed to what was made of it.
    """

    def __init__(self, nodes: Iterable[Node], edges: Iterable[Edge]) -> None:
        self.nodes = {node.key: node for node in nodes}
        self.edges = sorted(set(edges), key=lambda edge: (edge.source, edge.target, edge.role))
        self._of: dict[str, list[Edge]] = defaultdict(list)
        self._into: dict[str, list[Edge]] = defaultdict(list)
        for edge in self.edges:
            self._into[edge.source].append(edge)
            self._of[edge.target].append(edge)

    def made_of(self, key: str) -> list[Edge]:
        """Return the arrows that lead to a node."""
        return self._of[key]

    def went_into(self, key: str) -> list[Edge]:
        """Return the arrows that lead away from a node."""
        return self._into[key]

    def next_to(self, key: str, forward: bool) -> list[tuple[Edge, Node]]:
        """Return what is one arrow away from a node, in the order of the road."""
        edges = self.went_into(key) if forward else self.made_of(key)
        pairs = [(edge, self.nodes[edge.target if forward else edge.source]) for edge in edges]
        return sorted(pairs, key=lambda p: (_rank(p[1]), str(p[1].created_at), p[1].key))

    def of_kind(self, kind: str) -> list[Node]:
        """Return the nodes of a kind, the oldest first."""
        found = [node for node in self.nodes.values() if node.kind == kind]
        return sorted(found, key=lambda node: (str(node.created_at), node.key))

    def around(self, key: str, backward: bool = True, forward: bool = True) -> Graph:
        """Return what a node was made of, and what came of it, to the end.

        Parameters
        ----------
        key
            The node.
        backward, forward
            Which of the two.
        """
        edges: set[Edge] = set()
        for wanted, step in ((backward, self.made_of), (forward, self.went_into)):
            pending, seen = [key] if wanted else [], {key}
            while pending:
                for edge in step(pending.pop()):
                    edges.add(edge)
                    for end in {edge.source, edge.target} - seen:
                        seen.add(end)
                        pending.append(end)
        keys = {key, *(end for edge in edges for end in (edge.source, edge.target))}
        return Graph((self.nodes[k] for k in keys), edges)


def read_graph(store: Store) -> Graph:
    """Return the graph of all that the names of a store stand for, and stood for."""
    names = list(store.refs.names())
    histories = list(while_waiting(lambda name: list(store.history(name)), names))
    present = {name: past[0].content for name, past in zip(names, histories, strict=True) if past}
    contents: dict[Digest, dict[str, list[Record]]] = defaultdict(dict)
    nodes: list[Node] = []
    edges: set[Edge] = set()
    for name, records in zip(names, histories, strict=True):
        if name.startswith(CHANNELS):
            nodes.append(_channel(name, records))
            edges.update(_led_to(name, records))
            continue
        for record in records:
            contents[record.content].setdefault(name, []).append(record)
            edges.update(
                Edge(source=parent, target=record.content) for parent in record.parents.values()
            )
    nodes += [_node(digest, by_name, present) for digest, by_name in contents.items()]
    known = {node.key for node in nodes}
    for stage, digest in _parents(histories):
        if digest not in known:
            kind = stage.split("/")[0]
            nodes.append(Node(key=digest, kind=_OF_STAGE.get(kind, kind)))
            known.add(digest)
    return Graph(nodes, edges)


def _node(digest: Digest, by_name: dict[str, list[Record]], present: dict[str, Digest]) -> Node:
    records = sorted(
        (record for found in by_name.values() for record in found), key=lambda r: r.created_at
    )
    folder = next(iter(by_name)).split("/")[0]
    return Node(
        key=digest,
        kind=KINDS.get(folder, folder),
        names=tuple(name for name in by_name if present[name] == digest),
        past_names=tuple(name for name in by_name if present[name] != digest),
        created_at=records[0].created_at,
        commit=records[0].commit,
        unpinned=tuple(why_unpinned(records[-1])),  # trained again from a commit, it is pinned
    )


def _rank(node: Node) -> int:
    road = list(KINDS.values())
    return road.index(node.kind) if node.kind in road else len(road)


def _plain(name: str) -> str:
    """Return a name without what it is a name of."""
    return " × ".join(name.split("/")[1:])


def _channel(name: str, records: list[Record]) -> Node:
    return Node(
        key=name,
        kind="channel",
        names=(name,),
        created_at=records[0].created_at if records else None,
    )


def _led_to(name: str, records: list[Record]) -> Iterator[Edge]:
    """Yield an arrow from each release that a channel led to; one says that it does now."""
    present = records[0].content if records else None
    for digest in {record.content for record in records}:
        yield Edge(source=digest, target=name, role="now" if digest == present else "before")


def _parents(histories: Iterable[Iterable[Record]]) -> Iterator[tuple[str, Digest]]:
    for records in histories:
        for record in records:
            yield from record.parents.items()
