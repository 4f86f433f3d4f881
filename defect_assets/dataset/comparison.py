"""A page that shows what differs between two snapshots, old and new masks side by side."""

import base64
from pathlib import Path

import jinja2
import pyarrow as pa
import pyarrow.compute as pc

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.difference import changelog
from defect_assets.dataset.masks import decode_mask
from defect_assets.dataset.overlap import overlap
from defect_assets.dataset.pictures import overlay
from defect_assets.dataset.snapshot import Snapshot
from defect_assets.inference.images import decode_image, encode_png
from defect_assets.store import Store

PAGE_TEMPLATE = Path(__file__).with_name("comparison.html.j2")
SHOWN = 200
"""Relabelled samples on a page, those that changed most; of the others, a fifth of that each."""


def write_comparison(
    store: Store, before: Snapshot, after: Snapshot, changes: pa.Table, page: Path
) -> None:
    """Write the page, one self-contained HTML file.

    Parameters
    ----------
    store
        Where the images lie.
    before, after
        The snapshots.
    changes
        Of `defect_assets.dataset.difference.difference`.
    page
        The file.
    """
    relabelled = _kind(changes, "relabelled")
    for row in relabelled:
        row["dice"] = overlap(store, row["mask_before"], row["mask"], after.description)
    relabelled.sort(key=lambda row: (row["dice"], row["sample"]))
    kinds = {
        "relabelled": relabelled[:SHOWN],
        "regrouped": _kind(changes, "regrouped")[:SHOWN],
        "removed": _kind(changes, "removed")[: SHOWN // 5],
        "added": _kind(changes, "added")[: SHOWN // 5],
    }
    for kind in ("relabelled", "removed", "added"):
        for row in kinds[kind]:
            row["pictures"] = _pictures(store, kind, row, before, after)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(PAGE_TEMPLATE.read_text()).render(
        before=before,
        after=after,
        changelog=changelog(changes, before.description, after.description),
        kinds=kinds,
        totals={kind: len(_kind(changes, kind)) for kind in kinds},
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html)


def _kind(changes: pa.Table, kind: str) -> list[dict]:
    return list(changes.filter(pc.equal(changes["change"], pa.scalar(kind))).to_pylist())


def _pictures(
    store: Store, kind: str, row: dict, before: Snapshot, after: Snapshot
) -> dict[str, str]:
    """Return the pictures of one sample as data URLs, by their captions."""
    image = store.objects.get(row["image"])
    old, new = before.description, after.description
    if kind == "added":
        return {row["class"]: _picture(store, image, row["mask"], row["class"], new)}
    if kind == "removed":
        return {row["class"]: _picture(store, image, row["mask"], row["class"], old)}
    return {
        f"{before.id}: {row['class_before']}": _picture(
            store, image, row["mask_before"], row["class_before"], old
        ),
        f"{after.id}: {row['class']}": _picture(store, image, row["mask"], row["class"], new),
    }


def _picture(
    store: Store, image: bytes, mask: str, class_name: str, description: DatasetDescription
) -> str:
    pixels = decode_image(image)
    data = store.objects.get(mask) if mask else None
    ids = decode_mask(data, class_name, (pixels.shape[0], pixels.shape[1]), description)
    png = encode_png(overlay(pixels, ids, description.palette))
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
