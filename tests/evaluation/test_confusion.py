import numpy as np
import pandas as pd

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.confusion import NOTHING, Verdicts, confusion
from defect_assets.evaluation.counter import Counter
from defect_assets.inference.postprocessing import Analysis

NAMES = {1: "Crack", 2: "Fray"}


def _evaluated(images: list[tuple[str, int, int, str]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Evaluate images by group, true class, class found and verdict."""
    counter = Counter(NAMES, 0.5)
    for number, (group, true, found, verdict) in enumerate(images):
        truth, prediction = (np.full((4, 5), c, np.uint8) for c in (true, found))
        analysis = Analysis(verdict, [], prediction, (prediction > 0).astype(np.float32))  # type: ignore[arg-type]
        counter.add(LabelledImage(f"s{number}", "", group, "", truth, truth), analysis)
    evaluation = counter.counted()
    return evaluation.images, evaluation.regions


def test_what_is_taken_for_what() -> None:
    images, regions = _evaluated(
        [
            ("a", 1, 1, "ng"),
            ("a", 1, 0, "ok"),
            ("b", 1, 2, "ng"),
            ("c", 2, 0, "uncertain"),
            ("c", 2, 0, "ok"),
            ("d", 0, 0, "ok"),
            ("e", 0, 2, "ng"),
            ("e", 0, 0, "uncertain"),
        ]
    )
    found = confusion(images, regions, list(NAMES.values()))
    assert found.defective_images == Verdicts(ok=2, uncertain=1, ng=2)
    assert found.free_images == Verdicts(ok=1, uncertain=1, ng=1)
    assert found.defective_parts == Verdicts(ok=0, uncertain=1, ng=2)
    assert found.free_parts == Verdicts(ok=1, uncertain=0, ng=1)
    assert found.classes == {
        "Crack": {"Crack": 1, "Fray": 1, NOTHING: 1},
        "Fray": {"Crack": 0, "Fray": 0, NOTHING: 2},
        NOTHING: {"Crack": 0, "Fray": 1},
    }


def test_where_nothing_is_nothing_is_confused() -> None:
    images, regions = _evaluated([("a", 0, 0, "ok")])
    found = confusion(images, regions, list(NAMES.values()))
    assert found.defective_parts == Verdicts(ok=0, uncertain=0, ng=0)
    assert sum(n for row in found.classes.values() for n in row.values()) == 0
