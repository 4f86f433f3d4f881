"""What the service says of an image."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from defect_assets.inference.postprocessing import Analysis, Defect, Verdict
from detector_service.errors import ErrorDetail
from detector_service.masks import mask_base64, polygons, run_lengths

SCHEMA_VERSION: Literal[1] = 1
"""Grows when a field of a reply goes or changes its meaning; new fields do not count."""


class _Reply(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ModelInfo(_Reply):
    """Which model answered."""

    release: str
    digest: str
    dataset: str
    config: str
    runtime: str
    """What ran it."""


class ModelReply(ModelInfo):
    """Which model is loaded, where it comes from, and how it is used."""

    device: str
    report: str
    """The digest of its evaluation, by which ``defect-assets`` finds what it was made from."""
    note: str
    """The release note, in Markdown."""
    metrics: dict[str, Any]
    """On the test split."""
    bundle: dict[str, Any]
    """Architecture, preprocessing, postprocessing and class map."""


class FoundDefect(Defect):
    """A defect in a reply."""

    id: int
    """From 1 on in each reply, by area, the largest first."""
    centroid_mm: tuple[float, float] | None = None
    """With ``px_to_mm``."""
    area_mm2: float | None = None
    """With ``px_to_mm``."""


class RunLengths(_Reply):
    """A mask as COCO has it, uncompressed."""

    size: tuple[int, int]
    """Height and width."""
    counts: dict[int, list[int]]
    """By class id: the lengths of runs, column by column, first of pixels not of the class."""


class Polygon(_Reply):
    """The outline of a defect, (x, y) by (x, y)."""

    defect: int
    """Its id."""
    class_id: int
    outer: list[tuple[int, int]]
    holes: list[list[tuple[int, int]]]


class Timings(_Reply):
    """How long it took, in milliseconds."""

    decode: float
    queue: float
    """Waiting for the network."""
    forward: float
    """The network; of a batch, the whole batch."""
    postprocess: float
    total: float
    """From the arrival of the whole request, until the reply was put together."""


class AnalysisReply(_Reply):
    """What was found in an image; coordinates are in its own pixels."""

    schema_version: Literal[1] = SCHEMA_VERSION
    request_id: str
    part_id: str | None
    verdict: Verdict
    width: int
    height: int
    defects: list[FoundDefect]
    truncated: bool
    """Whether there are more defects than are listed; the mask shows all."""
    mask: str | RunLengths | list[Polygon] | None
    """``mask=png``: a PNG in base64, in the image's size: 0 where there is no defect, else the
    class id. ``rle``: run lengths. ``polygon``: outlines of the defects listed."""
    probability: str | None
    """``probability=png``: a PNG in base64, in the image's size. Red: 255 times the probability
    of a defect; green: the class that it would most probably be."""
    class_map: dict[int, str]
    model: ModelInfo
    timings_ms: Timings


class BatchItem(_Reply):
    """One image of a batch: either its result or its error."""

    index: int
    """Which file of the form, from 0 on."""
    filename: str
    result: AnalysisReply | None = None
    error: ErrorDetail | None = None


class BatchReply(_Reply):
    """Every image of a batch, in the order of the form."""

    schema_version: Literal[1] = SCHEMA_VERSION
    request_id: str
    results: list[BatchItem]


def found_defects(
    analysis: Analysis, px_to_mm: float | None, max_defects: int
) -> list[FoundDefect]:
    """Return the largest defects as replies list them."""
    found = []
    for number, defect in enumerate(analysis.defects[:max_defects], start=1):
        measured: dict[str, Any] = {}
        if px_to_mm is not None:
            x, y = defect.centroid_xy
            measured["centroid_mm"] = (x * px_to_mm, y * px_to_mm)
            measured["area_mm2"] = defect.area_px * px_to_mm**2
        # Nothing to validate: it was when the defect was made.
        found.append(FoundDefect.model_construct(id=number, **defect.__dict__, **measured))
    return found


def mask_of(
    analysis: Analysis, form: str, defects: list[FoundDefect], classes: list[int]
) -> str | RunLengths | list[Polygon] | None:
    """Return the mask in the form that was asked for: see `forms.ReplyOptions`."""
    if form == "png":
        return mask_base64(analysis.mask)
    if form == "rle":
        return RunLengths(size=analysis.mask.shape, counts=run_lengths(analysis.mask, classes))
    if form == "polygon":
        outlines = polygons(analysis.mask, list(defects))
        return [
            Polygon(defect=d.id, class_id=d.class_id, outer=rings[0], holes=rings[1:])
            for d, rings in zip(defects, outlines, strict=True)
        ]
    return None
