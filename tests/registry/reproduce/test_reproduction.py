"""When a release counts as made again."""

import pytest

from defect_assets.registry.reproduce.reproduction import Compared, Reproduction


def outcome(same_machine: bool, same_bundle: bool, **scores: tuple) -> Reproduction:
    weights = Compared(what="weights", recorded="a", found="a" if same_bundle else "b")
    machine = Compared(what="processor", recorded="x", found="x" if same_machine else "y")
    return Reproduction(
        release="v0.1.0",
        compared=(machine, weights),
        same_machine=same_machine,
        same_bundle=same_bundle,
        scores=scores,
        tolerance=0.02,
    )


@pytest.mark.parametrize("same_machine", [True, False])
def test_the_same_bundle_is_enough(same_machine: bool) -> None:
    found = outcome(same_machine, same_bundle=True)
    assert found.reproduced
    assert "the bundle is the same" in found.verdict


def test_on_the_same_machine_good_scores_are_not_enough() -> None:
    found = outcome(True, False, dice=(0.8, 0.8))
    assert not found.reproduced
    assert found.verdict.endswith("the bundle must be the same; not equal: weights")


@pytest.mark.parametrize(
    ("scores", "reproduced"),
    [
        ((0.80, 0.82), True),
        ((0.80, 0.83), False),
        ((0.83, 0.80), False),
        ((None, None), True),
        ((None, 0.8), False),
        ((0.8, None), False),
    ],
)
def test_on_another_machine_scores_must_agree_within_the_tolerance(
    scores: tuple, reproduced: bool
) -> None:
    found = outcome(False, False, dice=scores, iou=(0.5, 0.5))
    assert found.reproduced == reproduced
    assert list(found.apart) == ([] if reproduced else ["dice"])
    assert ("within 0.02" in found.verdict) == reproduced
    assert "processor" in found.verdict or not reproduced


def test_where_nothing_was_scored_nothing_is_shown() -> None:
    assert not outcome(False, False).reproduced
