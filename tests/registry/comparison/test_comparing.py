from pathlib import Path

import numpy as np
import pytest

from defect_assets.dataset.images import LabelledImage
from defect_assets.dataset.split import read_split
from defect_assets.evaluation.comparison import Verdict
from defect_assets.home import Home
from defect_assets.registry.comparison.comparing import (
    CannotCompare,
    Compared,
    as_markdown,
    as_page,
    compare,
    reference_for,
)
from defect_assets.registry.comparison.leaderboard import leaderboard
from defect_assets.registry.subjects import Subject
from defect_assets.store import Record, Store
from defect_assets.training.config import TrainingConfig
from tests.registry.conftest import RELABELLED
from tests.registry.experiments import experiment, half, released, right, split
from tests.small import cut, deliver, ingest


def blind(image: LabelledImage) -> np.ndarray:
    """Find nothing."""
    return np.zeros_like(image.mask)


def _tested(store: Store, dataset: str) -> set[str]:
    rows = store.objects.get_table(read_split(store, split(store, dataset)).rows)
    pairs = zip(rows["sample"].to_pylist(), rows["part"].to_pylist(), strict=True)
    return {sample for sample, part in pairs if part == "test"}


def _warned(compared: Compared, text: str) -> bool:
    return any(text in warning for warning in compared.warnings)


