import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.counter import Evaluation
from defect_assets.evaluation.evaluate import evaluate
from defect_assets.evaluation.gallery import SIZE
from defect_assets.evaluation.latency import Latency, LatencyError, measure_latency
from defect_assets.evaluation.page import render_page
from defect_assets.evaluation.report import IMAGES, PAGE, REGIONS, REPORT, Report
from defect_assets.evaluation.reporting import make_report, report_files
from defect_assets.inference.detector import Detector
from defect_assets.registry.exporting import export_runtimes
from defect_assets.store.objects import write_tree
from tests.browser import chromium
from tests.inference.test_detector import untrained_bundle

HISTORY = [{"step": 1, "loss": 1.0, "val_dice": 0.1}, {"step": 2, "loss": 0.5, "val_dice": 0.2}]
LATENCY = Latency(
    runtime="torch fp32",
    device="cpu",
    processors=1,
    runs=50,
    p50_ms=12.5,
    p95_ms=21.0,
    peak_memory_mb=640.0,
    machine="a machine",
)


@pytest.fixture
def images() -> list[LabelledImage]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(3 * (SIZE + 3)):
        mask = np.zeros((40, 50), np.uint8)
        name = ["Free", "Crack", "Fray"][i % 3]
        if name != "Free":
            mask[5:15, 5:25] = i % 3
        image = rng.integers(0, 255, mask.shape, np.uint8)
        found.append(
            LabelledImage(f"<s{i}>", name, f"g{i // 3}", f"exp{i % 2}", image, mask, f"b{i % 4}")
        )
    return found


@pytest.fixture
def two_classes(description: DatasetDescription) -> DatasetDescription:
    crack, fray = (c for c in description.classes if c.name in ("Crack", "Fray"))
    classes = (crack.model_copy(update={"id": 1}), fray.model_copy(update={"id": 2}))
    return description.model_copy(update={"classes": classes})


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    write_tree(untrained_bundle(), tmp_path)
    return Detector.load(tmp_path)


def _report(detector: Detector, evaluation: Evaluation) -> Report:
    return make_report("DS-1.0.0", "C-01", "b" * 64, "s" * 64, detector.spec, evaluation, 200)


def test_a_report_is_self_contained_and_says_what_was_measured(
    images: list[LabelledImage], two_classes: DatasetDescription, detector: Detector
) -> None:
    evaluation = evaluate(detector, images, two_classes)
    assert len(evaluation.images) == len(images)
    assert max(len(gallery.entries) for gallery in evaluation.galleries) == SIZE

    report = _report(detector, evaluation)
    files = report_files(report, evaluation, HISTORY, two_classes)
    again = evaluate(detector, images, two_classes)
    assert report_files(_report(detector, again), again, HISTORY, two_classes) == files

    assert Report.model_validate_json(files[REPORT]) == report
    assert report.test.groups == len({i.group for i in images})
    assert report.test.aupro is not None
    assert report.intervals["aupro"][0] < report.test.aupro < report.intervals["aupro"][1]
    assert {s.condition for s in report.conditions} == {"exposure", "batch", "brightness"}
    assert sum(b.regions for b in report.sizes) == report.test.regions
    assert sum(b.pixels for b in report.reliability) == sum(i.mask.size for i in images)
    assert files[IMAGES].decode().count("\n") == len(images) + 1
    assert files[REGIONS].decode().count("\n") == len(evaluation.regions) + 1
    page = files[PAGE].decode()
    assert f"{report.test.dice:.3f}" in page
    assert "&lt;s" in page
    assert "<s0>" not in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert "Time and memory" not in page  # which differ from run to run


def test_a_report_without_a_defect_or_a_condition(
    images: list[LabelledImage], two_classes: DatasetDescription, detector: Detector
) -> None:
    """Nothing to measure is no fault of the page."""
    evaluation = evaluate(detector, images[:1], two_classes)
    report = _report(detector, evaluation)
    assert report.test.dice is None
    assert report.sizes == ()
    assert report.conditions == ()
    page = render_page(report, evaluation, HISTORY, two_classes, [LATENCY]).decode()
    assert "each taken for a physical part of its own" in page


