"""What a released model says of a snapshot, kept in the store: the same work, the same digest.

By PyTorch in float32, as the model was evaluated, and without timings: so it depends on nothing but
the snapshot, the model, the code and the environment.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from defect_assets.errors import UserError
from defect_assets.scoring import engine
from defect_assets.scoring.files import defect_rows
from defect_assets.scoring.looking import Prediction
from defect_assets.scoring.model import Model
from defect_assets.scoring.plan import count_shards, hold_plan
from defect_assets.scoring.sources import SnapshotSource
from defect_assets.scoring.work import Job
from defect_assets.store import Digest, S3Access, Store, digest_of, open_store
from defect_assets.store.columns import table_of

REF = "predictions/"
IMAGES, DEFECTS = "images", "defects"

IMAGE_ROWS = pa.schema(
    [
        ("sample", pa.string()),
        ("image", pa.string()),  # digest of the file, as is the mask's
        ("verdict", pa.string()),
        ("score", pa.float64()),
        ("defects", pa.int64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("mask", pa.string()),  # a PNG of class ids; empty where nothing was found
    ]
)
DEFECT_ROWS = pa.schema(
    [
        ("defect", pa.string()),  # e.g. tile-17/1, the largest of a sample first
        ("sample", pa.string()),
        ("class", pa.string()),
        ("class_id", pa.int64()),
        ("confidence", pa.float64()),
        ("x", pa.int64()),
        ("y", pa.int64()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("area", pa.int64()),
        ("centroid_x", pa.float64()),
        ("centroid_y", pa.float64()),
        ("major_axis", pa.float64()),
        ("minor_axis", pa.float64()),
        ("angle_deg", pa.float64()),
    ]
)


class Unreadable(UserError):
    """Images of a snapshot that cannot be read; the message says what to do."""


class Predictions(BaseModel):
    """What a model says of a snapshot; its digest is the data version of its asset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Digest
    """The model."""
    snapshot: Digest
    verdicts: dict[str, int]
    """Images by verdict."""
    images: tuple[Digest, ...]
    """Tables of `IMAGE_ROWS`, in the order of the samples."""
    defects: tuple[Digest, ...]
    """Tables of `DEFECT_ROWS`, one for each of the images'."""


@dataclass(frozen=True)
class Stored:
    """A store that results go to."""

    url: str
    cache: Path | None

    def open(self, access: S3Access | None = None) -> "StoreWriter":
        return StoreWriter(open_store(self.url, access, self.cache))


class StoreWriter:
    """Puts shards into a store; a name for them is another's business.

    Parameters
    ----------
    store
        Where to.
    """

    def __init__(self, store: Store) -> None:
        self._objects = store.objects

    def write(
        self, shard: int, predictions: Sequence[Prediction], runtime: str
    ) -> dict[str, Digest]:
        found = [prediction for prediction in predictions if not prediction.error]
        masks = {p.name: (digest_of(p.mask), p.mask) for p in found if p.mask}
        with self._objects.packing() as packer:
            packer.add(list(masks.values()))
        images = [
            {
                "sample": p.name,
                "image": p.digest,
                "verdict": p.verdict,
                "score": p.score,
                "defects": len(p.defects),
                "height": p.height,
                "width": p.width,
                "mask": masks[p.name][0] if p.mask else "",
            }
            for p in found
        ]
        defects = [
            {**row, "sample": p.name, "defect": f"{p.name}/{row['defect']}"}
            for p in found
            for row in defect_rows(p)
        ]
        return {
            IMAGES: self._objects.put_table(table_of(images, IMAGE_ROWS)),
            DEFECTS: self._objects.put_table(table_of(defects, DEFECT_ROWS)),
        }


def predict(
    bundle: Digest,
    model: Model,
    source: SnapshotSource,
    tell: Callable[[int, int], None] = lambda done, total: None,
    access: S3Access | None = None,
) -> Predictions:
    """Look at all images of a snapshot, and put what is found into the store that it lies in.

    Parameters
    ----------
    bundle, model
        Who looks.
    source
        The snapshot.
    tell
        Is told how many images are done, of how many.
    access
        How a bucket is reached.

    Raises
    ------
    Unreadable
        If the store is damaged.
    """
    plan = hold_plan(source.items(access))
    job = Job(model, source, plan, Stored(source.store, source.cache))
    made = []
    done = 0
    with closing(engine.run(job, range(count_shards(plan)), access)) as shards:
        for shard in shards:
            if shard.unread:
                raise Unreadable(
                    f"{shard.unread} images of {source.dataset} cannot be read: defect-assets "
                    "verify tells which, and --repair-from restores them"
                )
            made.append(shard)
            done += shard.images
            tell(done, plan.images)
    ordered = sorted(made, key=lambda shard: shard.number)
    return Predictions(
        bundle=bundle,
        snapshot=source.digest,
        verdicts=dict(sum((Counter(s.verdicts) for s in ordered), Counter())),
        images=tuple(s.tables[IMAGES] for s in ordered),
        defects=tuple(s.tables[DEFECTS] for s in ordered),
    )


def read_predictions(store: Store, digest: Digest) -> Predictions:
    """Return the predictions with a digest."""
    return Predictions.model_validate(store.objects.get_json(digest))
