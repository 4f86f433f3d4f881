"""The reply for a controller: 256 bytes, always in the same place, big-endian.

====== ====== ======= =========================================================================
offset length type    content
====== ====== ======= =========================================================================
0      4      bytes   ``DFCT``
4      2      uint16  version of this layout: 1
6      2      uint16  verdict: 0 ok, 1 ng, 2 uncertain
8      2      uint16  defects found; 65535: that many or more
10     2      uint16  defects below, at most 8: the largest
12     4      uint32  width of the image in pixels
16     4      uint32  height of the image in pixels
20     4      uint32  area of all defects in pixels
24     4      float32 highest confidence of a defect, 0 to 1; 0 without one
28     4      float32 time from the image's arrival to its result in milliseconds
32     16     bytes   the first half of the model's digest
48     16     bytes   ``part_id`` in UTF-8, cut to 16 bytes, filled with zeros
64     192    8 × 24  defects, the largest first, the rest zeros
====== ====== ======= =========================================================================

A defect:

====== ====== ======= =========================================================================
0      2      uint16  class id, from 1 on
2      2      uint16  confidence in ten-thousandths
4      4      uint32  area in pixels
8      8      uint16  left, top, right, bottom of its box in pixels
16     8      float32 x, y of its centre in pixels
====== ====== ======= =========================================================================

Errors are JSON with a status of 400 and above, as everywhere: whoever does not read 256 bytes
with the status 200 has no verdict.
"""

import struct

from defect_assets.inference.postprocessing import Analysis

SIZE = 256
_HEAD = struct.Struct(">4s4H3I2f16s16s")
_DEFECT = struct.Struct(">2HI4H2f")
_DEFECTS = 8
_VERDICTS = {"ok": 0, "ng": 1, "uncertain": 2}


def record(analysis: Analysis, digest: str, part_id: str, milliseconds: float) -> bytes:
    """Return the record of one image."""
    height, width = analysis.mask.shape
    shown = analysis.defects[:_DEFECTS]
    head = _HEAD.pack(
        b"DFCT",
        1,
        _VERDICTS[analysis.verdict],
        min(len(analysis.defects), 65535),
        len(shown),
        width,
        height,
        sum(defect.area_px for defect in analysis.defects),
        max((defect.confidence for defect in analysis.defects), default=0.0),
        milliseconds,
        bytes.fromhex(digest)[:16],
        part_id.encode()[:16].decode(errors="ignore").encode(),
    )
    body = b"".join(
        _DEFECT.pack(
            defect.class_id,
            round(defect.confidence * 10_000),
            defect.area_px,
            *(min(edge, 65535) for edge in defect.bbox_xyxy),
            *defect.centroid_xy,
        )
        for defect in shown
    )
    return (head + body).ljust(SIZE, b"\0")
