"""Releasing a model that passes its gates, and getting it out with all that belongs to it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors, fail
from defect_assets.commands.roads import open_road
from defect_assets.console import aside, console

if TYPE_CHECKING:
    from defect_assets.registry.release.releasing import Proposal
    from defect_assets.store import Store


class Raised(StrEnum):
    """What a person can raise a release's number to."""

    MINOR = "minor"
    MAJOR = "major"


def release(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="An experiment, e.g. DS-1.1.0/C-01.", show_default="the one evaluated last"
        ),
    ] = None,
    bump: Annotated[
        Raised | None,
        typer.Option(
            help="Raise the number higher than the rule does.", show_default="what changed decides"
        ),
    ] = None,
    override: Annotated[
        str,
        typer.Option(
            help="Why to release it though gates fail; recorded with your name, and shown.",
            show_default=False,
        ),
    ] = "",
    note: Annotated[
        str, typer.Option(help="What people should know of it; Markdown.", show_default=False)
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be released, and how it does.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Give an evaluated model a version and a note, if it passes the gates; pack it.

    The gates stand in configs/gates.yaml. If it fails one, it is refused, with the list of all.
    The number follows from what changed since the newest release: the architecture or the classes
    (major), data or configuration (minor), neither (patch).
    """
    from defect_assets.dataset.version import Bump
    from defect_assets.home import PROJECT, default_home
    from defect_assets.registry.release.candidates import last_evaluated
    from defect_assets.registry.release.releases import released_as
    from defect_assets.registry.release.releasing import GatesFailed, propose
    from defect_assets.registry.subjects import find_subject

    with errors(), aside() if as_json else nullcontext():
        store = default_home().store()
        if experiment is None:
            dataset, config = last_evaluated(store)
        else:
            subject = find_subject(store, experiment)
            if subject.name != subject.experiment:
                fail(f"{experiment} is released already; name an experiment, e.g. DS-1.1.0/C-01")
            dataset, config = subject.dataset, subject.config
        raised = Bump[bump.name] if bump else None
        released = released_as(store, dataset, config)
        if released:
            console.print(f"{dataset} × {config} is released already, as [bold]{released.id}[/]")
        elif dry_run:
            proposal = propose(store, PROJECT, dataset, config, raised, note)
            _show_proposal(store, proposal, override, PROJECT, as_json)
            return
        else:
            try:
                with open_road() as road:
                    released = road.release(dataset, config, override, raised, note)
            except GatesFailed as refused:
                if as_json:
                    gates = [result.model_dump() for result in refused.results]
                    _print_json({"released": False, "gates": gates})
                raise
        _show_release(store, released.id, as_json)


def bundle(
    release: Annotated[str, typer.Argument(help="A release, e.g. v0.2.0, or a channel.")],
    to: Annotated[Path, typer.Option(help="A new folder.", show_default=False)],
) -> None:
    """Write a release into a folder: model, note, model card, metrics, checksums.

    `sha256sum --check MANIFEST.sha256` there tells whether all is as it was released.
    """
    from defect_assets.home import default_home
    from defect_assets.registry.channels import leads_to
    from defect_assets.registry.release.release_bundle import MANIFEST, write_bundle

    with errors():
        store = default_home().store()
        found = leads_to(store, release)
        write_bundle(store, found, to)
    console.print(
        f"[green]✓[/] [bold]{found.id}[/] is in {escape(str(to))}, its checksums in {MANIFEST}",
        soft_wrap=True,
    )


def _show_proposal(
    store: Store, proposal: Proposal, reason: str, project: Path, as_json: bool
) -> None:
    """Show what would be released; fail where it would be refused."""
    from defect_assets.registry.release.releases import NOTE
    from defect_assets.registry.release.releasing import GatesFailed

    refused, override = "", None
    try:
        override = proposal.admit(reason, project)
    except GatesFailed as error:
        refused = str(error)
    note = proposal.documents(store, override)[NOTE].decode()
    if as_json:
        _print_json(
            {
                "released": False,
                "release": proposal.release.model_dump(mode="json"),
                "numbering": proposal.numbering.model_dump(mode="json"),
                "gates": [result.model_dump() for result in proposal.results],
                "override": override.model_dump() if override else None,
                "note": note,
            }
        )
    else:
        _print_note(note)
    if refused:
        fail(refused)
    console.print(f"[dim]not released: without --dry-run it is {proposal.release.id}[/]")


def _show_release(store: Store, release: str, as_json: bool) -> None:
    from defect_assets.registry.release.releases import NOTE, REF, find_release, read_documents

    record, released = store.record(REF + release), find_release(store, release)
    assert record is not None
    assert released is not None
    note = read_documents(store, release).get(NOTE, b"").decode()
    if as_json:
        _print_json(
            {
                "released": True,
                "release": released.model_dump(mode="json"),
                **{key: record.details.get(key) for key in ("numbering", "gates", "override")},
                "note": note,
            }
        )
        return
    _print_note(note)
    console.print(
        f"\n[bold]Go on with[/]\n  defect-assets promote {release} production --why …\n"
        f"  defect-assets bundle {release} --to {release}",
        soft_wrap=True,
    )


def _print_note(note: str) -> None:
    from rich.markdown import Markdown

    console.print(Markdown(note))


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
