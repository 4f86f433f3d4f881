"""From experiments to production and back: the synthetic line, as a quality engineer works."""

import json
import shutil
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import yaml

from defect_assets.home import Home
from defect_assets.registry.release.releases import read_documents
from tests.checkouts import commit_all
from tests.end_to_end.conftest import Checkout

pytestmark = pytest.mark.slow

GATES = {"floors": {"dice": 0.3}, "no_class_worse_than_production": True, "no_leaks": True}


def _correct(checkout: Checkout, name: str, first: int, last: int, shrink: int) -> None:
    """Deliver other masks for some tiles: what was labelled, with a rim of some pixels less."""
    masks = checkout.home / "inbox" / name / "masks"
    masks.mkdir(parents=True)
    for path in sorted(checkout.home.glob("inbox/line-1-*/masks/*.png")):
        tile = int(path.name.split("-")[1])
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if first <= tile <= last and mask.any():
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * shrink + 1,) * 2)
            less = cv2.erode(mask, kernel)
            # What would vanish keeps a dot: a mask without a defect is refused.
            y, x = np.argwhere(mask)[len(np.argwhere(mask)) // 2]
            less[y, x] = mask[y, x]
            cv2.imwrite(str(masks / path.name), less)
    (masks.parent / "_COMPLETE").touch()


def test_a_planted_regression_is_refused_found_and_undone(
    demo: Checkout, copy_checkout: Callable[[], Checkout]
) -> None:
    checkout = copy_checkout()
    shutil.copytree(demo.home, checkout.home)
    (checkout.root / "configs" / "gates.yaml").write_text(yaml.safe_dump(GATES))
    path = checkout.root / "configs" / "C-02.yaml"
    values = yaml.safe_load((checkout.root / "configs" / "C-01.yaml").read_text())
    path.write_text(yaml.safe_dump(values | {"optimizer": {"learning_rate": 0.002}}))
    commit_all(checkout.root)

    # Two snapshots, a label fix between, and two configurations: four experiments.
    checkout.cli("repro", "--config", "C-01", "--config", "C-02")
    checkout.cli("promote", "v0.1.0", "production", "--why", "the first")
    _correct(checkout, "fix", 1, 8, shrink=1)
    checkout.cli("repro", "--config", "C-01", "--config", "C-02")
    board = checkout.cli("leaderboard").stdout
    for experiment in ("DS-1.1.0", "DS-1.1.1", "C-01", "C-02"):
        assert experiment in board

    said = checkout.cli("compare", "DS-1.1.1/C-01", "DS-1.1.1/C-02").stdout
    assert "learning_rate" in said
    both = checkout.cli("compare", "DS-1.1.0/C-01", "DS-1.1.1/C-02").stdout
    assert "data" in both
    assert "config" in both

    # The next release is promoted; then labels of one batch are eroded, and a gate refuses.
    checkout.cli("promote", "v0.2.0", "production", "--why", "labels fixed")
    _correct(checkout, "careless", 1, 150, shrink=9)
    refused = checkout.cli("repro", check=False)
    assert refused.returncode == 1
    assert "no class worse than production" in refused.stderr
    store = Home(checkout.home).store()
    assert store.content("releases/v0.3.0") is None
    checkout.cli("release", "DS-1.1.2/C-01", "--override", "to see what triage says")
    assert b"to see what triage says" in read_documents(store, "v0.3.0")["RELEASE.md"]
    checkout.cli("promote", "v0.3.0", "production", "--why", "in a hurry")

    # Why is it worse? The data, and the batch that did it.
    found = checkout.cli("triage", "v0.2.0", "production").stdout
    assert "data" in found
    assert "careless" in found

    checkout.cli("rollback", "production", "--why", "it misses rims")
    assert store.content("channels/production") == store.content("releases/v0.2.0")
    told = json.loads(checkout.cli("lineage", "production", "--json").stdout)
    assert "DS-1.1.1" in str(told)
    assert "bundle is the same, to the last bit" in checkout.cli("reproduce", "v0.2.0").stdout
    answers = checkout.cli("audit", check=False).stdout
    assert "v0.2.0" in answers
    assert "to see what triage says" in answers
