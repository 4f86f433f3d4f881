from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.store import (
    Corrupted,
    NotInStore,
    Record,
    RefConflict,
    Store,
    canonical_json,
    digest_of,
    open_store,
)
from defect_assets.store.objects import table_digest, write_tree

cells = st.one_of(st.integers(), st.text(max_size=5))
tables = st.dictionaries(st.text(max_size=5), st.tuples(cells, cells), max_size=8)


def _frame(rows: list[tuple[str, tuple[object, object]]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(key, str(a), str(b)) for key, (a, b) in rows], columns=["key", "a", "b"], dtype=str
    )


def test_objects_are_named_by_their_content(store: Store) -> None:
    digest = store.objects.put(b"image")
    assert digest == digest_of(b"image")
    assert store.objects.get(digest) == b"image"
    assert digest in store.objects
    assert digest_of(b"other") not in store.objects
    with pytest.raises(NotInStore):
        store.objects.get(digest_of(b"other"))


def test_the_same_content_is_stored_once(store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        store.objects.put(b"image")
    assert sum(p.is_file() for p in (tmp_path / "store" / "objects").rglob("*")) == 1


def test_a_flipped_bit_is_found_when_read(store: Store, tmp_path: Path) -> None:
    digest = store.objects.put(b"image")
    file = tmp_path / "store" / "objects" / digest[:2] / digest[2:]
    file.chmod(0o644)
    file.write_bytes(b"imagf")
    with pytest.raises(Corrupted, match=f"objects/{digest[:2]}/{digest[2:]} does not have"):
        store.objects.get(digest)


def test_a_damaged_table_is_found_when_read(store: Store, tmp_path: Path) -> None:
    digest = store.objects.put_table(_frame([("x", (1, 2))]))
    file = tmp_path / "store" / "tables" / digest[:2] / f"{digest[2:]}.parquet"
    file.chmod(0o644)
    other = _frame([("x", (1, 3))])
    other.to_parquet(file)
    with pytest.raises(Corrupted, match="does not have its digest"):
        store.objects.get_table(digest)
    file.write_bytes(b"PAR1 rubbish PAR1")
    with pytest.raises(Corrupted, match="cannot be read"):
        store.objects.get_table(digest)


@given(rows=tables, data=st.data())
def test_a_tables_digest_does_not_depend_on_the_order_of_rows(
    rows: dict[str, tuple[object, object]], data: st.DataObject
) -> None:
    items = list(rows.items())
    shuffled = data.draw(st.permutations(items))
    assert table_digest(_frame(items)) == table_digest(_frame(list(shuffled)))


@given(rows=tables.filter(bool), data=st.data())
def test_a_tables_digest_depends_on_each_cell(
    rows: dict[str, tuple[object, object]], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(rows)))
    changed = rows | {key: (rows[key][0], f"{rows[key][1]}!")}
    assert table_digest(_frame(list(rows.items()))) != table_digest(_frame(list(changed.items())))


def test_cells_do_not_run_into_each_other() -> None:
    assert table_digest(_frame([("x", ("ab", "c"))])) != table_digest(_frame([("x", ("a", "bc"))]))


def test_a_tables_key_must_be_unique() -> None:
    with pytest.raises(ValueError, match="unique"):
        table_digest(_frame([("x", (1, 2)), ("x", (3, 4))]))


def test_tables_come_back_as_they_were(store: Store) -> None:
    table = pd.DataFrame({"key": ["b", "a"], "count": [2, 1], "name": ["é", ""]})
    digest = store.objects.put_table(table)
    back = store.objects.get_table(digest)
    assert back.to_dict("records") == [
        {"key": "a", "count": 1, "name": ""},
        {"key": "b", "count": 2, "name": "é"},
    ]
    assert table_digest(back) == digest


def test_trees_come_back_as_they_were(store: Store, tmp_path: Path) -> None:
    files = {"model.bin": b"\0" * 100, "sub/spec.json": b"{}"}
    digest = store.objects.put_tree(files)
    assert store.objects.get_tree(digest) == files
    assert store.objects.put_tree(dict(reversed(files.items()))) == digest
    write_tree(files, tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "spec.json").read_bytes() == b"{}"


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.booleans())))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_what_is_no_digest_is_no_key(store: Store) -> None:
    with pytest.raises(ValueError, match="not a SHA-256"):
        store.objects.get("../../etc/passwd")


def test_a_name_leads_to_a_record_and_its_content(store: Store) -> None:
    content = store.objects.put(b"model")
    assert store.record("experiments/x") is None
    store.publish("experiments/x", Record(asset="trained_model", content=content))
    record = store.record("experiments/x")
    assert record is not None
    assert (record.asset, record.content, record.previous) == ("trained_model", content, None)
    assert store.content("experiments/x") == content


def test_a_moving_name_keeps_its_history(store: Store) -> None:
    for text in (b"one", b"two", b"three"):
        store.publish("name", Record(asset="a", content=store.objects.put(text)))
    seen, record = [], store.record("name")
    while record:
        seen.append(store.objects.get(record.content))
        if record.previous is None:
            break
        record = Record.model_validate(store.objects.get_json(record.previous))
    assert seen == [b"three", b"two", b"one"]


def test_a_name_given_for_good_stays(store: Store) -> None:
    one, two = store.objects.put(b"one"), store.objects.put(b"two")
    store.publish_once("datasets/DS-1.0.0", Record(asset="a", content=one))
    store.publish_once("datasets/DS-1.0.0", Record(asset="a", content=one, run_id="again"))
    with pytest.raises(RefConflict, match="already names"):
        store.publish_once("datasets/DS-1.0.0", Record(asset="a", content=two))
    assert store.content("datasets/DS-1.0.0") == one


def test_who_moves_a_name_that_moved_is_told(store: Store) -> None:
    one, two = store.objects.put(b"one"), store.objects.put(b"two")
    store.refs.move("name", None, one)
    store.refs.move("name", one, two)
    with pytest.raises(RefConflict, match="by someone else"):
        store.refs.move("name", one, one)


def test_a_store_is_opened_again_with_all_that_it_held(tmp_path: Path) -> None:
    digest = open_store(str(tmp_path)).objects.put(b"image")
    assert open_store(str(tmp_path)).objects.get(digest) == b"image"
