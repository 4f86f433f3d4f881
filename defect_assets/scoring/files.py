"""Results as files that pandas, Polars and DuckDB read: two tables in Parquet, and packs of masks.

``images/part-000012.parquet`` has a row an image, ``defects/part-000012.parquet`` a row a defect,
``masks/part-000012.pack`` the masks, as PNGs of class ids, one after the other: where in it each
lies stands in the row of its image. A shard's table of images is written last; where it is, all of
the shard is.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from defect_assets.scoring.looking import Prediction
from defect_assets.scoring.places import open_place
from defect_assets.scoring.work import Shard
from defect_assets.spreading import while_waiting
from defect_assets.store import Backend, Digest, S3Access

IMAGES, DEFECTS, MASKS = "images", "defects", "masks"

IMAGE_ROWS = pa.schema(
    [
        ("image", pa.string()),  # below the source; of a snapshot, the sample
        ("sha256", pa.string()),  # of its file
        ("verdict", pa.string()),  # ok, ng, uncertain; null where there is an error
        ("score", pa.float64()),  # the highest probability of a pixel to be part of a defect
        ("defects", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("mask_pack", pa.string()),  # null where there is no defect, as are the next two
        ("mask_offset", pa.int64()),
        ("mask_bytes", pa.int64()),
        ("runtime", pa.string()),  # e.g. openvino bf16
        ("decode_ms", pa.float32()),
        ("infer_ms", pa.float32()),
        ("error", pa.string()),  # why there is no verdict; null where there is one
    ]
)
DEFECT_ROWS = pa.schema(
    [
        ("image", pa.string()),
        ("defect", pa.int32()),  # from 1, the largest of an image first
        ("class", pa.string()),
        ("class_id", pa.int32()),  # its value in the mask
        ("confidence", pa.float64()),
        ("x", pa.int32()),  # of the box, in pixels from the upper left corner
        ("y", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("area", pa.int64()),  # in pixels
        ("centroid_x", pa.float64()),
        ("centroid_y", pa.float64()),
        ("major_axis", pa.float64()),
        ("minor_axis", pa.float64()),
        ("angle_deg", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Files:
    """A folder, or ``s3://bucket/prefix``, that results go to."""

    url: str

    def open(self, access: S3Access | None = None) -> "FileWriter":
        return FileWriter(open_place(self.url, access))


class FileWriter:
    """Writes shards as files.

    Parameters
    ----------
    place
        Where to.
    """

    def __init__(self, place: Backend) -> None:
        self._place = place

    def write(
        self, shard: int, predictions: Sequence[Prediction], runtime: str
    ) -> dict[str, Digest]:
        pack_key = _key(MASKS, shard, "pack")
        pack, rows = bytearray(), []
        for prediction in predictions:
            rows.append(_image_row(prediction, pack_key, len(pack), runtime))
            pack += prediction.mask
        defects = [row for prediction in predictions for row in defect_rows(prediction)]
        if pack:
            self._replace(pack_key, bytes(pack))
        self._replace(_key(DEFECTS, shard), _parquet(defects, DEFECT_ROWS))
        self._replace(_key(IMAGES, shard), _parquet(rows, IMAGE_ROWS))
        return {}

    def _replace(self, key: str, data: bytes) -> None:
        # What is there is of an attempt that did not come to its end, perhaps in another runtime.
        if not self._place.create(key, data):
            self._place.delete(key)
            self._place.create(key, data)


def done(place: Backend) -> set[int]:
    """Return the numbers of the shards that are there."""
    names = (entry.key.rpartition("/")[2] for entry in place.entries(IMAGES))
    return {int(name[5:-8]) for name in names if name.endswith(".parquet")}


def past(place: Backend, numbers: Iterable[int]) -> Iterator[Shard]:
    """Yield what came of shards that are there."""
    return while_waiting(partial(_past, place), numbers)


def _past(place: Backend, number: int) -> Shard:
    data = io.BytesIO(place.read(_key(IMAGES, number)))
    counts = pq.ParquetFile(data).read(columns=["verdict"])["verdict"].value_counts().to_pylist()
    verdicts = {count["values"]: count["counts"] for count in counts}
    return Shard(number, unread=verdicts.pop(None, 0), verdicts=verdicts)


def defect_rows(prediction: Prediction) -> Iterator[dict[str, object]]:
    """Yield the rows of an image's defects."""
    for number, defect in enumerate(prediction.defects, 1):
        left, top, right, bottom = defect.bbox_xyxy
        yield {
            "image": prediction.name,
            "defect": number,
            "class": defect.class_name,
            "class_id": defect.class_id,
            "confidence": round(defect.confidence, 6),
            "x": left,
            "y": top,
            "width": right - left,
            "height": bottom - top,
            "area": defect.area_px,
            "centroid_x": round(defect.centroid_xy[0], 3),
            "centroid_y": round(defect.centroid_xy[1], 3),
            "major_axis": round(defect.major_axis, 3),
            "minor_axis": round(defect.minor_axis, 3),
            "angle_deg": round(defect.angle_deg, 3),
        }


def _image_row(prediction: Prediction, pack: str, offset: int, runtime: str) -> dict[str, object]:
    row: dict[str, object] = {
        "image": prediction.name,
        "sha256": prediction.digest or None,
        "error": prediction.error or None,
    }
    if prediction.error:
        return row
    if prediction.mask:
        row |= {"mask_pack": pack, "mask_offset": offset, "mask_bytes": len(prediction.mask)}
    return row | {
        "verdict": prediction.verdict,
        "score": prediction.score,
        "defects": len(prediction.defects),
        "height": prediction.height,
        "width": prediction.width,
        "runtime": runtime,
        "decode_ms": prediction.decode_ms,
        "infer_ms": prediction.infer_ms,
    }


def _parquet(rows: list[dict[str, object]], schema: pa.Schema) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()


def _key(folder: str, shard: int, suffix: str = "parquet") -> str:
    return f"{folder}/part-{shard:06}.{suffix}"
