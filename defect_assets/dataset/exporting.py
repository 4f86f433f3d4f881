"""A snapshot's samples as other tools' formats take them."""

from collections.abc import Iterator

from defect_assets.dataset.formats.sample import ExportedSample
from defect_assets.dataset.images import LabelledImage, read_images
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import Snapshot
from defect_assets.dataset.split import REF, read_split
from defect_assets.store import Store


def exported_samples(store: Store, snapshot: Snapshot) -> Iterator[ExportedSample]:
    """Yield a snapshot's samples by id, with the part of the split that they are in, if any."""
    samples = samples_of(store, snapshot.batches)
    digest = store.content(f"{REF}{snapshot.id}")
    parts = {}
    if digest:
        rows = store.objects.get_table(read_split(store, digest).rows, ["sample", "part"])
        parts = dict(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    names, images = samples["image_name"].to_pylist(), samples["image"].to_pylist()
    labelled = read_images(store, samples, snapshot.description)
    for name, digest, sample in zip(names, images, labelled, strict=True):
        yield _exported(sample, store.objects.get_many([digest])[0], name, parts)


def _exported(sample: LabelledImage, image: bytes, name: str, parts: dict) -> ExportedSample:
    return ExportedSample(
        sample=sample.sample,
        class_name=sample.class_name,
        group=sample.group,
        exposure=sample.exposure,
        image=image,
        image_name=name,
        mask=sample.mask,
        part=parts.get(sample.sample),
    )
