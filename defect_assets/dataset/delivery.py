"""A delivery: a folder in the inbox, as a camera station or an importer leaves it.

::

    2026-11-03-line-2/
      images/tile-0001-exp1.jpg …    or images/Crack/tile-0001-exp1.jpg: the folder says the class
      masks/tile-0001-exp1.png …     none for images without a defect
      samples.csv                    sample,class,group,exposure; optional but for the sample
      groups.csv                     sample,group: the physical part of samples; optional
      batch.yaml                     notes, classes by folder, groups, samples to remove; optional
      _COMPLETE                      says that nothing more will come

A file's stem is the sample's id. Masks alone, for samples that are known, correct their labels.

The same ``groups.csv`` may lie in every delivery of a dataset. It says the part of the samples that
are delivered and of those that are known already; rows of others wait for theirs. So that a typing
error does not pass for such a row, each image that is delivered needs a group in one of the tables,
and a delivery of ``groups.csv`` alone may name known samples only.
"""

import csv
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from defect_assets.errors import UserError
from defect_assets.settings import SettingsError, read_settings

COMPLETE = "_COMPLETE"
SAMPLES = "samples.csv"
GROUPS = "groups.csv"
HEADER = "batch.yaml"
COLUMNS = ("sample", "class", "group", "exposure")
PARTIAL = ".partial-"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_DELIVERY_NAME = re.compile(r"\w[\w .+-]{0,99}")
_SAMPLE_NAME = re.compile(r"[^\s/\\.][^/\\]{0,199}")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a delivery."""

    file: str
    """Relative to the delivery's folder."""
    reason: str


class DeliveryExists(UserError):
    """The inbox has a delivery of this name already."""


class DeliveryRefused(UserError):
    """A delivery that is not taken; all that is wrong with it, in one list.

    Parameters
    ----------
    delivery
        Its name.
    problems
        All that is wrong with it.
    now_in
        Where it was moved to, if it was.
    """

    def __init__(self, delivery: str, problems: list[Problem], now_in: Path | None = None) -> None:
        self.delivery = delivery
        self.problems = problems
        lines = [
            f"the delivery {delivery} is refused whole, {len(problems)} "
            f"problem{'s' if len(problems) > 1 else ''}:",
            *(f"  {p.file}: {p.reason}" for p in problems),
        ]
        if now_in:
            lines.append(f"It lies in {now_in} now: mend it and move it back into the inbox.")
        super().__init__("\n".join(lines))


class Header(BaseModel):
    """What ``batch.yaml`` says of a delivery as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    notes: str = ""
    classes: dict[str, str] = Field(default_factory=dict)
    """Classes of folders below ``images``, where they are named otherwise than the class."""
    groups: dict[str, str] = Field(default_factory=dict)
    """The physical part of samples."""
    remove: tuple[str, ...] = ()
    """Samples to withdraw from the dataset; its history keeps them."""


@dataclass(frozen=True)
class File:
    """An image or a mask, by name."""

    name: str
    """Relative to the delivery's folder."""
    path: str
    """A text, since of a hundred thousand `Path` takes a second to make."""
    folder: str
    """The folder below ``images`` or ``masks`` that it is in, if any."""

    @property
    def base_name(self) -> str:
        """The name without folders."""
        return self.name.rpartition("/")[2]

    def read(self) -> bytes:
        """Return the content."""
        with open(self.path, "rb") as file:  # noqa: PTH123
            return file.read()


