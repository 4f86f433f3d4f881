"""Where something comes from, and what came of it: for anything that has a name or a digest."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defect_assets.errors import UserError
from defect_assets.registry.lineage.graph import Graph, Node, read_graph
from defect_assets.registry.lineage.tracing import find_files, releases_by_role, traced
from defect_assets.store import Digest, Store

_PREFIX = re.compile(r"[0-9a-f]{8,64}")
_FOLDERS = ("releases", "datasets", "experiments", "configs", "channels", "batches")
"""Where a plain name is looked for."""


class UnknownThing(UserError):
    """Something that has no lineage here, or several; the message says what to ask for."""


@dataclass(frozen=True)
class Lineage:
    """Where something comes from, and what came of it.

    Parameters
    ----------
    subject
        What was asked for.
    backward, forward
        What it was made of, and what came of it; None where that was not asked for.
    releases
        Of an image or a mask: the releases that it had a part in, by what part.
    """

    subject: Node
    backward: Graph | None
    forward: Graph | None
    releases: dict[str, list[str]] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON value: subject, nodes, edges, and of a file the releases."""
        graphs = [graph for graph in (self.backward, self.forward) if graph]
        nodes = {node.key: node for graph in graphs for node in graph.nodes.values()}
        edges = dict.fromkeys(edge for graph in graphs for edge in graph.edges)
        return {
            "subject": self.subject.key,
            "nodes": [
                {"title": node.title, **node.model_dump(mode="json")} for node in nodes.values()
            ],
            "edges": [edge.model_dump() for edge in edges],
            **({} if self.releases is None else {"releases": self.releases}),
        }

    def as_mermaid(self) -> str:
        """Return it as a Mermaid flow chart, as Markdown pages draw it."""
        value = self.as_json()
        number = {node["key"]: f"n{i}" for i, node in enumerate(value["nodes"])}
        lines = ["flowchart LR"]
        for node in value["nodes"]:
            key = node["key"]
            digest = "" if key.startswith("channels/") else f"<br/>{key[:12]}"
            lines.append(f'    {number[key]}["{_quoted(node["title"])}{digest}"]')
        for edge in value["edges"]:
            role = f'|"{_quoted(edge["role"])}"|' if edge["role"] else ""
            lines.append(f"    {number[edge['source']]} -->{role} {number[edge['target']]}")
        lines.append(f"    style {number[self.subject.key]} stroke-width:4px")
        return "\n".join(lines) + "\n"


def lineage(store: Store, what: str, backward: bool = True, forward: bool = True) -> Lineage:
    """Return where something comes from, and what came of it.

    Parameters
    ----------
    store
        Where to look.
    what
        A release (``v0.1.0``), a dataset, an experiment (``DS-1.0.0/C-01``), a configuration, a
        channel, a batch, any name in the store; a digest or 8 of its first characters at least: of
        a result, of a file in a model or report, of an image or a mask; or the path of such a file.
    backward, forward
        Which of the two.

    Raises
    ------
    UnknownThing
        If nothing is called so, or several things are.
    """
    graph = read_graph(store)
    found = _named(graph, what) or _by_digest(store, graph, what)
    if not found:
        raise UnknownThing(
            f"nothing here is called {what}: ask for a release, a dataset, an experiment as "
            "DS-1.0.0/C-01, a configuration, a channel, a batch, a file, or 8 characters of a "
            "digest at least"
        )
    if len(found) > 1:
        listed = "\n".join(
            f"  {(*node.names, node.key)[0]}: {node.title}" for node in found.values()
        )
        raise UnknownThing(f"{what} may be any of these, say which:\n{listed}")
    [subject] = found.values()
    if subject.key not in graph.nodes:  # a file
        came = traced(store, graph, subject)
        return Lineage(subject, None, came if forward else None, releases_by_role(came))
    return Lineage(
        subject,
        graph.around(subject.key, forward=False) if backward else None,
        graph.around(subject.key, backward=False) if forward else None,
    )


def _named(graph: Graph, what: str) -> dict[str, Node]:
    """Return what a name stands for now."""
    plain = re.sub(r"\s*[×|]\s*", "/", what.strip())
    names = {plain, *(f"{folder}/{plain}" for folder in _FOLDERS)}
    return {node.key: node for node in graph.nodes.values() if names & {*node.names}}


def _by_digest(store: Store, graph: Graph, what: str) -> dict[str, Node]:
    """Return what has a digest, or mentions it."""
    path = Path(what)
    if path.is_file():
        what = _hash(path)
    if not _PREFIX.fullmatch(what):
        return {}
    found = {key: node for key, node in graph.nodes.items() if key.startswith(what)}
    return found or find_files(store, graph, what) or _mentioning(store, graph, what)


def _mentioning(store: Store, graph: Graph, prefix: str) -> dict[str, Node]:
    """Return the models, reports and so on that a file is a part of."""
    found = {}
    for kind in ("model", "fold", "report", "bento", "cross-validation"):
        for node in graph.of_kind(kind):
            values = store.objects.get_json(node.key).values()
            if any(isinstance(v, str) and v.startswith(prefix) for v in values):
                found[node.key] = node
        if found:
            break  # a bento holds its model's files, too
    return found


def _hash(path: Path) -> Digest:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _quoted(text: str) -> str:
    return text.replace('"', "#quot;")
