"""What a bento holds for other runtimes than PyTorch."""

from pathlib import Path

import numpy as np
import pytest

from defect_assets.inference.bundle import bundle_digest
from defect_assets.inference.detector import Detector
from defect_assets.inference.exported import CHECK, EXPORTED, MODEL, Sample, read_exported
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.registry import exporting
from defect_assets.registry.exporting import IN_CHECK, Comparison, export_runtimes
from defect_assets.store.objects import write_tree
from tests.inference.test_detector import untrained_bundle
from tests.trained import trained_bundle, unseen_tiles


def exported_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (MODEL, CHECK, EXPORTED)}


def test_on_a_trained_model_runtimes_answer_as_pytorch_does(tmp_path: Path) -> None:
    write_tree(trained_bundle(), tmp_path)
    digest = bundle_digest(tmp_path)
    comparisons = {c.runtime: c for c in export_runtimes(tmp_path, unseen_tiles())}
    assert {"openvino fp32", "onnx fp32"} <= set(comparisons)
    for comparison in comparisons.values():
        assert comparison.images == len(unseen_tiles())
        assert comparison.passed, comparison
    for name in ("openvino fp32", "onnx fp32"):
        assert comparisons[name].agreement > 0.9999
        assert comparisons[name].verdicts == len(unseen_tiles())
    assert bundle_digest(tmp_path) == digest
    sample = Sample.load(tmp_path / CHECK)
    assert 0 < len(sample.fitted) <= IN_CHECK
    assert sample.classes.any()


def test_the_same_bundle_is_exported_bit_by_bit(tmp_path: Path) -> None:
    exports = []
    for name in ("one", "two"):
        write_tree(untrained_bundle(), tmp_path / name)
        export_runtimes(tmp_path / name, unseen_tiles()[:8])
        exports.append(exported_files(tmp_path / name))
    assert exports[0] == exports[1]


def test_a_runtime_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    """An untrained network with a threshold amid what it says of most pixels: where bf16 is not
    exact enough."""
    write_tree(untrained_bundle(), tmp_path / "first")
    tiles = unseen_tiles()[:8]
    analyses = [Detector.load(tmp_path / "first", device="cpu").analyze(t.image) for t in tiles]
    middle = float(np.median(np.concatenate([a.probability.ravel() for a in analyses])))
    brink = Postprocessing(threshold=middle, review_threshold=middle / 2)
    write_tree(untrained_bundle(postprocessing=brink), tmp_path / "brink")
    comparisons = {c.runtime: c for c in export_runtimes(tmp_path / "brink", tiles)}
    if "openvino bf16" not in comparisons:
        pytest.skip("this processor does not compute in bf16")
    assert comparisons["openvino bf16"].agreement < 0.999
    exported = read_exported(tmp_path / "brink")
    assert exported is not None
    assert set(exported.refused) == {c.runtime for c in comparisons.values() if not c.passed}
    assert "openvino bf16" in exported.refused
    assert Detector.load(tmp_path / "brink", "auto", "cpu").runtime not in exported.refused


def test_where_all_are_refused_pytorch_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MIN_AGREEMENT", 1.1)
    write_tree(untrained_bundle(), tmp_path)
    assert not any(c.passed for c in export_runtimes(tmp_path, unseen_tiles()[:8]))
    assert not (tmp_path / MODEL).exists()
    assert Detector.load(tmp_path, "auto", "cpu").runtime == "torch fp32"


@pytest.mark.parametrize(
    ("agreement", "dice", "passed"),
    [(0.9995, 0.801, True), (0.9985, 0.8, False), (0.9995, 0.79, False), (0.9995, 0.81, False)],
)
def test_both_pixels_and_dice_count(agreement: float, dice: float, passed: bool) -> None:
    comparison = Comparison(
        runtime="x", images=1, agreement=agreement, dice=dice, dice_of_pytorch=0.8, verdicts=1
    )
    assert comparison.passed == passed
