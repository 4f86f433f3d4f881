"""What Dagster shows beside a new evaluation."""

from pathlib import Path

from defect_assets.assets.comparing import compared
from defect_assets.store import Store
from tests.registry.experiments import experiment, half, released
from tests.small import cut, home_of, ingest, plain


def _shown(store: Store, dataset: str = "DS-1.0.0", config: str = "C-01") -> str:
    return str(compared(store, dataset, config)["comparison"].value)


def test_a_new_evaluation_is_shown_beside_the_one_before_or_production(tmp_path: Path) -> None:
    home = home_of(tmp_path / "home")
    store = home.store()
    plain(home, "first", range(40))
    ingest(home, store, "first")
    cut(home, store)
    first = experiment(store, "DS-1.0.0")
    assert compared(store, "DS-1.0.0", "C-01") == {}
    experiment(store, "DS-1.0.0", answer=half, weights=b"other")
    assert "| Dice | 1.000 | 0." in _shown(store)
    assert "What differs: nothing" in _shown(store)

    released(store, first, "v0.1.0", "production")
    experiment(store, "DS-1.0.0", "C-02", half, b"b")
    assert "| | production | DS-1.0.0 × C-02 |" in _shown(store, config="C-02")
    # That it cannot be compared is no reason for an evaluation to fail.
    store.backend.delete("refs/experiments/DS-1.0.0/C-01")
    assert "pull from the store" in _shown(store, config="C-02")
