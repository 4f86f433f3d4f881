"""The order of batches, of which later ones override earlier ones.

It is that of the newest snapshot, and then, for those that no snapshot has yet, that in which they
were named. So what is asked of a bucket depends on what is new, not on all that ever came.
"""

from datetime import timedelta

from defect_assets.dataset.batch import REF, BatchPin, batch_records
from defect_assets.dataset.snapshot import newest_snapshot, unpinned
from defect_assets.store import Record, Store


def ordered_batches(store: Store) -> tuple[BatchPin, ...]:
    """Return every batch, in order."""
    newest = newest_snapshot(store)
    return (newest.batches if newest else ()) + unpinned(store, newest)


def name_batch(store: Store, name: str, record: Record) -> None:
    """Name a batch, for good, as the newest one.

    Its record's time orders it. Where the clock was set back the time is just after that of the
    newest one, as in a hybrid logical clock.

    Raises
    ------
    RefConflict
        If the name stands for another one already.
    """
    newest = newest_snapshot(store)
    for _, last in batch_records(store, newest.batches if newest else ())[-1:]:
        if last.created_at >= record.created_at:
            after = last.created_at + timedelta(microseconds=1)
            record = record.model_copy(update={"created_at": after})
    store.publish_once(f"{REF}{name}", record)
