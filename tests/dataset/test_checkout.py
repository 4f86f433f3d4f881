"""A version as files: only what differs is written, and nothing of anyone's is lost."""

import csv
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defect_assets.dataset import checkout as checkouts
from defect_assets.dataset.batch import Batch
from defect_assets.dataset.checkout import VIEW, Checkout, CheckoutRefused, checkout
from defect_assets.dataset.delivery import COMPLETE
from defect_assets.dataset.samples import ROWS, BatchPin, samples_of
from defect_assets.dataset.snapshot import Snapshot, UnknownDataset, find_snapshot
from defect_assets.home import Home
from defect_assets.store import Record, Store
from defect_assets.store.columns import table_of
from defect_assets.store.verify import verify
from tests.small import cut, deliver, home_of, ingest, mask, picture, plain

FIRST, SECOND = "DS-1.0.0", "DS-2.0.0"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Nine samples; then one gone, one relabelled, one without its mask, two new."""
    home = home_of(tmp_path_factory.mktemp("checkout") / "home")
    store = home.store()
    plain(home, "one", range(9))
    ingest(home, store, "one")
    cut(home, store)
    images = {"s003": picture(3), "s010": picture(10), "s012": picture(12)}
    masks = {"s002": mask(1, 102), "s003": mask(1, 3), "s010": mask(1, 10)}
    deliver(home, "two", images, masks, remove=["s004"])
    ingest(home, store, "two")
    cut(home, store)
    return home


@pytest.fixture
def store(home: Home) -> Store:
    return home.store()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "work"


def expected(store: Store, dataset: str) -> dict[str, bytes]:
    _, snapshot = find_snapshot(store, dataset)
    return {
        f"{kind}s/{row[f'{kind}_name']}": store.objects.get(row[kind])
        for row in samples_of(store, snapshot.batches).to_pylist()
        for kind in ("image", "mask")
        if row[kind]
    }


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for kind in ("images", "masks")
        for path in (folder / kind).iterdir()
    }


def inodes(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_ino for name in files(folder)}


@pytest.mark.parametrize("dataset", [FIRST, SECOND])
def test_a_new_folder_holds_what_the_version_holds(
    store: Store, folder: Path, dataset: str
) -> None:
    wanted = expected(store, dataset)
    assert checkout(store, dataset, folder) == Checkout(len(wanted), len(wanted), 0)
    assert files(folder) == wanted
    _, snapshot = find_snapshot(store, dataset)
    with (folder / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["sample", "class", "group", "exposure"]
    assert rows == samples_of(store, snapshot.batches).select(columns).to_pylist()


def test_a_checkout_is_a_delivery(home: Home, store: Store, tmp_path: Path) -> None:
    other = home_of(tmp_path / "other")
    checkout(store, SECOND, other.inbox / "all")
    (other.inbox / "all" / COMPLETE).touch()
    ingest(other, other.store(), "all")
    again = cut(other, other.store())
    assert again is not None
    rows = [
        [
            {name: row[name] for name in ("sample", "class", "group", "image", "mask")}
            for row in samples_of(one, pins).to_pylist()
        ]
        for one, pins in (
            (store, find_snapshot(store, SECOND)[1].batches),
            (other.store(), again.batches),
        )
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(("one", "other"), [(FIRST, SECOND), (SECOND, FIRST)])
def test_from_one_version_to_another_only_what_differs_moves(
    store: Store, folder: Path, one: str, other: str
) -> None:
    old, new = expected(store, one), expected(store, other)
    checkout(store, one, folder)
    before = inodes(folder)
    same = {name for name in new if old.get(name) == new[name]}
    assert 0 < len(same) < len(new)
    done = checkout(store, other, folder)
    assert done == Checkout(len(new), len(new) - len(same), len(old.keys() - new.keys()))
    assert files(folder) == new
    assert {name: inodes(folder)[name] for name in same} == {name: before[name] for name in same}


def test_to_do_it_again_writes_nothing(store: Store, folder: Path) -> None:
    checkout(store, FIRST, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert checkout(store, FIRST, folder) == Checkout(len(before), 0, 0)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == before


def test_a_file_that_was_deleted_comes_back(store: Store, folder: Path) -> None:
    checkout(store, FIRST, folder)
    (folder / "images" / "s001.png").unlink()
    assert checkout(store, FIRST, folder).written == 1
    assert files(folder) == expected(store, FIRST)


@pytest.mark.parametrize(
    "name",
    [
        "images/s001.png",  # stays
        "masks/s002.png",  # would be replaced
        "images/s004.png",  # would be removed
    ],
)
def test_what_was_edited_is_not_lost(store: Store, folder: Path, name: str) -> None:
    checkout(store, FIRST, folder)
    sound = files(folder)
    (folder / name).write_bytes(b"edited")
    for dataset in (FIRST, SECOND):
        with pytest.raises(CheckoutRefused, match=f"1 files .* were edited since, {name}"):
            checkout(store, dataset, folder)
        assert files(folder) == sound | {name: b"edited"}
    (folder / name).unlink()
    checkout(store, SECOND, folder)
    assert files(folder) == expected(store, SECOND)


def test_an_edit_of_the_same_length_and_time_is_seen_by_its_time_of_change(
    store: Store, folder: Path
) -> None:
    """As a tool leaves it that keeps times."""
    checkout(store, FIRST, folder)
    path = folder / "images" / "s001.png"
    status, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-1] + b"?")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(CheckoutRefused, match=r"s001\.png"):
        checkout(store, FIRST, folder)


def test_a_table_that_was_edited_is_not_lost(store: Store, folder: Path) -> None:
    checkout(store, FIRST, folder)
    table = folder / "samples.csv"
    edited = table.read_text().replace("Crack", "Hole")
    table.write_text(edited)
    with pytest.raises(CheckoutRefused, match=r"1 files .* edited since, samples\.csv"):
        checkout(store, SECOND, folder)
    assert table.read_text() == edited
    table.unlink()
    checkout(store, SECOND, folder)
    checkout(store, FIRST, folder)
    assert table.read_text() != edited


def test_to_touch_a_file_is_no_edit(store: Store, folder: Path) -> None:
    checkout(store, FIRST, folder)
    for path in folder.rglob("*.png"):
        os.utime(path, (0, 0))
    os.utime(folder / "samples.csv", (0, 0))
    checkout(store, SECOND, folder)
    assert files(folder) == expected(store, SECOND)


def test_a_correction_made_here_and_delivered_is_no_edit_any_more(
    home: Home, store: Store, folder: Path
) -> None:
    """The file is what the next version wants already."""
    checkout(store, FIRST, folder)
    (folder / "masks" / "s002.png").write_bytes(mask(1, 102))
    checkout(store, SECOND, folder)
    assert files(folder) == expected(store, SECOND)


def test_a_stranger_in_the_way_stays(store: Store, folder: Path) -> None:
    checkout(store, FIRST, folder)
    before = files(folder)
    (folder / "images" / "s010.png").write_bytes(b"mine")
    with pytest.raises(CheckoutRefused, match=r"s010\.png is in the way and belongs to no check"):
        checkout(store, SECOND, folder)
    assert files(folder) == before | {"images/s010.png": b"mine"}


def test_a_stranger_beside_the_way_stays(store: Store, folder: Path) -> None:
    checkout(store, FIRST, folder)
    (folder / "images" / "notes.txt").write_bytes(b"mine")
    (folder / "more").mkdir()
    checkout(store, SECOND, folder)
    assert files(folder) == expected(store, SECOND) | {"images/notes.txt": b"mine"}


def test_a_folder_of_other_things_is_refused(store: Store, folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(CheckoutRefused, match="is not empty, and no checkout"):
        checkout(store, FIRST, folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_an_unknown_version_makes_no_folder(store: Store, folder: Path) -> None:
    with pytest.raises(UnknownDataset):
        checkout(store, "DS-9.0.0", folder)
    assert not folder.exists()


@pytest.mark.parametrize("start", [None, FIRST])
def test_what_was_interrupted_is_completed(
    store: Store, folder: Path, start: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any number of files, the last of them half written."""
    write = Path.write_bytes
    if start:
        checkout(store, start, folder)
        total = checkout(store, SECOND, folder).written
        checkout(store, start, folder)
    else:
        total = len(expected(store, SECOND))
    for count in range(total):
        written: list[Path] = []

        def until(path: Path, data: bytes, limit: int = count, done: list[Path] = written) -> int:
            if len(done) == limit:
                write(path, data[:10])
                raise KeyboardInterrupt
            done.append(path)
            return write(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", until)
            with pytest.raises(KeyboardInterrupt):
                checkout(store, SECOND, folder)
        checkout(store, SECOND, folder)
        assert files(folder) == expected(store, SECOND)
        checkout(store, start or FIRST, folder)  # and from there to anywhere
        assert files(folder) == expected(store, start or FIRST)
        if start is None:
            for name in files(folder):
                (folder / name).unlink()


def test_what_was_interrupted_at_its_very_beginning_is_completed(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            checkout(store, FIRST, folder)
    assert not (folder / VIEW).exists()
    assert any(folder.iterdir())
    checkout(store, FIRST, folder)
    assert files(folder) == expected(store, FIRST)


def test_files_are_copies_that_one_may_edit(home: Home, store: Store, folder: Path) -> None:
    checkout(store, FIRST, folder)
    for name in files(folder):
        path = folder / name
        assert path.stat().st_nlink == 1
        assert os.access(path, os.W_OK)
        assert path.stat().st_mode & 0o200
        with path.open("r+b") as file:
            file.write(b"edited")
    assert not verify(store).damages


def test_a_link_is_replaced_and_not_followed(store: Store, folder: Path, tmp_path: Path) -> None:
    checkout(store, FIRST, folder)
    mine = tmp_path / "mine"
    mine.write_bytes((folder / "masks" / "s002.png").read_bytes())
    (folder / "masks" / "s002.png").unlink()
    (folder / "masks" / "s002.png").symlink_to(mine)
    before = mine.read_bytes()
    checkout(store, SECOND, folder)
    assert mine.read_bytes() == before
    assert files(folder) == expected(store, SECOND)


NAMES = [
    "../out.png",
    "/tmp/out.png",
    "a/b.png",
    "..",
    ".",
    "",
    "a\\b.png",
    ".a.png",
    "a\n.png",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["image", "mask"])
def test_no_name_in_a_table_leads_out_of_the_folder(
    home: Home, tmp_path: Path, name: str, kind: str
) -> None:
    """Whoever wrote the table: it may have been pulled from anywhere."""
    store = Home(tmp_path / "home").store()
    digest = store.objects.put(picture(1))
    row = dict.fromkeys(ROWS.names, "x") | {
        "image": digest, "image_name": "x.png", "mask": digest, "mask_name": "x.png",
        "image_bytes": 1, "mask_bytes": 1, "height": 8, "width": 8, "channels": 1, "removed": False,
    }  # fmt: skip
    rows = store.objects.put_table(table_of([row | {f"{kind}_name": name}], ROWS))
    batch = Batch(id="b", notes="", rows=rows, counts={"x": 1})
    pin = BatchPin(id="b", digest=store.objects.put_json(batch.model_dump(mode="json")))
    _, real = find_snapshot(home.store(), FIRST)
    values = real.model_copy(update={"batches": (pin,)}).model_dump(mode="json")
    content = store.objects.put_json(Snapshot.model_validate(values).model_dump(mode="json"))
    store.publish_once(f"datasets/{FIRST}", Record(asset="x", content=content))
    with pytest.raises(CheckoutRefused, match="cannot be the name of a file"):
        checkout(store, FIRST, tmp_path / "inner" / "work")
    assert not (tmp_path / "inner").exists()


@pytest.mark.parametrize("name", ["../../precious.txt", "images/../../precious.txt"])
def test_no_name_in_a_view_leads_out_of_the_folder(store: Store, tmp_path: Path, name: str) -> None:
    """Whoever wrote the view: the folder may have been unpacked from anywhere."""
    folder = tmp_path / "inner" / "work"
    checkout(store, FIRST, folder)
    precious = folder / name
    precious.resolve().write_text("mine")
    view = pq.ParquetFile(folder / VIEW).read()
    row = view.slice(0, 1).to_pylist()[0] | {"name": name}
    pq.write_table(
        pa.concat_tables([view, pa.Table.from_pylist([row], schema=view.schema)]), folder / VIEW
    )
    with pytest.raises(CheckoutRefused, match="is no view of a checkout"):
        checkout(store, SECOND, folder)
    assert precious.resolve().read_text() == "mine"


def test_a_view_that_cannot_be_read_is_told_without_a_traceback(store: Store, folder: Path) -> None:
    checkout(store, FIRST, folder)
    (folder / VIEW).write_bytes(b"PAR1 no more")
    with pytest.raises(CheckoutRefused, match=r"is no view of a checkout.*: choose a new folder"):
        checkout(store, FIRST, folder)
    assert files(folder) == expected(store, FIRST)


def test_progress_is_told_by_files(store: Store, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    done = checkouts.checkout(store, FIRST, folder, lambda done, of: told.append((done, of)))
    assert told[-1] == (done.written, done.written)
