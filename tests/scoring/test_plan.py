"""Shards: every image in one of them, whoever asks."""

import pickle
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.scoring import plan
from defect_assets.scoring.places import open_place
from defect_assets.scoring.plan import (
    LARGEST,
    PAGE,
    SMALLEST,
    HeldPlan,
    PlanGone,
    WrittenPlan,
    count_shards,
    hold_plan,
    size_of_shards,
    write_plan,
)
from defect_assets.scoring.sources import Item

ITEMS = st.lists(st.builds(Item, st.text(max_size=5), st.text(max_size=3)), min_size=1, max_size=40)


@given(items=ITEMS, size=st.sampled_from([1, 2, 4, 8]))
def test_the_shards_are_the_images(items: list[Item], size: int) -> None:
    with pytest.MonkeyPatch.context() as patched, TemporaryDirectory() as folder:
        patched.setattr(plan, "PAGE", 8)
        assert write_plan(open_place(folder), "plan", iter(items)) == len(items)
        written = WrittenPlan(folder, "plan", len(items), size)
        held = HeldPlan(hold_plan(items).table, size)
        for each in (written, held, pickle.loads(pickle.dumps(held))):
            numbers = range(count_shards(each))
            assert [item for n in numbers for item in each.items(n)] == items
            assert all(1 <= len(each.items(n)) <= size for n in numbers)


@given(st.integers(1, 10**9))
def test_shards_are_neither_tiny_nor_huge(images: int) -> None:
    size = size_of_shards(images)
    assert SMALLEST <= size <= LARGEST
    assert PAGE % size == 0


def test_a_shard_lies_in_one_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not divide"):
        WrittenPlan(str(tmp_path), "plan", 10, 3)


def test_a_plan_that_another_machine_does_not_see_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(PlanGone, match="each machine that works must see it"):
        WrittenPlan(str(tmp_path / "elsewhere"), "plan", 10, 4).items(0)


def test_ray_is_imported_by_those_who_ask_for_it_alone() -> None:
    script = (
        "import sys, defect_assets.scoring.score, defect_assets.scoring.in_process, definitions;"
        "sys.exit('ray' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
