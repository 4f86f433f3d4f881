"""Any pair of folders ``images/`` and ``masks/`` with a class map: in and out."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml
from pydantic import ValidationError

from defect_assets.dataset.delivery import COLUMNS, DeliveredSample
from defect_assets.dataset.description import DatasetDescription, DefectClass, class_color
from defect_assets.dataset.formats.imported import FormatError
from defect_assets.dataset.formats.sample import ExportedSample
from defect_assets.dataset.formats.written import whole_folder, write_new
from defect_assets.dataset.inspection import read_delivery
from defect_assets.inference.images import encode_png
from defect_assets.settings import SettingsError, explain

CLASS_MAP = "classes.yaml"


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


def write_folder(
    folder: Path, description: DatasetDescription, samples: Iterable[ExportedSample]
) -> None:
    """Write samples so that ``import folder FOLDER --class-map FOLDER/classes.yaml`` takes them.

    ::

        images/tile-0001-exp1.jpg …    by the sample, the suffix as it was
        masks/tile-0001-exp1.png …     class ids; 255 where there is one class alone
        samples.csv                    sample,class,group,exposure
        classes.yaml                   mask values and class names

    The part is lost, as deliveries have none.

    Raises
    ------
    FormatError
        If the folder is not empty, a sample comes twice, or there is none.
    """
    # With one class in the map, the importer takes masks for soft, all above 127 defective.
    only_one = len(description.classes) == 1
    count = 0
    with whole_folder(folder) as partial:
        (partial / "masks").mkdir()
        with (partial / "samples.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for sample in samples:
                count += 1
                suffix = Path(sample.image_name).suffix
                write_new(partial / "images", f"{sample.sample}{suffix}", sample.image)
                # The importer has its own word for images without a defect; none is any's.
                defective = sample.class_name != description.defect_free
                if defective or sample.mask.any():
                    values = sample.mask * np.uint8(255) if only_one else sample.mask
                    write_new(partial / "masks", f"{sample.sample}.png", encode_png(values))
                class_name = sample.class_name if defective else ""
                table.writerow((sample.sample, class_name, sample.group, sample.exposure))
        if not count:
            raise FormatError("there is no sample to write")
        values_of = {255 if only_one else c.id: c.name for c in description.classes}
        text = yaml.safe_dump(values_of, sort_keys=False, allow_unicode=True)
        (partial / CLASS_MAP).write_text(text)
