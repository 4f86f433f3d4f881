"""What Dagster shows of a new evaluation beside what it is held against."""

import dagster as dg

from defect_assets.errors import UserError
from defect_assets.home import PROJECT
from defect_assets.store import Store


def compared(store: Store, dataset: str, config: str) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the comparison of an experiment's latest evaluation with production, as metadata.

    Where nothing is in production, with the experiment's evaluation before; nothing where there is
    none. That two cannot be compared is shown, and is no reason for the evaluation to fail.
    """
    from defect_assets.registry.comparison.comparing import as_markdown, compare, reference_for
    from defect_assets.registry.subjects import find_subject

    try:
        reference = reference_for(store, dataset, config)
        if reference is None:
            return {}
        subject = find_subject(store, f"{dataset}/{config}")
        text = as_markdown(compare(store, reference, subject, PROJECT))
    except UserError as error:
        text = str(error)
    return {"comparison": dg.MetadataValue.md(text)}
