import base64
import io
import struct

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from tests.service.conftest import Served, encoded, noise


def _decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_a_reply_says_what_the_detector_says(served: Served) -> None:
    image = noise()
    reply = served.post("/analyze", encoded(image), part_id="A-7", px_to_mm=0.5).json()
    expected = served.detector.analyze(image)
    assert expected.defects, "the network should find something to compare"
    assert (reply["verdict"], reply["width"], reply["height"]) == (expected.verdict, 80, 60)
    assert (_decoded(reply["mask"]) == expected.mask).all()
    assert (reply["part_id"], reply["schema_version"], reply["truncated"]) == ("A-7", 1, False)
    for number, (found, defect) in enumerate(
        zip(reply["defects"], expected.defects, strict=True), start=1
    ):
        assert found["id"] == number
        assert {name: found[name] for name in defect.model_dump()} == defect.model_dump(mode="json")
        assert found["area_mm2"] == pytest.approx(defect.area_px * 0.25)
        assert found["centroid_mm"] == pytest.approx([0.5 * c for c in defect.centroid_xy])
    assert reply["model"]["runtime"] == "torch fp32"
    assert reply["timings_ms"]["total"] >= reply["timings_ms"]["forward"] > 0


def test_millimetres_are_there_only_if_asked_for(served: Served) -> None:
    reply = served.post("/analyze", encoded(noise())).json()
    assert {d["area_mm2"] for d in reply["defects"]} == {None}


def test_the_three_forms_of_the_mask_agree(served: Served) -> None:
    image = encoded(noise(seed=1))
    png, rle, polygon = (
        served.post("/analyze", image, mask=form, min_area_px=3).json()
        for form in ("png", "rle", "polygon")
    )
    mask = _decoded(png["mask"])
    for class_id, counts in rle["mask"]["counts"].items():
        size = rle["mask"]["size"]
        decoded = coco.decode(coco.frPyObjects({"size": size, "counts": counts}, *size))
        assert (decoded == (mask == int(class_id))).all()
    assert {int(c) for c in rle["mask"]["counts"]} == {1, 2}
    assert [p["defect"] for p in polygon["mask"]] == [d["id"] for d in polygon["defects"]]
    for outline, defect in zip(polygon["mask"], polygon["defects"], strict=True):
        points = np.array(outline["outer"])
        left, top, right, bottom = defect["bbox_xyxy"]
        assert points.min(axis=0).tolist() == [left, top]
        assert points.max(axis=0).tolist() == [right - 1, bottom - 1]
        assert (mask[points[:, 1], points[:, 0]] == defect["class_id"]).all()
        for hole in outline["holes"]:
            assert (mask[np.array(hole)[:, 1], np.array(hole)[:, 0]] == defect["class_id"]).all()
    assert served.post("/analyze", image, mask="none").json()["mask"] is None


def test_a_threshold_counts_for_one_request_and_uncertain_keeps_its_proportion(
    served: Served,
) -> None:
    image = encoded(noise())
    probability = served.detector.analyze(noise()).probability
    above = float(probability.max()) + 0.001
    proportion = 0.62 / 0.687
    assert above * proportion < probability.max()
    assert served.post("/analyze", image, threshold=above).json()["verdict"] == "uncertain"
    assert served.post("/analyze", image, threshold=0.999).json()["verdict"] == "ok"
    assert served.post("/analyze", image).json()["verdict"] == "ng"


def test_the_probability_gives_the_mask_at_any_threshold(served: Served) -> None:
    image = encoded(noise())
    reply = served.post("/analyze", image, probability="png").json()
    red, green, _ = np.moveaxis(_decoded(reply["probability"]), 2, 0)
    expected = served.detector.analyze(noise())
    assert np.abs(red / 255 - expected.probability).max() <= 0.5 / 255 + 1e-6
    assert set(np.unique(green)) <= {1, 2}
    # Where a region is all of one class, that is the pixels' likeliest, too.
    mask = _decoded(reply["mask"])
    assert (green[mask > 0] == mask[mask > 0]).mean() > 0.5


def test_more_defects_than_are_listed_are_said_to_be(serve) -> None:
    served = serve(max_defects=2)
    reply = served.post("/analyze", encoded(noise()), min_area_px=1).json()
    everything = served.detector.analyze(noise()).defects
    assert len(everything) > 2
    assert reply["truncated"]
    assert [d["area_px"] for d in reply["defects"]] == [d.area_px for d in everything[:2]]


def test_a_turned_photograph_is_analyzed_upright(served: Served) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    reply = served.post("/analyze", encoded(noise(), "JPEG", exif=exif)).json()
    assert (reply["width"], reply["height"]) == (60, 80)


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("JPEG", "L"),
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("PNG", "1"),
        ("PNG", "P"),
        ("PNG", "LA"),
        ("PNG", "RGBA"),
        ("PNG", "I;16"),
        ("BMP", "RGB"),
        ("TIFF", "L"),
        ("TIFF", "I;16"),
        ("TIFF", "CMYK"),
        ("WEBP", "RGB"),
        ("WEBP", "RGBA"),
    ],
)
def test_every_format_and_kind_of_pixel_is_taken(served: Served, form: str, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(noise().astype(np.uint16) << 8)
    else:
        image = Image.fromarray(noise()).convert("RGB").convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form)
    reply = served.post("/analyze", buffer.getvalue())
    assert reply.status_code == 200, reply.text


