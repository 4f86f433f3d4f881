from pathlib import Path

import pyarrow as pa
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
from defect_assets.store.digest import object_key
from defect_assets.store.objects import write_tree
from defect_assets.store.tables import table_digest, table_key

cells = st.one_of(st.integers(), st.text(max_size=5))
tables = st.dictionaries(st.text(max_size=5), st.tuples(cells, cells), max_size=8)


def _table(rows: list[tuple[str, tuple[object, object]]]) -> pa.Table:
    columns = [[key for key, _ in rows], *([str(row[i]) for _, row in rows] for i in (0, 1))]
    return pa.table([pa.array(column, pa.string()) for column in columns], ["key", "a", "b"])


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
    digest = store.objects.put_table(_table([("x", (1, 2))]))
    name = tmp_path / "store" / table_key(digest)
    file = tmp_path / "store" / object_key(name.read_text())
    file.chmod(0o644)
    sound = file.read_bytes()
    file.write_bytes(sound[:40] + b"?" + sound[41:])
    with pytest.raises(Corrupted, match=r"objects/.* does not have its digest"):
        store.objects.get_table(digest)
    name.chmod(0o644)
    name.write_bytes(b"?")
    with pytest.raises(Corrupted, match=r"tables/.* does not have its digest"):
        store.objects.get_table(digest)


@given(rows=tables, data=st.data())
def test_a_tables_digest_does_not_depend_on_the_order_of_rows(
    rows: dict[str, tuple[object, object]], data: st.DataObject
) -> None:
    items = list(rows.items())
    shuffled = data.draw(st.permutations(items))
    assert table_digest(_table(items)) == table_digest(_table(list(shuffled)))


@given(rows=tables.filter(bool), data=st.data())
def test_a_tables_digest_depends_on_each_cell(
    rows: dict[str, tuple[object, object]], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(rows)))
    changed = rows | {key: (rows[key][0], f"{rows[key][1]}!")}
    assert table_digest(_table(list(rows.items()))) != table_digest(_table(list(changed.items())))


def test_cells_do_not_run_into_each_other() -> None:
    assert table_digest(_table([("x", ("ab", "c"))])) != table_digest(_table([("x", ("a", "bc"))]))


def test_a_tables_key_must_be_unique() -> None:
    with pytest.raises(ValueError, match="is a key"):
        table_digest(_table([("x", (1, 2)), ("x", (3, 4))]))


def test_tables_come_back_as_they_were(store: Store) -> None:
    table = pa.table({"key": ["b", "a"], "count": [2, 1], "name": ["é", ""], "ok": [True, False]})
    digest = store.objects.put_table(table)
    back = store.objects.get_table(digest)
    assert back.to_pylist() == [
        {"key": "a", "count": 1, "name": "", "ok": False},
        {"key": "b", "count": 2, "name": "é", "ok": True},
    ]
    assert table_digest(back) == digest
    assert store.objects.get_table(digest, ["count"]).to_pydict() == {"count": [1, 2]}


@given(rows=tables, chunks=st.integers(1, 5))
def test_a_tables_digest_does_not_depend_on_how_it_lies_in_memory(
    rows: dict[str, tuple[object, object]], chunks: int
) -> None:
    table = _table(list(rows.items()))
    parts = [table.slice(start, chunks) for start in range(0, len(table), chunks)]
    scattered = pa.concat_tables(parts) if parts else table
    large = pa.table(
        {n: c.cast(pa.large_string()) for n, c in zip("kab", table.columns, strict=True)}
    )
    assert table_digest(scattered) == table_digest(table)
    assert table_digest(large.rename_columns(table.column_names)) == table_digest(table)


@given(rows=tables, wanted=st.sets(st.text(max_size=5)))
def test_rows_are_found_by_their_values(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[str, tuple[object, object]],
    wanted: set[str],
) -> None:
    store = open_store(str(tmp_path_factory.mktemp("store")))
    digest = store.objects.put_table(_table(list(rows.items())))
    values = pa.array(sorted(wanted), pa.string())
    found = store.objects.find_rows(digest, {"key": values, "a": values}).to_pylist()
    assert {row["key"] for row in found} == {
        key for key, (a, _) in rows.items() if key in wanted or str(a) in wanted
    }


def test_what_a_table_cannot_hold_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="'n' of a table must not have nulls"):
        store.objects.put_table(pa.table({"key": ["a"], "n": pa.array([None], pa.int64())}))
    with pytest.raises(ValueError, match="the column 'n' of list"):
        store.objects.put_table(pa.table({"key": ["a"], "n": [[1]]}))


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
