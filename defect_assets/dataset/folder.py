"""Any pair of folders ``images/`` and ``masks/`` with a class map."""

import colorsys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml
from pydantic import ValidationError

from defect_assets.dataset.delivery import IMAGE_SUFFIXES, DeliveredSample
from defect_assets.dataset.description import DatasetDescription, DefectClass
from defect_assets.settings import SettingsError, explain


def describe(name: str, class_map: Path) -> DatasetDescription:
    """Make a dataset's description from a class map, a YAML file of mask values and names.

    One class: masks are soft, all above 127 is defective. Several: a mask's values are classes.

    ::

        1: scratch
        2: dent

    Raises
    ------
    SettingsError
        If the file is no class map.
    """
    try:
        values = yaml.safe_load(class_map.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{class_map} cannot be read: {error}") from error
    if (
        not isinstance(values, dict)
        or not values
        or not all(isinstance(value, int) and 1 <= value <= 255 for value in values)
    ):
        raise SettingsError(
            f"{class_map} must map mask values (1 to 255) to class names, e.g. '1: scratch'"
        )
    try:
        return DatasetDescription(
            name=name,
            classes=tuple(
                DefectClass(id=i, name=str(values[v]), value=v, color=_color(i, len(values)))
                for i, v in enumerate(sorted(values), start=1)
            ),
            defect_free="defect-free",
            masks="soft" if len(values) == 1 else "indexed",
        )
    except ValidationError as error:
        raise SettingsError(f"{class_map}: {explain(error)}") from error


def delivered(folder: Path) -> Iterator[DeliveredSample]:
    """Yield the samples of a folder, with class, group and exposure where its samples.csv has them.

    Whether they are sound is judged when the delivery is ingested.

    Raises
    ------
    FileNotFoundError
        If there is no folder ``images``, or no image in it.
    """
    images = [
        path
        for path in sorted((folder / "images").iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not images:
        raise FileNotFoundError(f"{folder / 'images'} holds no image")
    masks: dict[str, Path] = {}
    if (folder / "masks").is_dir():
        masks = {
            path.stem: path
            for path in sorted((folder / "masks").iterdir())
            if path.suffix.lower() in IMAGE_SUFFIXES
        }
    table: dict[str, dict[str, str]] = {}
    if (folder / "samples.csv").exists():
        frame = pd.read_csv(folder / "samples.csv", dtype=str, keep_default_na=False)
        table = {
            str(row["sample"]): {str(key): str(value) for key, value in row.items()}
            for row in frame.to_dict("records")
        }
    for image in images:
        mask = masks.get(image.stem)
        row = table.get(image.stem, {})
        yield DeliveredSample(
            sample=image.stem,
            class_name=row.get("class", ""),
            group=row.get("group", ""),
            exposure=row.get("exposure", ""),
            image=image.read_bytes(),
            image_suffix=image.suffix,
            mask=mask.read_bytes() if mask else None,
            mask_suffix=mask.suffix if mask else ".png",
        )


def _color(index: int, count: int) -> str:
    rgb = colorsys.hsv_to_rgb((index - 1) / count, 0.8, 0.95)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)
