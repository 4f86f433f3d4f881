"""Naming what a command made without Dagster, with the same record that an asset leaves."""

from defect_assets.dataset import batch, snapshot
from defect_assets.dataset.snapshot import Snapshot
from defect_assets.registry.code import code_version, commit
from defect_assets.store import Digest, Record, Store


def publish_batch(store: Store, name: str, digest: Digest) -> None:
    """Name a batch, for good.

    Raises
    ------
    RefConflict
        If the name stands for another one already.
    """
    record = _record(store, "raw_images", name, digest, {}, "dataset.batch")
    store.publish_once(f"{batch.REF}{name}", record)


def publish_snapshot(store: Store, cut: Snapshot) -> Digest:
    """Store and name a snapshot, for good; return its digest.

    Raises
    ------
    RefConflict
        If someone else cut this version meanwhile.
    """
    digest = store.objects.put_json(cut.model_dump(mode="json"))
    parents = {f"raw_images/{pin.id}": pin.digest for pin in cut.batches}
    record = _record(store, "dataset_manifest", cut.id, digest, parents, "dataset.snapshot")
    store.publish_once(f"{snapshot.REF}{cut.id}", record)
    return digest


def _record(
    store: Store, asset: str, partition: str, content: Digest, parents: dict[str, Digest], code: str
) -> Record:
    environment = store.content("environment")
    return Record(
        asset=asset,
        partition=partition,
        content=content,
        parents=parents | ({"python_environment": environment} if environment else {}),
        code_version=code_version(code),
        commit=commit(),
    )
