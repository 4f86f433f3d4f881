import re
from pathlib import Path

import numpy as np
import pytest

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.evaluate import GALLERY, evaluate, make_report
from defect_assets.evaluation.report import IMAGES, PAGE, REPORT, Report
from defect_assets.inference.detector import Detector
from defect_assets.store.objects import write_tree
from tests.inference.test_detector import untrained_bundle


@pytest.fixture
def images() -> list[LabelledImage]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(3 * (GALLERY + 3)):
        mask = np.zeros((40, 50), np.uint8)
        name = ["Free", "Crack", "Fray"][i % 3]
        if name != "Free":
            mask[5:15, 5:25] = i % 3
        image = rng.integers(0, 255, mask.shape, np.uint8)
        found.append(LabelledImage(f"<s{i}>", name, f"g{i // 3}", "exp1", image, mask))
    return found


@pytest.fixture
def two_classes(description: DatasetDescription) -> DatasetDescription:
    crack, fray = (c for c in description.classes if c.name in ("Crack", "Fray"))
    classes = (crack.model_copy(update={"id": 1}), fray.model_copy(update={"id": 2}))
    return description.model_copy(update={"classes": classes})


def test_a_report_is_self_contained_and_says_what_was_measured(
    images: list[LabelledImage], two_classes: DatasetDescription, tmp_path: Path
) -> None:
    write_tree(untrained_bundle(), tmp_path)
    detector = Detector.load(tmp_path)
    table, gallery = evaluate(detector, images, two_classes)
    assert len(table) == len(images)
    assert 0 < len(gallery) <= GALLERY
    assert [p.dice for p in gallery] == sorted(p.dice for p in gallery)

    history = [{"step": 1, "loss": 1.0, "val_dice": 0.1}, {"step": 2, "loss": 0.5, "val_dice": 0.2}]
    arguments = ("DS-1.0.0", "C-01", "b" * 64, "s" * 64, detector, table, gallery, history)
    report, files = make_report(*arguments, two_classes)
    assert make_report(*arguments, two_classes) == (report, files)

    assert Report.model_validate_json(files[REPORT]) == report
    assert report.test.groups == len({i.group for i in images})
    assert files[IMAGES].decode().count("\n") == len(images) + 1
    page = files[PAGE].decode()
    assert f"{report.test.dice:.3f}" in page
    assert "&lt;s" in page
    assert "<s0>" not in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
