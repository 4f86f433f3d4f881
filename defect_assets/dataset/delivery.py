"""A delivery: a folder in the inbox, as a camera station or an importer leaves it.

::

    2026-11-03-line-2/
      images/tile-0001-exp1.jpg …
      masks/tile-0001-exp1.png …     none for images without a defect
      samples.csv                    sample,class,group,exposure; optional but for the sample
      batch.yaml                     notes; optional
      _COMPLETE                      says that nothing more will come

A file's stem is the sample's id. `read_delivery` finds all that is wrong before anything is taken.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.masks import decode_mask
from defect_assets.inference.images import ImageError, decode_image
from defect_assets.settings import SettingsError
from defect_assets.store import Digest, digest_of

COMPLETE = "_COMPLETE"
COLUMNS = ("sample", "class", "group", "exposure")
PARTIAL = ".partial-"
_DELIVERY_NAME = re.compile(r"\w[\w .+-]{0,99}")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a delivery."""

    file: str
    """Relative to the delivery's folder."""
    reason: str


class DeliveryExists(Exception):
    """The inbox has a delivery of this name already."""


class DeliveryRefused(Exception):
    """A delivery that is not taken; all that is wrong with it, in one list."""

    def __init__(self, delivery: str, problems: list[Problem]) -> None:
        self.delivery = delivery
        self.problems = problems
        lines = "\n".join(f"  {p.file}: {p.reason}" for p in problems)
        super().__init__(
            f"the delivery {delivery} is refused whole, {len(problems)} "
            f"problem{'s' if len(problems) > 1 else ''}:\n{lines}"
        )


@dataclass(frozen=True)
class Sample:
    """One image with its mask, before it is taken into the store."""

    sample: str
    class_name: str
    group: str
    """Empty where the delivery does not say it."""
    exposure: str
    """Empty where the delivery does not say it."""
    image: Path
    mask: Path | None
    image_digest: Digest
    mask_digest: Digest | None
    height: int
    width: int
    channels: int


@dataclass(frozen=True)
class Delivery:
    """A delivery in which nothing is wrong."""

    name: str
    notes: str
    samples: list[Sample]


def read_delivery(folder: Path, description: DatasetDescription) -> Delivery:
    """Read and check a delivery, every image and mask decoded; change nothing.

    Parameters
    ----------
    folder
        The delivery.
    description
        What its images may show and how its masks are read.

    Raises
    ------
    DeliveryRefused
        If anything is wrong, with all that is.
    """
    problems: list[Problem] = []
    images = _files(folder, "images", problems)
    masks = _files(folder, "masks", problems)
    table = _read_samples(folder, problems)
    notes = _read_notes(folder, problems)

    for stem, paths in masks.items():
        if stem not in images:
            problems += [Problem(_name(p, folder), "a mask without an image") for p in paths]
    for stem in sorted(set(table) - set(images)):
        problems.append(Problem("samples.csv", f"{stem} has no image"))
    if table:
        for stem in sorted(set(images) - set(table)):
            problems.append(
                Problem(_name(images[stem][0], folder), "samples.csv has no row for it")
            )
    if not images and not problems:
        problems.append(Problem("images", "the delivery is empty: there is no image in it"))

    for paths in [*images.values(), *masks.values()]:
        if len(paths) > 1:
            names = ", ".join(p.name for p in paths)
            problems.append(
                Problem(_name(paths[0], folder), f"several files for one sample: {names}")
            )

    def check(stem: str) -> Sample | Problem:
        mask = masks[stem][0] if stem in masks else None
        return _check(stem, images[stem][0], mask, table.get(stem, {}), description, folder)

    samples = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for checked in pool.map(check, sorted(images)):
            if isinstance(checked, Problem):
                problems.append(checked)
            else:
                samples.append(checked)
    if problems:
        raise DeliveryRefused(folder.name, problems)
    return Delivery(folder.name, notes, samples)


