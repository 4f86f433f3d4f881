"""The split that scores are flattered by."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.dataset.description import SplitPolicy
from defect_assets.dataset.leaky_split import leaky_split, share_seen
from defect_assets.dataset.split import PARTS, Split, divide
from defect_assets.store import Store, open_store


def _counts(rows: pa.Table) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {part: {} for part in PARTS}
    for row in rows.to_pylist():
        of_part = found[row["part"]]
        of_part[row["class"]] = of_part.get(row["class"], 0) + 1
    return found


def _split(store: Store, parts: int, exposures: int, seed: int) -> Split:
    rows = [
        (f"p{part:03}-{exposure}", f"p{part:03}", ("Free", "Crack")[part % 2])
        for part in range(parts)
        for exposure in range(exposures)
    ]
    columns = dict(zip(("sample", "group", "class"), zip(*rows, strict=True), strict=True))
    policy = SplitPolicy(train=0.6, val=0.2, test=0.2, seed=seed, folds=3)
    table = divide(pa.table({k: list(v) for k, v in columns.items()}), policy, "Free")
    return Split(
        dataset="DS-1.0.0",
        snapshot="0" * 64,
        policy=policy,
        rows=store.objects.put_table(table),
        counts=_counts(table),
        groups=dict.fromkeys(PARTS, 0),
    )


@given(parts=st.integers(10, 60), exposures=st.integers(1, 6), seed=st.integers(0, 5))
def test_only_who_is_where_is_left_to_chance(
    tmp_path_factory: pytest.TempPathFactory, parts: int, exposures: int, seed: int
) -> None:
    store = open_store(str(tmp_path_factory.mktemp("store")))
    split = _split(store, parts, exposures, seed)
    leaky = leaky_split(store, split)
    before, after = store.objects.get_table(split.rows), store.objects.get_table(leaky.rows)
    for name in ("sample", "group", "class"):
        assert after[name].equals(before[name])
    assert _counts(after) == _counts(before)
    assert leaky.counts == split.counts
    assert leaky_split(store, split) == leaky
    assert share_seen(store, split) == 0
    if exposures > 2 and parts > 20:
        assert share_seen(store, leaky) > 0.5
