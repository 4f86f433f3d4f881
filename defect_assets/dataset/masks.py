"""Reading of delivered masks."""

import numpy as np

from defect_assets.dataset.description import DatasetDescription
from defect_assets.inference.images import ImageError, decode_values


def decode_mask(
    data: bytes | None, class_name: str, size: tuple[int, int], description: DatasetDescription
) -> np.ndarray:
    """Return an image's mask as class ids.

    Parameters
    ----------
    data
        The delivered mask file; None where there is none, which means no defect.
    class_name
        The image's class; soft masks have no other.
    size
        Height and width of the image.
    description
        How masks are to be read.

    Returns
    -------
    numpy.ndarray
        uint8 of shape (H, W): class ids, 0 for no defect.

    Raises
    ------
    ImageError
        If the mask does not decode, has another size, holds a value of no class, shows a defect
        where the class says that there is none, or is soft and nowhere above the threshold
        though not empty.
    """
    if data is None:
        return np.zeros(size, np.uint8)
    values = decode_values(data)
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise ImageError("the mask is coloured; masks are grey, one value per pixel")
        values = values[..., 0]
    if values.shape != size:
        raise ImageError(
            f"the mask is {values.shape[1]} × {values.shape[0]} pixels, "
            f"the image {size[1]} × {size[0]}"
        )
    if description.masks == "soft":
        class_id = description.class_ids[class_name]
        defective = values > description.mask_threshold
        if class_id == 0 and defective.any():
            raise ImageError(f"its class is {class_name}, but its mask is not empty")
        if values.any() and not defective.any():
            raise ImageError(
                f"no pixel of the mask is above {description.mask_threshold}, where a soft mask "
                f"says defective, but some are up to {values.max()}"
            )
        return np.where(defective, class_id, 0).astype(np.uint8)
    return _indexed(values, description)


def defective_pixels(data: bytes, description: DatasetDescription) -> np.ndarray:
    """Return which pixels of a mask that was checked before are defective, bool (H, W)."""
    values = decode_values(data)
    if values.ndim == 3:
        values = values[..., 0]
    return values > (description.mask_threshold if description.masks == "soft" else 0)


def _indexed(values: np.ndarray, description: DatasetDescription) -> np.ndarray:
    unknown = 255
    table = np.full(256, unknown, np.uint8)
    table[0] = 0
    for defect_class in description.classes:
        table[defect_class.value or defect_class.id] = defect_class.id
    mask = np.where((values >= 0) & (values < 256), table[values & 255], unknown)
    if (mask == unknown).any():
        strangers = np.unique(values[mask == unknown])[:8].tolist()
        raise ImageError(f"the mask holds the values {strangers}, which the class map lacks")
    return mask