def test_one_change_and_what_it_did(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    a = experiment(store, "DS-1.0.0", "C-01")
    b = experiment(store, "DS-1.0.0", "C-02", half, b"b", TrainingConfig(steps=31))
    compared = compare(store, a, b, tmp_path)
    assert compared.comparison.scores["dice"].verdict is Verdict.WORSE
    assert compared.comparison.images == len(_tested(store, "DS-1.0.0"))
    assert compared.warnings == ()
    assert compared.experiments == ("DS-1.0.0 × C-01", "DS-1.0.0 × C-02")


def test_several_changes_at_once_are_warned_of(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    a = experiment(store, "DS-1.0.0", "C-01")
    b = experiment(store, "DS-1.0.1", "C-02", values=TrainingConfig(steps=31))
    compared = compare(store, a, b, tmp_path)
    assert _warned(compared, "2 things changed at once (data, config)")
    assert _warned(compared, "defect-assets triage")


def test_images_whose_label_changed_do_not_count(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    a, b = experiment(store, "DS-1.0.0"), experiment(store, "DS-1.0.1")
    tested = _tested(store, "DS-1.0.0")
    assert tested == _tested(store, "DS-1.0.1")
    changed = tested & {f"s{n:03}" for n in RELABELLED}
    assert changed
    compared = compare(store, a, b, tmp_path)
    assert compared.comparison.left_out == {"the label changed": len(changed)}
    assert compared.comparison.images == len(tested) - len(changed)
    assert _warned(compared, f"{len(changed)} image")


def _divide_anew(home: Home, store: Store, seed: int) -> None:
    """Cut a version that is split by another seed."""
    text = home.dataset.read_text()
    assert f"seed: {seed - 1}" in text
    home.dataset.write_text(text.replace(f"seed: {seed - 1}", f"seed: {seed}"))
    cut(home, store)


def test_what_the_other_was_trained_on_is_said_and_left_out(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    _divide_anew(versions, store, 1)
    a, b = experiment(store, "DS-1.0.1"), experiment(store, "DS-2.0.0")
    one, other = _tested(store, "DS-1.0.1"), _tested(store, "DS-2.0.0")
    compared = compare(store, a, b, tmp_path)
    assert compared.comparison.images == len(one & other)
    assert compared.comparison.left_out["only the first was tested on"] == len(one - other)
    assert _warned(compared, f"the second was trained on {len(one - other)} images")
    assert _warned(compared, f"the first was trained on {len(other - one)} images")


def test_a_part_of_which_the_other_saw_images_is_left_out(versions: Home, tmp_path: Path) -> None:
    """Regrouped: what was tested is now of one part with what was trained on."""
    store = versions.store()
    tested = sorted(_tested(store, "DS-1.0.1"))
    trained = sorted({f"s{n:03}" for n in range(120)} - set(tested))[0]
    deliver(versions, "regroup", {}, {})
    (versions.inbox / "regroup" / "groups.csv").write_text(
        "sample,group\n" + "".join(f"{s},joined\n" for s in [*tested[:6], trained])
    )
    ingest(versions, store, "regroup")
    cut(versions, store)
    a, b = experiment(store, "DS-1.0.1"), experiment(store, "DS-2.0.0")
    common = _tested(store, "DS-1.0.1") & _tested(store, "DS-2.0.0")
    assert set(tested[:6]) <= common
    compared = compare(store, a, b, tmp_path)
    assert compared.comparison.images == len(common) - 6
    assert _warned(compared, "6 images that both were tested on show parts")


def test_nothing_in_common_is_said(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    a = experiment(store, "DS-1.0.1")
    for seed in range(1, 40):
        _divide_anew(versions, store, seed)
        dataset = f"DS-{seed + 1}.0.0"
        if not _tested(store, dataset) & _tested(store, "DS-1.0.1"):
            break
    compared = compare(store, a, experiment(store, dataset), tmp_path)
    assert compared.comparison.scores == {}
    assert _warned(compared, "nothing is common")


def test_reports_of_other_times_are_refused_or_warned_of(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    a = experiment(store, "DS-1.0.0")
    files = store.objects.get_json(a.evaluation.content)
    csv = store.objects.get(files["images.csv"]).decode().replace("missed_", "other_")
    older = store.objects.put_json(files | {"images.csv": store.objects.put(csv.encode())})
    record = a.evaluation.model_copy(update={"content": older, "code_version": "old"})
    old = Subject(a.name, a.dataset, a.config, a.model, record)
    with pytest.raises(CannotCompare, match="missed_"):
        compare(store, old, a, tmp_path)
    again = Subject(
        a.name, a.dataset, a.config, a.model, a.evaluation.model_copy(update={"code_version": "x"})
    )
    assert _warned(compare(store, again, a, tmp_path), "evaluated by different code")


def test_pages_are_self_contained_and_say_the_same(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    a = experiment(store, "DS-1.0.0", commit="a" * 40)
    b = experiment(
        store,
        "DS-1.0.1",
        "C-02",
        half,
        b"b",
        TrainingConfig(steps=31, notes="<b>"),
        code_version="two",
        commit="b" * 40,
        details={"unpinned": ["<script>"]},
    )
    compared = compare(store, a, b, tmp_path)
    page, text = as_page(compared), as_markdown(compared)
    for told in (page, text):
        assert "region recall" in told
        assert "3 things changed at once" in told
    assert "relabelled" in page
    assert "<script>" not in page
    assert "http" not in page
    assert Compared.model_validate_json(compared.model_dump_json()) == compared


def test_an_evaluation_is_held_against_production_or_the_one_before(versions: Home) -> None:
    store = versions.store()
    assert reference_for(store, "DS-1.0.0", "C-01") is None
    first = experiment(store, "DS-1.0.0")
    assert reference_for(store, "DS-1.0.0", "C-01") is None
    second = experiment(store, "DS-1.0.0", answer=half, weights=b"b")
    found = reference_for(store, "DS-1.0.0", "C-01")
    assert found is not None
    assert found.evaluation == first.evaluation
    # The same again is held against what was before it, not against itself.
    store.publish("reports/DS-1.0.0/C-01", second.evaluation)
    assert reference_for(store, "DS-1.0.0", "C-01") == found

    other = experiment(store, "DS-1.0.1")
    released(store, other, "v0.1.0", "production")
    found = reference_for(store, "DS-1.0.0", "C-01")
    assert found is not None
    assert (found.name, found.model) == ("production", other.model)
    assert reference_for(store, "DS-1.0.1", "C-01") is None


def test_the_leaderboard_has_all_that_was_evaluated(versions: Home) -> None:
    store = versions.store()
    assert leaderboard(store).standings == ()
    experiment(store, "DS-1.0.0", "C-01", half, b"half")
    best = experiment(store, "DS-1.0.0", "C-02", right, b"right")
    released(store, best, "v0.1.0")
    experiment(store, "DS-1.0.0", "C-03", details={"unpinned": ["not committed"]}, answer=blind)
    board = leaderboard(store)
    assert [s.config for s in board.standings] == ["C-02", "C-01", "C-03"]
    assert [s.best for s in board.standings] == [True, False, False]
    assert [s.releases for s in board.standings] == [("v0.1.0",), (), ()]
    assert [s.pinned for s in board.standings] == [True, True, False]
    assert board.same_test
    low, high = board.standings[1].dice_interval or (0, 0)
    assert low <= (board.standings[1].dice or 0) <= high

    experiment(store, "DS-1.0.1", "C-01", half, b"half")
    board = leaderboard(store)
    assert board.standings[0].dataset == "DS-1.0.1"
    assert board.standings[0].best
    assert not board.same_test  # the labels are others
    other = store.objects.put_tree({"model.safetensors": b"other"})
    store.publish("experiments/DS-1.0.1/C-01", Record(asset="trained_model", content=other))
    assert leaderboard(store).not_evaluated == ("DS-1.0.1/C-01",)
