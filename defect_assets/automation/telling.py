"""Telling Dagster what the store holds and it does not know: of commands, or of a clone.

No run is needed for that, since nothing is computed. Afterwards the UI sees each result as its
record says: which content, by which code, from which contents.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
)

from defect_assets.home import Home
from defect_assets.partitions import configs, dagster_key, register
from defect_assets.registry.stages import STAGES, Axis, Stage
from defect_assets.store import Digest, Record, Store, canonical_json, digest_of

Ids = dict[str | None, int]
"""By partition: Dagster's number for its newest materialization."""


def tell(instance: dg.DagsterInstance, home: Home) -> int:
    """Tell Dagster of all that names in the store lead to; return of how much it had to be told.

    Parameters
    ----------
    instance
        Dagster's instance.
    home
        Whose store it is; what was told is kept in its Dagster folder.
    """
    store = home.store()
    told = _read(home)
    ids: dict[str, Ids] = {}
    count = 0
    for stage in STAGES.values():
        ids[stage.name] = _newest(instance, stage)
        partitions = {stage.partition(ref): ref for ref in _refs(store, stage)}
        if stage.axis is not Axis.NONE:
            register(instance, stage.axis, [p for p in partitions if p])
        if stage.for_good:
            generation = _generation(store, stage)
            known = ids[stage.name] if told.get(stage.name) == generation else {}
            told[stage.name] = generation
            partitions = {p: ref for p, ref in partitions.items() if p not in known}
        expected = {p: _expected(store, stage, p, ref) for p, ref in partitions.items()}
        newest = {p: at for p, at in ids[stage.name].items() if p in expected}
        said = _said(instance, stage, newest)
        expected = {
            p: (tags, record)
            for p, (tags, record) in expected.items()
            if p not in said or not said[p].is_of(stage, tags, record)
        }
        for partition, (tags, record) in expected.items():
            pointers = _pointers(stage, partition, tags, ids)
            instance.report_runless_asset_event(
                dg.AssetMaterialization(
                    stage.name,
                    partition=None if partition is None else dagster_key(stage.axis, partition),
                    tags={**tags, **pointers},
                    metadata={
                        "digest": record.content,
                        "commit": record.commit or "none",
                        "told by": "the store: it was made without this Dagster",
                    },
                )
            )
        if expected:
            ids[stage.name] = _newest(instance, stage)
            count += len(expected)
    _write(home, told)
    return count


def _refs(store: Store, stage: Stage) -> Iterable[str]:
    if stage.axis is Axis.NONE:
        return [stage.folder] if store.refs.get(stage.folder) else []
    names = list(store.refs.names(f"{stage.folder}/"))
    if stage.axis in (Axis.CONFIG, Axis.EXPERIMENT):
        # Dagster has no partition for a configuration whose file is gone.
        known = set(configs.get_partition_keys())
        return [name for name in names if name.rpartition("/")[2] in known]
    return names


def _expected(
    store: Store, stage: Stage, partition: str | None, ref: str
) -> tuple[dict[str, str], Record]:
    """Return the tags by which Dagster would know a result, and its record."""
    record = store.record(ref)
    assert record is not None
    code, parents = record.code_version, record.parents
    if stage.for_good:
        # There is nothing to compute again, whatever is newer now.
        code, parents = stage.code_version, {}
    tags = {DATA_VERSION_TAG: record.content, CODE_VERSION_TAG: code}
    for name in stage.parents:
        now = store.content(STAGES[name].ref(stage.partition_of(STAGES[name], partition)))
        # Where it is another by now, Dagster shall find that out; see `_pointers`.
        if now and (stage.for_good or parents.get(name) == now):
            tags[f"{INPUT_DATA_VERSION_TAG_PREFIX}/{name}"] = now
    return tags, record


def _pointers(
    stage: Stage, partition: str | None, tags: Mapping[str, str], ids: Mapping[str, Ids]
) -> dict[str, str]:
    """Return the tags that say which materializations of its parents a result was made from."""
    found = {}
    for name in stage.parents:
        of = stage.partition_of(STAGES[name], partition)
        if f"{INPUT_DATA_VERSION_TAG_PREFIX}/{name}" in tags and of in ids[name]:
            found[f"{INPUT_EVENT_POINTER_TAG_PREFIX}/{name}"] = str(ids[name][of])
    return found


def _newest(instance: dg.DagsterInstance, stage: Stage) -> Ids:
    key = dg.AssetKey(stage.name)
    if stage.axis is Axis.NONE:
        records = instance.fetch_materializations(key, limit=1).records
        return {None: records[0].storage_id} if records else {}
    newest = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    return dict(newest.items())


@dataclass(frozen=True)
class _Said:
    """What Dagster knows of the newest materialization of a partition."""

    tags: Mapping[str, str]
    run_id: str

    def is_of(self, stage: Stage, tags: Mapping[str, str], record: Record) -> bool:
        """Tell whether it is that of a result.

        What the result's own run told is not told again: that would hide the run's pictures and
        checks, and a run words the version of a parent with other partitions otherwise. What
        stands for good is told again all the same where other code is up to date by now.
        """
        if not stage.for_good and record.run_id and self.run_id == record.run_id:
            told = (DATA_VERSION_TAG, CODE_VERSION_TAG)
            return all(tags[name] == self.tags.get(name) for name in told)
        return tags.items() <= self.tags.items()


def _said(instance: dg.DagsterInstance, stage: Stage, ids: Ids) -> dict[str | None, _Said]:
    """Return what Dagster knows of the newest materialization of each partition."""
    if not ids:
        return {}
    chosen = dg.AssetRecordsFilter(dg.AssetKey(stage.name), storage_ids=list(ids.values()))
    records = instance.fetch_materializations(chosen, limit=len(ids)).records
    return {
        made.partition: _Said(made.tags or {}, record.run_id)
        for record in records
        if (made := record.asset_materialization)
    }


def _generation(store: Store, stage: Stage) -> Digest:
    """Return what all results of a stage that stand for good were told to be up to date with."""
    parents = [store.content(STAGES[n].folder) for n in stage.parents if not STAGES[n].axis]
    return digest_of(canonical_json([stage.code_version, parents]))


def _read(home: Home) -> dict[str, Digest]:
    try:
        found: dict[str, Digest] = json.loads((home.dagster / TOLD).read_text())
    except (OSError, ValueError):
        return {}
    return found


def _write(home: Home, told: dict[str, Digest]) -> None:
    (home.dagster / TOLD).write_text(json.dumps(told))


TOLD = "told.json"
"""With what Dagster was told that the results that stand for good are up to date."""
