"""Where something comes from, and what came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors
from defect_assets.console import console

if TYPE_CHECKING:
    from rich.tree import Tree

    from defect_assets.registry.lineage.graph import Graph, Node
    from defect_assets.registry.lineage.lineage import Lineage


def lineage(
    what: Annotated[
        str,
        typer.Argument(
            help="A release, dataset, experiment (DS-1.0.0/C-01), config, channel or batch; a "
            "digest, or 8 of its characters at least; an image, a mask or a model's file."
        ),
    ],
    backward: Annotated[bool, typer.Option("--backward", help="Only what it was made of.")] = False,
    forward: Annotated[bool, typer.Option("--forward", help="Only what came of it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print a Mermaid chart, for a Markdown page.")
    ] = False,
) -> None:
    """Say where something comes from, and what came of it.

    Of an image or a mask, it says which models were trained on it, and which releases: an image
    that a later delivery removed, or that is only tested on, taught nothing to a model.
    """
    from defect_assets.home import default_home
    from defect_assets.registry.lineage.lineage import lineage as look

    with errors():
        found = look(default_home().store(), what, backward or not forward, forward or not backward)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    elif as_mermaid:
        typer.echo(found.as_mermaid(), nl=False)
    else:
        _show(found)


def _show(found: Lineage) -> None:
    from rich.tree import Tree

    for graph, title, onward in (
        (found.backward, "was made of", False),
        (found.forward, "and what came of it", True),
    ):
        if graph and graph.edges:
            root = Tree(f"[bold]{_told(found.subject)}[/] [dim]{title}[/]", guide_style="dim")
            _grow(root, graph, found.subject.key, onward, {found.subject.key})
            console.print(root)
    if not any(graph and graph.edges for graph in (found.backward, found.forward)):
        console.print(f"[bold]{_told(found.subject)}[/]: nothing is known to have come of it")
    if found.releases is not None:
        for role, versions in found.releases.items():
            console.print(f"[dim]{role + ':':<32}[/]{', '.join(versions) or 'no release'}")


def _grow(branch: Tree, graph: Graph, key: str, forward: bool, shown: set[str]) -> None:
    """Add what is one arrow away, and so on; what was shown above is not spread out again."""
    for edge, node in graph.next_to(key, forward):
        role = f" [italic]{escape(edge.role)}[/]" if edge.role else ""
        more = graph.next_to(node.key, forward)
        again = node.key in shown
        if again and node.kind == "environment":
            continue  # nearly all was made in it
        note = " [dim]…[/]" if again and more else ""
        child = branch.add(f"{_told(node)}{role}{note}")
        if not again:
            shown.add(node.key)
            _grow(child, graph, node.key, forward, shown)


def _told(node: Node) -> str:
    digest = "" if node.kind == "channel" else f" [dim]{node.key[:12]}[/]"
    commit = f" [dim]by {node.commit[:8]}[/]" if node.commit and node.kind == "model" else ""
    unpinned = " [yellow]unpinned[/]" if node.unpinned else ""
    return f"{escape(node.title)}{digest}{commit}{unpinned}"
