"""Releasing without Dagster, with the record that the asset leaves."""

from pathlib import Path

from defect_assets.dataset.version import Bump
from defect_assets.registry.release.releases import Release
from defect_assets.registry.release.releasing import propose
from defect_assets.store import Record, Store


def publish_release(
    store: Store,
    project: Path,
    dataset: str = "DS-1.0.0",
    config: str = "C-01",
    override: str = "",
    bump: Bump | None = None,
    notes: str = "",
) -> Release:
    proposal = propose(store, project, dataset, config, bump, notes)
    details = proposal.details(store, proposal.admit(override, project))
    made = proposal.release
    content = store.objects.put_json(made.model_dump(mode="json"))
    parents = {"trained_model": made.bundle, "evaluation_report": made.report}
    record = Record(
        asset="model_release",
        partition=made.id,
        content=content,
        parents=parents,
        details=details,
    )
    store.publish_once(f"releases/{made.id}", record)
    return made