def _check(
    stem: str,
    image: Path,
    mask: Path | None,
    row: dict[str, str],
    description: DatasetDescription,
    folder: Path,
) -> Sample | Problem:
    try:
        data = image.read_bytes()
        pixels = decode_image(data)
    except (OSError, ImageError) as error:
        return Problem(_name(image, folder), str(error))
    size = (pixels.shape[0], pixels.shape[1])
    mask_data = None
    class_name = row.get("class") or _only_class(description)
    try:
        if description.masks == "soft" and class_name is None and mask is not None:
            raise ImageError("samples.csv gives no class for it, and there is more than one")
        if class_name is not None and class_name not in description.class_ids:
            known = ", ".join(description.class_ids)
            return Problem(
                _name(image, folder), f"its class {class_name!r} is not in the class map ({known})"
            )
        if mask is not None:
            mask_data = mask.read_bytes()
        elif row.get("class", description.defect_free) not in ("", description.defect_free):
            return Problem(_name(image, folder), f"its class is {class_name}, but it has no mask")
        ids = decode_mask(mask_data, class_name or description.defect_free, size, description)
    except (OSError, ImageError) as error:
        return Problem(_name(mask or image, folder), str(error))

    if not row.get("class"):
        # The class of an image is that of most of its defective pixels.
        found = Counter(ids[ids > 0].tolist())
        names = description.class_map
        class_name = names[found.most_common(1)[0][0]] if found else description.defect_free
    assert class_name is not None
    if class_name == description.defect_free and ids.any():
        return Problem(
            _name(mask or image, folder), f"its class is {class_name}, but its mask is not empty"
        )
    return Sample(
        sample=stem,
        class_name=class_name,
        group=row.get("group", ""),
        exposure=row.get("exposure", ""),
        image=image,
        mask=mask,
        image_digest=digest_of(data),
        mask_digest=digest_of(mask_data) if mask_data is not None else None,
        height=size[0],
        width=size[1],
        channels=1 if pixels.ndim == 2 else 3,
    )


def _only_class(description: DatasetDescription) -> str | None:
    return description.classes[0].name if len(description.classes) == 1 else None


def _files(folder: Path, kind: str, problems: list[Problem]) -> dict[str, list[Path]]:
    """Return the files of one kind by stem, noting those that are not plain image files."""
    found: dict[str, list[Path]] = {}
    root = folder / kind
    if not root.is_dir():
        if kind == "images":
            problems.append(Problem(kind, "the delivery has no folder of this name"))
        return found
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_symlink() or not path.is_file():
            problems.append(Problem(_name(path, folder), "not a plain file"))
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            problems.append(Problem(_name(path, folder), "not an image file by its name"))
        else:
            found.setdefault(path.stem, []).append(path)
    return found


def _read_samples(folder: Path, problems: list[Problem]) -> dict[str, dict[str, str]]:
    path = folder / "samples.csv"
    if not path.exists():
        return {}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:
        problems.append(Problem(path.name, f"it cannot be read: {error}"))
        return {}
    table = table.rename(columns=str.strip).apply(lambda column: column.str.strip())
    if "sample" not in table.columns:
        problems.append(Problem(path.name, "it has no column 'sample', separated by commas"))
        return {}
    unknown = sorted(set(table.columns) - set(COLUMNS))
    if unknown:
        known = ", ".join(COLUMNS)
        problems.append(
            Problem(path.name, f"unknown columns: {', '.join(unknown)}; known: {known}")
        )
    for sample in table.loc[table["sample"].duplicated(), "sample"].unique():
        problems.append(Problem(path.name, f"{sample} stands in it more than once"))
    return {
        str(row["sample"]): {str(key): str(value) for key, value in row.items()}
        for row in table.to_dict("records")
    }


def _read_notes(folder: Path, problems: list[Problem]) -> str:
    path = folder / "batch.yaml"
    if not path.exists():
        return ""
    try:
        values = yaml.safe_load(path.read_text()) or {}
        unknown = set(values) - {"notes"}
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        problems.append(Problem(path.name, f"it cannot be read: {error}"))
        return ""
    if unknown:
        problems.append(Problem(path.name, f"unknown keys: {', '.join(sorted(map(str, unknown)))}"))
    return str(values.get("notes", ""))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


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
        If the name cannot be a delivery's.
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
    rows = []
    for s in samples:
        (partial / "images" / f"{s.sample}{s.image_suffix}").write_bytes(s.image)
        if s.mask is not None:
            (partial / "masks" / f"{s.sample}{s.mask_suffix}").write_bytes(s.mask)
        rows.append((s.sample, s.class_name, s.group, s.exposure))
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(partial / "samples.csv", index=False)
    (partial / "batch.yaml").write_text(yaml.safe_dump({"notes": notes}, allow_unicode=True))
    (partial / COMPLETE).touch()
    partial.rename(folder)
    return folder


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


def deliveries(inbox: Path) -> Iterator[str]:
    """Yield the names of the complete deliveries in the inbox, sorted."""
    if inbox.is_dir():
        for folder in sorted(inbox.iterdir()):
            if (folder / COMPLETE).exists() and not folder.name.startswith("."):
                yield folder.name
