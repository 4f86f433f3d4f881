"""Naming what a command made without Dagster, with the same record that an asset leaves."""

from pathlib import Path

from defect_assets.dataset import order, snapshot
from defect_assets.dataset.snapshot import Snapshot
from defect_assets.registry.code import code_version, commit
from defect_assets.registry.environment import record_environment
from defect_assets.store import Digest, Record, Store


def publish_batch(store: Store, name: str, digest: Digest, lock: Path) -> None:
    """Name a batch, for good. The environment is that of this process and the lock file.

    Raises
    ------
    RefConflict
        If the name stands for another one already.
    """
    parents = {"python_environment": record_environment(store, lock)}
    record = _record("raw_images", name, digest, parents, "dataset.ingest")
    order.name_batch(store, name, record)


def publish_snapshot(store: Store, cut: Snapshot, lock: Path) -> None:
    """Store and name a snapshot, for good.

    Raises
    ------
    RefConflict
        If someone else cut this version meanwhile.
    """
    digest = store.objects.put_json(cut.model_dump(mode="json"))
    parents = {f"raw_images/{pin.id}": pin.digest for pin in cut.batches}
    parents["python_environment"] = record_environment(store, lock)
    record = _record("dataset_manifest", cut.id, digest, parents, "dataset.cut")
    store.publish_once(f"{snapshot.REF}{cut.id}", record)


def _record(
    asset: str, partition: str, content: Digest, parents: dict[str, Digest], code: str
) -> Record:
    return Record(
        asset=asset,
        partition=partition,
        content=content,
        parents=parents,
        code_version=code_version(code),
        commit=commit(),
    )
