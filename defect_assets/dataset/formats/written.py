"""Folders that are written whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from defect_assets.dataset.delivery import PARTIAL
from defect_assets.dataset.formats.imported import FormatError


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write into; it takes its name when all is written, and else is removed.

    Raises
    ------
    FormatError
        If the folder exists and is not an empty folder.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FormatError(f"{folder} exists already: name a folder that does not, or is empty")
    partial = folder.with_name(f"{PARTIAL}{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_new(folder: Path, name: str, data: bytes) -> None:
    """Write a file of a sample into a folder, which is made if need be.

    Raises
    ------
    FormatError
        If the name is not that of a file, or there is one of this name already.
    """
    if PureWindowsPath(name).name != name or not name.strip("."):
        raise FormatError(f"{name!r} cannot be the name of a file")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / name).open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise FormatError(f"two samples would both be written as {folder.name}/{name}") from None
