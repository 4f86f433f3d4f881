"""Pairs of images and masks, as ``defect-assets import folder`` reads them."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml

from defect_assets.dataset.delivery import COLUMNS
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats.imported import FormatError
from defect_assets.dataset.formats.sample import ExportedSample
from defect_assets.dataset.formats.written import whole_folder, write_new
from defect_assets.inference.images import encode_png

CLASS_MAP = "classes.yaml"


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