@dataclass
class Listing:
    """What a delivery consists of, by the names of its files and by its tables."""

    name: str
    header: Header
    images: dict[str, File] = field(default_factory=dict)
    """By sample."""
    masks: dict[str, File] = field(default_factory=dict)
    """By sample."""
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    """Rows of ``samples.csv``, by sample."""
    groups: dict[str, str] = field(default_factory=dict)
    """The physical part of samples, delivered or not, as far as the tables say it."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def samples(self) -> list[str]:
        """The samples that it brings, sorted."""
        return sorted(self.images.keys() | self.masks.keys())

    @property
    def regroups_only(self) -> bool:
        """Whether it has no more to say than the parts of known samples."""
        return bool(self.groups) and not self.samples


def list_delivery(folder: Path) -> Listing:
    """List a delivery, with all that is wrong with its names and its tables."""
    problems: list[Problem] = []
    listing = Listing(folder.name, _read_header(folder, problems), problems=problems)
    listing.images = _files(folder, "images", problems)
    listing.masks = _files(folder, "masks", problems)
    listing.rows = _read_samples(folder, problems)
    brought = listing.images.keys() | listing.masks.keys()
    if listing.rows:
        for sample in sorted(listing.rows.keys() - brought):
            problems.append(Problem(SAMPLES, f"{sample} has no image"))
        for sample in sorted(listing.images.keys() - listing.rows.keys()):
            problems.append(Problem(listing.images[sample].name, f"{SAMPLES} has no row for it"))
    for sample in sorted(listing.header.groups.keys() - brought):
        problems.append(Problem(HEADER, f"groups: {sample} has no image"))
    for sample in sorted(brought.intersection(listing.header.remove)):
        problems.append(Problem(HEADER, f"remove: {sample} is delivered, too"))
    table = _read_groups(folder, problems)
    listing.groups = _groups_said(listing, table or {}, problems)
    if table is not None:
        for sample in sorted(listing.images.keys() - listing.groups.keys()):
            problems.append(Problem(listing.images[sample].name, f"{GROUPS} says no part of it"))
    if not brought and not listing.header.remove and not listing.groups and not problems:
        problems.append(
            Problem("images", "the delivery is empty: it has no image, no mask, nothing to remove")
        )
    return listing


def _files(folder: Path, kind: str, problems: list[Problem]) -> dict[str, File]:
    """Return the files of one kind by sample, noting those that are not plain image files."""
    found: dict[str, File] = {}
    by_sound: dict[str, str] = {}
    """Names as file systems and people may confuse them."""
    for file in sorted(_walk(folder / kind, kind, problems), key=lambda file: file.name):
        sample, _, suffix = file.base_name.rpartition(".")
        if f".{suffix.lower()}" not in IMAGE_SUFFIXES:
            problems.append(Problem(file.name, "not an image file by its name"))
            continue
        if not is_sample_name(sample):
            problems.append(Problem(file.name, "its name cannot be that of a sample"))
            continue
        if sample in found:
            problems.append(
                Problem(file.name, f"several files for one sample: {found[sample].name}, too")
            )
            continue
        sound = unicodedata.normalize("NFC", sample).casefold()
        if sound in by_sound:
            problems.append(
                Problem(
                    file.name,
                    f"its name differs from {by_sound[sound]} by case or Unicode form alone",
                )
            )
            continue
        by_sound[sound] = file.base_name
        found[sample] = file
    return found


def _walk(root: Path, kind: str, problems: list[Problem]) -> Iterator[File]:
    """Yield the plain files of a folder and of the folders in it; follow no links."""
    if root.is_symlink() or (root.exists() and not root.is_dir()):
        problems.append(Problem(kind, "not a plain folder"))
        return
    if not root.is_dir():
        return
    for entry in os.scandir(root):
        name = f"{kind}/{entry.name}"
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            for inner in os.scandir(entry):
                if inner.name.startswith("."):
                    continue
                if inner.is_file(follow_symlinks=False):
                    yield File(f"{name}/{inner.name}", inner.path, entry.name)
                else:
                    problems.append(Problem(f"{name}/{inner.name}", "not a plain file"))
        elif entry.is_file(follow_symlinks=False):
            yield File(name, entry.path, "")
        else:
            problems.append(Problem(name, "not a plain file"))


def _groups_said(
    listing: Listing, table: dict[str, str], problems: list[Problem]
) -> dict[str, str]:
    """Return the part of each sample, noting where two of the tables disagree."""
    sources = {
        SAMPLES: {sample: row.get("group", "") for sample, row in listing.rows.items()},
        GROUPS: table,
        HEADER: listing.header.groups,
    }
    said: dict[str, tuple[str, str]] = {}
    for file, groups in sources.items():
        for sample, group in groups.items():
            if not group:
                continue
            other, by = said.setdefault(sample, (group, file))
            if other != group:
                problems.append(
                    Problem(file, f"{sample} is of part {group} by it, of part {other} by {by}")
                )
    return {sample: group for sample, (group, _) in said.items()}


def _read_groups(folder: Path, problems: list[Problem]) -> dict[str, str] | None:
    """Return the part of samples by ``groups.csv``, None where there is none.

    A column ``stem`` stands for ``sample``; other columns may say what they like.
    """
    if not (folder / GROUPS).exists():
        return None
    columns, lines = _read_table(folder, GROUPS, problems)
    key = "sample" if "sample" in columns else "stem"
    if not {key, "group"} <= set(columns):
        if columns:
            problems.append(Problem(GROUPS, "it has no columns 'sample' and 'group'"))
        return {}
    return {row[key]: row["group"] for row in _by_key(lines, key, GROUPS, problems)}


def _read_samples(folder: Path, problems: list[Problem]) -> dict[str, dict[str, str]]:
    if not (folder / SAMPLES).exists():
        return {}
    columns, lines = _read_table(folder, SAMPLES, problems)
    if "sample" not in columns:
        if columns:
            problems.append(Problem(SAMPLES, "it has no column 'sample', separated by commas"))
        return {}
    unknown = sorted(set(columns) - set(COLUMNS))
    if unknown:
        known = ", ".join(COLUMNS)
        problems.append(Problem(SAMPLES, f"unknown columns: {', '.join(unknown)}; known: {known}"))
    return {row["sample"]: row for row in _by_key(lines, "sample", SAMPLES, problems)}


def _read_table(
    folder: Path, name: str, problems: list[Problem]
) -> tuple[list[str], list[dict[str, str]]]:
    """Return a table's columns and its rows, noting what is wrong with it."""
    try:
        with (folder / name).open(encoding="utf-8-sig", newline="") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if any(line)]
    except (OSError, ValueError, csv.Error) as error:
        problems.append(Problem(name, f"it cannot be read: {error}"))
        return [], []
    if not lines:
        problems.append(Problem(name, "it is empty"))
        return [], []
    columns, rows = lines[0], []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(columns):
            problems.append(
                Problem(name, f"line {number} has {len(line)} cells, not {len(columns)}")
            )
        else:
            rows.append(dict(zip(columns, line, strict=True)))
    return columns, rows


