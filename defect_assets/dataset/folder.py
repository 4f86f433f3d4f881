"""Any pair of folders ``images/`` and ``masks/`` with a class map."""

import colorsys
from pathlib import Path

import yaml
from pydantic import ValidationError

from defect_assets.dataset.delivery import DeliveredSample
from defect_assets.dataset.description import DatasetDescription, DefectClass
from defect_assets.dataset.inspection import read_delivery
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
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{class_map} cannot be read: {error}") from error
    if (
        not isinstance(values, dict)
        or not values
        or not all(type(value) is int and 1 <= value <= 255 for value in values)
        or not all(isinstance(class_name, str) for class_name in values.values())
    ):
        raise SettingsError(
            f"{class_map} must map mask values (1 to 255) to class names, e.g. '1: scratch'"
        )
    try:
        return DatasetDescription(
            name=name,
            classes=tuple(
                DefectClass(id=i, name=str(values[v]), value=v, color=class_color(i, len(values)))
                for i, v in enumerate(sorted(values), start=1)
            ),
            defect_free="defect-free",
            masks="soft" if len(values) == 1 else "indexed",
        )
    except ValidationError as error:
        raise SettingsError(f"{name} with {class_map}: {explain(error)}") from error


def delivered(folder: Path, description: DatasetDescription) -> list[DeliveredSample]:
    """Return the samples of a folder, with what its samples.csv says of them.

    Raises
    ------
    DeliveryRefused
        If anything is wrong with the folder, with all that is.
    """
    return [
        DeliveredSample(
            sample=sample.sample,
            class_name=sample.class_name,
            group=sample.group,
            exposure=sample.exposure,
            image=sample.image.read(),
            image_suffix=Path(sample.image.name).suffix,
            mask=sample.mask.read() if sample.mask else None,
            mask_suffix=Path(sample.mask.name).suffix if sample.mask else ".png",
        )
        for sample in read_delivery(folder, description).samples
        if sample.image
    ]


def class_color(index: int, count: int) -> str:
    """Return the colour of one of some classes, as #rrggbb: hues evenly around the circle."""
    rgb = colorsys.hsv_to_rgb((index - 1) / count, 0.8, 0.95)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)
