"""A snapshot as a folder of files, and from one snapshot to another by what differs.

::

    images/  masks/  samples.csv    as a delivery has them
    .view.parquet                   what is there, so that the next checkout knows

Files are copies, not links: a pack has no file to link to, and whoever edits a copy changes nothing
in the store.
"""

import csv
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from defect_assets.dataset.delivery import COLUMNS, SAMPLES, is_sample_name
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.errors import UserError
from defect_assets.store import Digest, Store, digest_of
from defect_assets.store.columns import column

VIEW = ".view.parquet"
PARTIAL_VIEW = f"{VIEW}.partial"
UNFINISHED = -1
"""Size of a file that is about to be written."""


class CheckoutRefused(UserError):
    """A folder that a snapshot cannot be written to without losing something."""


@dataclass(frozen=True)
class _File:
    digest: Digest
    size: int
    modified: int
    """In nanoseconds since 1970."""


@dataclass(frozen=True)
class Checkout:
    """What a checkout did."""

    files: int
    """How many the snapshot has."""
    written: int
    removed: int


def checkout(
    store: Store,
    dataset: str,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Checkout:
    """Make a folder hold what a snapshot holds, moving only what differs.

    Parameters
    ----------
    store
        Where the snapshot lies.
    dataset
        Its id, e.g. ``DS-1.2.0``.
    folder
        A new or empty one, or one that holds another checkout.
    progress
        Is told how many files are written, of how many.

    Raises
    ------
    UnknownDataset
        If there is no such snapshot.
    CheckoutRefused
        If the folder holds something else, or files of the checkout were edited.
    """
    _, snapshot = find_snapshot(store, dataset)
    samples = samples_of(store, snapshot.batches)
    wanted = _wanted(samples)
    present = _read_view(folder)
    if present is None:
        if folder.exists() and any(not _just_begun(path) for path in folder.iterdir()):
            raise CheckoutRefused(
                f"{folder} is not empty, and no checkout: choose a new folder, or empty it"
            )
        present = {}
    table = _table_of(samples)
    wanted_table = digest_of(table)
    held_table = present.pop(SAMPLES, None)
    there = _stat(folder)
    edited = [
        name
        for name, file in present.items()
        if name in there
        and file.size != UNFINISHED
        and there[name] != (file.size, file.modified)
        and digest_of((folder / name).read_bytes()) not in (file.digest, wanted.get(name))
    ]
    if held_table and held_table.size != UNFINISHED and (folder / SAMPLES).exists():
        standing = digest_of((folder / SAMPLES).read_bytes())
        edited += [SAMPLES] if standing not in (held_table.digest, wanted_table) else []
    if edited:
        raise CheckoutRefused(
            f"{len(edited)} files of {folder} were edited since, {sorted(edited)[0]} among them: "
            "deliver them as a correction, or delete them, so that nothing is lost"
        )
    kept = {
        name: file
        for name, file in present.items()
        if name in there and wanted.get(name) == file.digest and file.size != UNFINISHED
    }
    new = {name: digest for name, digest in wanted.items() if name not in kept}
    strangers = sorted(name for name in new if name in there and name not in present)
    if strangers:
        raise CheckoutRefused(
            f"{folder / strangers[0]} is in the way and belongs to no checkout: move it"
        )
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    unfinished = {name: _File(digest, UNFINISHED, 0) for name, digest in new.items()}
    gone = {name: file for name, file in present.items() if name not in wanted}
    same_table = held_table == (ours := _File(wanted_table, len(table), 0))
    # Said before it is done: an interrupted checkout knows what is its own.
    if new or gone or not same_table:
        unfinished[SAMPLES] = _File(wanted_table, UNFINISHED, 0)
        _write_view(folder, kept | unfinished | gone)
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    written = _write(store, folder, new, progress)
    (folder / SAMPLES).unlink(missing_ok=True)
    (folder / SAMPLES).write_bytes(table)
    if new or gone or not same_table:
        _write_view(folder, kept | written | {SAMPLES: ours})
    return Checkout(len(wanted), len(written), len(gone))


def _table_of(samples: pa.Table) -> bytes:
    """Return the table of samples as a delivery has it."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(zip(*(samples[name].to_pylist() for name in COLUMNS), strict=True))
    return text.getvalue().encode()


def _wanted(samples: pa.Table) -> dict[str, Digest]:
    """Return the digest of each file of a snapshot, by its name in the folder."""
    wanted = {}
    for kind in ("image", "mask"):
        names, digests = samples[f"{kind}_name"].to_pylist(), samples[kind].to_pylist()
        for name, digest in zip(names, digests, strict=True):
            if digest:
                if not _is_file_name(name):
                    raise CheckoutRefused(f"{name!r} cannot be the name of a file")
                wanted[f"{kind}s/{name}"] = digest
    return wanted


def _just_begun(path: Path) -> bool:
    """Tell whether this is what a checkout leaves that was interrupted before it had a view."""
    if path.name == PARTIAL_VIEW:
        return True
    return path.name in ("images", "masks") and path.is_dir() and not any(path.iterdir())


def _is_file_name(name: str) -> bool:
    """Tell whether a name may become a path here, whoever wrote the table or the view."""
    return Path(name).name == name and is_sample_name(Path(name).stem)


def _stat(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of all that lies among the images and the masks."""
    found = {}
    for kind in ("images", "masks"):
        if (folder / kind).is_dir():
            for entry in os.scandir(folder / kind):
                status = entry.stat(follow_symlinks=False)
                found[f"{kind}/{entry.name}"] = (status.st_size, status.st_mtime_ns)
    return found


def _write(
    store: Store,
    folder: Path,
    files: dict[str, Digest],
    progress: Callable[[int, int], None],
) -> dict[str, _File]:
    names = list(files)
    chunks = [names[start : start + 256] for start in range(0, len(names), 256)]

    def write(chunk: list[str]) -> dict[str, _File]:
        written = {}
        digests = [files[name] for name in chunk]
        for name, digest, data in zip(chunk, digests, store.objects.get_many(digests), strict=True):
            path = folder / name
            path.unlink(missing_ok=True)  # never through a link
            path.write_bytes(data)
            status = path.stat()
            written[name] = _File(digest, status.st_size, status.st_mtime_ns)
        return written

    done: dict[str, _File] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for written in pool.map(write, chunks):
                done |= written
                progress(len(done), len(names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return done


def _read_view(folder: Path) -> dict[str, _File] | None:
    if not (folder / VIEW).exists():
        return None
    try:
        columns = pq.ParquetFile(folder / VIEW).read().to_pydict()
        files = zip(*(columns[name] for name in ("digest", "size", "modified")), strict=True)
        view = {name: _File(*file) for name, file in zip(columns["name"], files, strict=True)}
        for kind, _, file in (name.partition("/") for name in view if name != SAMPLES):
            if kind not in ("images", "masks") or not _is_file_name(file):
                raise ValueError(file)
    except (OSError, ValueError, KeyError) as error:
        raise CheckoutRefused(
            f"{folder / VIEW} is no view of a checkout, or a damaged one: choose a new folder"
        ) from error
    return view


def _write_view(folder: Path, files: dict[str, _File]) -> None:
    columns = {
        "name": column(files, pa.string()),
        "digest": column([file.digest for file in files.values()], pa.string()),
        "size": column([file.size for file in files.values()], pa.int64()),
        "modified": column([file.modified for file in files.values()], pa.int64()),
    }
    partial = folder / PARTIAL_VIEW
    pq.write_table(pa.table(columns), partial, compression="zstd")
    partial.replace(folder / VIEW)