def _by_key(
    rows: list[dict[str, str]], key: str, name: str, problems: list[Problem]
) -> list[dict[str, str]]:
    """Return the rows, noting where two are of one sample."""
    seen: set[str] = set()
    for row in rows:
        if row[key] in seen:
            problems.append(Problem(name, f"{row[key]} stands in it more than once"))
        seen.add(row[key])
    return rows


def _read_header(folder: Path, problems: list[Problem]) -> Header:
    path = folder / HEADER
    if not path.exists():
        return Header()
    try:
        return read_settings(path, Header)
    except SettingsError as error:
        problems.append(Problem(HEADER, str(error).removeprefix(f"{path}: ")))
        return Header()


@dataclass(frozen=True)
class DeliveredSample:
    """One sample, as an importer hands it over."""

    sample: str
    class_name: str
    """Empty where the mask says it."""
    group: str
    exposure: str
    image: bytes
    image_suffix: str
    mask: bytes | None
    mask_suffix: str = ".png"


def write_delivery(inbox: Path, name: str, samples: Iterable[DeliveredSample], notes: str) -> Path:
    """Write a delivery into the inbox; it appears there complete or not at all.

    Returns
    -------
    pathlib.Path
        The delivery's folder.

    Raises
    ------
    DeliveryExists
        If the inbox has a delivery of this name.
    SettingsError
        If the name cannot be a delivery's, or a sample's name no sample's.
    """
    check_name(name)
    folder = inbox / name
    if folder.exists():
        raise DeliveryExists(
            f"there is a delivery named {name} in {inbox} already; for new images or corrected "
            "masks choose another with --name"
        )
    partial = inbox / f"{PARTIAL}{name}"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "images").mkdir(parents=True)
    (partial / "masks").mkdir()
    with (partial / SAMPLES).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for s in samples:
            if not is_sample_name(s.sample):
                raise SettingsError(f"{s.sample!r} cannot be the name of a sample")
            (partial / "images" / f"{s.sample}{s.image_suffix}").write_bytes(s.image)
            if s.mask is not None:
                (partial / "masks" / f"{s.sample}{s.mask_suffix}").write_bytes(s.mask)
            table.writerow((s.sample, s.class_name, s.group, s.exposure))
    (partial / HEADER).write_text(yaml.safe_dump({"notes": notes}, allow_unicode=True))
    (partial / COMPLETE).touch()
    partial.rename(folder)
    return folder


def is_sample_name(name: str) -> bool:
    """Tell whether a sample can have this name, which is also that of files."""
    return bool(_SAMPLE_NAME.fullmatch(name)) and name.isprintable()


def check_name(name: str) -> str:
    """Return a delivery's name if it can be one.

    It is the name of a folder, of a partition in Dagster and of a reference in the store.

    Raises
    ------
    SettingsError
        If it cannot.
    """
    if not _DELIVERY_NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} cannot be the name of a delivery: take letters, digits, spaces and . _ - + "
            "only, at most 100 of them, beginning with a letter or a digit"
        )
    return name