def test_a_report_from_before_there_was_more_than_metrics(
    images: list[LabelledImage], two_classes: DatasetDescription, detector: Detector
) -> None:
    report = _report(detector, evaluate(detector, images, two_classes))
    test = {"dice", "iou", "macro_dice", "classes", "image_auroc", "images", "groups"}
    shares = {"false_alarms", "escapes", "uncertain"}
    fields = {"dataset", "config", "bundle", "split"}
    old = report.model_dump(include={**dict.fromkeys(fields, True), "test": test | shares})
    old["postprocessing"] = {"threshold": 0.5, "review_threshold": 0.25, "min_area_px": 16}
    assert Report.model_validate(old).test.dice == report.test.dice


def test_a_model_is_timed_in_each_runtime_in_a_process_of_its_own(
    images: list[LabelledImage], tmp_path: Path
) -> None:
    seen = [image.image for image in images]
    write_tree(untrained_bundle(), tmp_path)
    [alone] = measure_latency(tmp_path, seen)
    assert alone.runtime == "torch fp32"
    export_runtimes(tmp_path, images)
    large = np.ones(10**9, np.uint8)  # what the caller has in memory is not the model's
    found = {latency.runtime.split()[0]: latency for latency in measure_latency(tmp_path, seen)}
    del large
    assert set(found) == {"torch", "openvino", "onnx"}
    for latency in found.values():
        assert 0 < latency.p50_ms <= latency.p95_ms
        assert latency.processors >= 1
    if alone.peak_memory_mb is None:
        pytest.skip("this system does not tell a process's memory")
    assert alone.peak_memory_mb > 50
    assert found["torch"].peak_memory_mb == pytest.approx(alone.peak_memory_mb, rel=0.1)
    # Those that need no PyTorch did not load it.
    assert found["onnx"].peak_memory_mb < 0.7 * alone.peak_memory_mb


def test_what_cannot_be_timed_is_an_error(images: list[LabelledImage], tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match="could not be timed.*holds no bundle|is no bundle"):
        measure_latency(tmp_path, [images[0].image])


@pytest.fixture
def page(
    images: list[LabelledImage],
    two_classes: DatasetDescription,
    detector: Detector,
    tmp_path: Path,
) -> Iterator[Page]:
    """The report in a browser, which keeps what it was asked for and what went wrong."""
    evaluation = evaluate(detector, images, two_classes)
    path = tmp_path / PAGE
    report = _report(detector, evaluation)
    path.write_bytes(render_page(report, evaluation, HISTORY, two_classes, [LATENCY]))
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        yield page
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        browser.close()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
def test_pictures_enlarge_by_a_click_and_turn_by_the_arrows(page: Page) -> None:
    assert "12 ms" in page.locator(".cards").inner_text()
    viewer, figures = page.locator("dialog"), page.locator("figure")
    first, second = (figures.nth(n).locator("figcaption b").inner_text() for n in (0, 1))
    last = figures.last.locator("figcaption b").inner_text()
    assert not viewer.is_visible()
    thumbnail = figures.first.locator("svg").first.bounding_box()
    figures.first.locator("button").click()
    assert viewer.is_visible()
    assert viewer.locator("p b").inner_text() == first
    large = viewer.locator("svg").first.bounding_box()
    assert thumbnail is not None
    assert large is not None
    assert large["width"] > 2 * thumbnail["width"]
    assert viewer.locator("svg").count() == 4
    page.keyboard.press("ArrowRight")
    expect(viewer.locator("p b")).to_have_text(second)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(viewer.locator("p b")).to_have_text(last)
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(figures.last.locator("button")).to_be_focused()  # what was looked at last
    page.keyboard.press("Enter")
    expect(viewer.locator("p b")).to_have_text(last)
    viewer.locator(".views").click()
    expect(viewer).to_be_hidden()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
def test_nothing_is_cut_off_on_paper_or_on_a_phone(page: Page) -> None:
    for width, media in ((794, "print"), (390, "screen")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(media=media)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, media