def test_the_controllers_record_has_every_field_in_its_place(served: Served) -> None:
    reply = served.post("/plc", encoded(noise()), part_id="Zähler-0123456ß")
    expected = served.detector.analyze(noise())
    assert reply.headers["content-type"] == "application/octet-stream"
    assert len(reply.content) == 256
    magic, version, verdict, found, shown, width, height, area, highest, ms, digest, part = (
        struct.unpack_from(">4sHHHHIIIff16s16s", reply.content)
    )
    assert (magic, version, verdict) == (b"DFCT", 1, 1)
    assert (found, shown) == (len(expected.defects), min(8, len(expected.defects)))
    assert (width, height, area) == (80, 60, sum(d.area_px for d in expected.defects))
    assert highest == pytest.approx(max(d.confidence for d in expected.defects))
    assert ms > 0
    assert digest == bytes.fromhex(served.detector.digest)[:16]
    assert part.decode() == "Zähler-0123456\0"  # the ß would be cut in two
    for i, defect in enumerate(expected.defects[:8]):
        class_id, sure, area, *box, x, y = struct.unpack_from(
            ">HHIHHHHff", reply.content, 64 + 24 * i
        )
        assert (class_id, area, tuple(box)) == (
            defect.class_id,
            defect.area_px,
            defect.bbox_xyxy,
        )
        assert sure == round(10_000 * defect.confidence)
        assert (x, y) == pytest.approx(defect.centroid_xy)
    assert set(reply.content[64 + 24 * shown :]) <= {0}


@pytest.mark.parametrize(("threshold", "verdict"), [(0.999, 0), (0.687, 1)])
def test_the_controllers_verdict(served: Served, threshold: float, verdict: int) -> None:
    reply = served.post("/plc", encoded(noise()), threshold=threshold)
    assert struct.unpack_from(">H", reply.content, 6) == (verdict,)


def test_the_overlay_is_the_image_with_its_defects(served: Served) -> None:
    image = noise()
    reply = served.post("/overlay", encoded(image))
    shown = np.asarray(Image.open(io.BytesIO(reply.content)))
    assert shown.shape == (60, 80, 3)
    assert reply.headers["x-verdict"] == "ng"
    inside = served.detector.analyze(image).mask > 0
    coloured = (np.ptp(shown.astype(int), axis=2) > 0).reshape(inside.shape)
    assert coloured[inside].mean() > 0.99
    clean = served.post("/overlay", encoded(image), threshold=0.999)
    untouched = np.asarray(Image.open(io.BytesIO(clean.content)))
    assert (untouched == image[..., None]).all()


def test_each_image_of_a_batch_has_its_own_result_or_error(served: Served) -> None:
    files = [
        ("image", ("a.png", encoded(noise(seed=1)))),
        ("image", ("b.png", b"no image")),
        ("image", ("c.png", encoded(noise(40, 50, seed=2)))),
    ]
    reply = served.client.post("/analyze_batch", files=files, data={"mask": "none"})
    assert reply.status_code == 200
    first, second, third = reply.json()["results"]
    assert (first["filename"], first["result"]["width"], first["error"]) == ("a.png", 80, None)
    assert (second["result"], second["error"]["code"]) == (None, "unknown_format")
    assert (third["index"], third["result"]["width"]) == (2, 50)


def test_a_batch_of_too_many_images_is_refused(serve) -> None:
    served = serve(max_batch_images=2)
    files = [("image", (f"{i}.png", encoded(noise()))) for i in range(3)]
    reply = served.client.post("/analyze_batch", files=files)
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_many_images")


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_model_tells_its_lineage(served: Served, method: str) -> None:
    reply = getattr(served.client, method)("/model").json()
    assert (reply["release"], reply["dataset"], reply["config"]) == ("v0.1.0", "DS-1.0.0", "C-01")
    assert reply["bundle"]["class_map"] == {"1": "Crack", "2": "Fray"}
    assert (reply["device"], reply["metrics"]["dice"]) == ("cpu", 0.9)


def test_metrics_count_stages_and_verdicts_under_bounded_labels(served: Served) -> None:
    served.post("/analyze", encoded(noise()))
    for path in ("/wp-login.php", "/a/b/c", "/analyze/"):
        served.client.get(path)
    served.client.request("BREW", "/analyze")
    text = served.client.get("/metrics").text
    for stage in ("decode", "queue", "forward", "postprocess"):
        assert f'defect_stage_seconds_count{{stage="{stage}"}}' in text
    assert 'defect_verdicts_total{verdict="ng"}' in text
    assert 'route="other",status="404"' in text
    assert "wp-login" not in text
    assert "BREW" not in text


def test_the_clients_request_id_comes_back_if_it_is_sane(served: Served) -> None:
    sane = served.client.get("/model", headers={"X-Request-ID": "line-3.part:42"})
    assert sane.headers["x-request-id"] == "line-3.part:42"
    for odd in ("a b", "x" * 65, '{"x"}', ""):
        drawn = served.client.get("/model", headers={"X-Request-ID": odd}).headers["x-request-id"]
        assert len(drawn) == 32
