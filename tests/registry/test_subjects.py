import pytest

from defect_assets.home import Home
from defect_assets.registry.subjects import UnknownSubject, find_evaluation, find_subject
from defect_assets.store import Record
from tests.registry.experiments import experiment, half, released


@pytest.mark.parametrize(
    "name", ["DS-1.0.0/C-01", "DS-1.0.0 × C-01", "DS-1.0.0×C-01", " DS-1.0.0 / C-01 "]
)
def test_an_experiment_is_named_as_it_is_shown(versions: Home, name: str) -> None:
    store = versions.store()
    made = experiment(store, "DS-1.0.0")
    found = find_subject(store, name)
    assert found == made
    assert (found.name, found.dataset, found.config) == ("DS-1.0.0 × C-01", "DS-1.0.0", "C-01")


def test_a_release_and_a_channel_lead_to_what_was_released_whatever_came_since(
    versions: Home,
) -> None:
    store = versions.store()
    first = experiment(store, "DS-1.0.0", commit="a" * 40)
    released(store, first, "v0.1.0", "production")
    # The same weights again, by another commit; then others.
    experiment(store, "DS-1.0.0", commit="b" * 40)
    second = experiment(store, "DS-1.0.0", answer=half, weights=b"other")
    for name in ("v0.1.0", "production"):
        found = find_subject(store, name)
        assert (found.name, found.model, found.evaluation) == (
            name,
            first.model,
            first.evaluation,
        )
    assert find_subject(store, "DS-1.0.0/C-01") == second
    assert find_evaluation(store, "DS-1.0.0", "C-01", first.evaluation).model.content == (
        first.model.content
    )


def test_what_is_unknown_is_answered_with_what_is_known(versions: Home) -> None:
    store = versions.store()
    with pytest.raises(UnknownSubject, match="nothing was evaluated yet"):
        find_subject(store, "v0.1.0")
    released(store, experiment(store, "DS-1.0.0"), "v0.1.0", "production")
    known = r"known: production, v0\.1\.0, DS-1\.0\.0/C-01"
    for name in ("v0.2.0", "staging", "DS-1.0.1/C-01", "../x"):
        with pytest.raises(UnknownSubject, match=known):
            find_subject(store, name)


def test_what_was_trained_since_it_was_evaluated_has_no_scores(versions: Home) -> None:
    store = versions.store()
    experiment(store, "DS-1.0.0")
    other = store.objects.put_tree({"model.safetensors": b"other"})
    store.publish("experiments/DS-1.0.0/C-01", Record(asset="trained_model", content=other))
    with pytest.raises(UnknownSubject, match="materialize evaluation_report first"):
        find_subject(store, "DS-1.0.0/C-01")


def test_a_release_whose_model_is_elsewhere_says_so(versions: Home) -> None:
    store = versions.store()
    made = experiment(store, "DS-1.0.0")
    released(store, made, "v0.1.0")
    store.backend.delete("refs/experiments/DS-1.0.0/C-01")
    with pytest.raises(UnknownSubject, match="pull from the store"):
        find_subject(store, "v0.1.0")
