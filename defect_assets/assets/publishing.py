"""From a computed result to its name, its record and Dagster's view of it."""

import base64
from collections.abc import Mapping
from typing import Any

import dagster as dg

from defect_assets.registry.code import commit
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.stages import published_as
from defect_assets.store import Digest, Record, Store

OWNERS = ["team:vision"]


def record_of(
    context: dg.AssetExecutionContext,
    content: Digest,
    parents: Mapping[str, Digest],
    details: Mapping[str, Any] | None = None,
) -> Record:
    """Return the record of what an asset has just computed."""
    return Record(
        asset=context.asset_key.to_user_string(),
        partition=str(context.partition_key) if context.has_partition_key else "",
        content=content,
        parents=dict(parents),
        code_version=context.assets_def.specs_by_key[context.asset_key].code_version or "",
        commit=commit(),
        run_id=context.run.run_id,
        details=dict(details or {}),
    )


def ref_of(record: Record) -> str:
    """Return the name under which a record is published."""
    return published_as(record.asset, record.partition)


def environment_of(store: Store) -> dict[str, Digest]:
    """Return the environment as a parent, where it was recorded."""
    digest = store.content("environment")
    return {"python_environment": digest} if digest else {}


def result_of(record: Record, metadata: Mapping[str, Any]) -> dg.MaterializeResult:
    """Return what Dagster is told: the content's digest as data version, and metadata."""
    told = {"digest": record.content, "commit": record.commit or "none"}
    if reasons := why_unpinned(record):
        told["unpinned"] = "; ".join(reasons)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.content), metadata={**told, **metadata}
    )


def rounded(score: float | None) -> float | str:
    """Return a score as metadata; a dash where there was nothing to measure."""
    return "–" if score is None else round(score, 4)


def refuse(why: Exception | str, **metadata: Any) -> dg.Failure:
    """Return the failure of a run for a reason that a person can mend; it is not retried."""
    return dg.Failure(description=str(why), metadata=metadata, allow_retries=False)


def counts_table(rows: Mapping[str, Mapping[str, int]], first: str) -> dg.MarkdownMetadataValue:
    """Return counts as a table, e.g. of classes by part of a split."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [
        f"| {first} | " + " | ".join(columns) + " | all |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name, row in rows.items():
        cells = " | ".join(str(row.get(column, 0)) for column in columns)
        lines.append(f"| {name} | {cells} | {sum(row.values())} |")
    return dg.MetadataValue.md("\n".join(lines))


def picture(png: bytes, text: str) -> dg.MarkdownMetadataValue:
    """Return a picture as metadata."""
    return dg.MetadataValue.md(f"![{text}](data:image/png;base64,{base64.b64encode(png).decode()})")
