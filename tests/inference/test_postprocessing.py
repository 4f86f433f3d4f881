import cv2
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from defect_assets.inference.postprocessing import Postprocessing

NAMES = {1: "Crack", 2: "Fray"}


def _probabilities(defective: np.ndarray, crack: np.ndarray) -> np.ndarray:
    """Return maps of background, Crack and Fray; ``crack`` is its share of the defect."""
    return np.stack([1 - defective, defective * crack, defective * (1 - crack)]).astype(np.float32)


grids = arrays(np.float32, (9, 11), elements=st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.95]))


@given(defective=grids, crack=grids, min_area=st.integers(1, 6))
def test_regions_agree_with_an_independent_labelling(
    defective: np.ndarray, crack: np.ndarray, min_area: int
) -> None:
    post = Postprocessing(threshold=0.5, review_threshold=0.3, min_area_px=min_area)
    analysis = post(_probabilities(defective, crack), NAMES)

    labels, count = scipy.ndimage.label(defective >= 0.5, structure=np.ones((3, 3)))
    expected = {}
    for label in range(1, count + 1):
        region = labels == label
        if region.sum() >= min_area:
            rows, columns = np.nonzero(region)
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            expected[tuple(map(int, box)), int(region.sum())] = (
                columns.mean(),
                rows.mean(),
                defective[region].mean(),
                1
                if (crack * defective)[region].sum() >= ((1 - crack) * defective)[region].sum()
                else 2,
                region,
            )
    found = {(d.bbox_xyxy, d.area_px): d for d in analysis.defects}
    # Two regions can share a box and an area; the counts must agree even so.
    assert len(analysis.defects) == sum(
        (labels == label).sum() >= min_area for label in range(1, count + 1)
    )
    assert found.keys() == expected.keys()
    if len(found) == len(analysis.defects):
        for key, defect in found.items():
            x, y, confidence, _, region = expected[key]
            assert defect.centroid_xy == pytest.approx((x, y))
            assert defect.confidence == pytest.approx(confidence, abs=1e-5)
            assert (analysis.mask[region] == defect.class_id).all()
            along, across, angle = _axes(region)
            assert defect.major_axis == pytest.approx(along)
            assert defect.minor_axis == pytest.approx(across)
            if along > across * (1 + 1e-9):
                assert np.cos(2 * np.radians(defect.angle_deg - angle)) == pytest.approx(1)
            assert NAMES[defect.class_id] == defect.class_name
    assert (analysis.mask > 0).sum() == sum(d.area_px for d in analysis.defects)


def _axes(region: np.ndarray) -> tuple[float, float, float]:
    """Return length, width and angle of a region, from the eigenvectors of its covariance."""
    y, x = np.nonzero(region)
    covariance = np.atleast_2d(np.cov(np.stack([x, y]), bias=True)) + np.eye(2) / 12
    values, vectors = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    return 4 * np.sqrt(values[1]), 4 * np.sqrt(values[0]), angle


@pytest.mark.parametrize("turned", [0, 30, 45, 90, 120, -60])
def test_an_ellipse_has_its_own_axes(turned: int) -> None:
    canvas = np.zeros((200, 200), np.uint8)
    cv2.ellipse(canvas, (100, 100), (60, 20), turned, 0, 360, 1, -1)
    (defect,) = Postprocessing()(_probabilities(canvas * 0.9, np.ones(canvas.shape)), NAMES).defects
    assert defect.major_axis == pytest.approx(120, rel=0.03)
    assert defect.minor_axis == pytest.approx(40, rel=0.05)
    assert abs((defect.angle_deg - turned + 90) % 180 - 90) < 1
    assert -90 < defect.angle_deg <= 90


@given(defective=grids)
def test_the_verdict_follows_from_the_regions(defective: np.ndarray) -> None:
    post = Postprocessing(threshold=0.5, review_threshold=0.3, min_area_px=2)
    analysis = post(_probabilities(defective, np.ones_like(defective)), NAMES)
    doubtful = Postprocessing(threshold=0.3, review_threshold=0.3, min_area_px=2)(
        _probabilities(defective, np.ones_like(defective)), NAMES
    )
    if analysis.defects:
        assert analysis.verdict == "ng"
    else:
        assert analysis.verdict == ("uncertain" if doubtful.defects else "ok")


def test_a_region_has_the_class_that_it_mostly_looks_like() -> None:
    defective = np.full((4, 6), 0.9, np.float32)
    crack = np.zeros_like(defective)
    crack[:, :2] = 1
    analysis = Postprocessing()(_probabilities(defective, crack), NAMES)
    assert [d.class_name for d in analysis.defects] == ["Fray"]
    assert (analysis.mask == 2).all()


def test_defects_are_sorted_by_area() -> None:
    defective = np.zeros((10, 30), np.float32)
    defective[1:3, 1:3] = defective[1:6, 10:15] = defective[1:4, 20:23] = 0.9
    analysis = Postprocessing()(_probabilities(defective, np.ones_like(defective)), NAMES)
    assert [d.area_px for d in analysis.defects] == [25, 9, 4]


def test_a_review_threshold_above_the_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be above"):
        Postprocessing(threshold=0.3, review_threshold=0.5)
