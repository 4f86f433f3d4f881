"""How much the masks of a sample have in common before and after a correction."""

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.masks import defective_pixels
from defect_assets.store import Store


def overlap(store: Store, mask_before: str, mask: str, description: DatasetDescription) -> float:
    """Return the Dice coefficient of the defective pixels of two masks, by digest, from 0 to 1.

    2 |A ∩ B| / (|A| + |B|). An empty digest is an empty mask; two empty masks agree.
    """
    if mask == mask_before:
        return 1.0
    shapes = [
        defective_pixels(store.objects.get(digest), description)
        for digest in (mask_before, mask)
        if digest
    ]
    size = sum(int(shape.sum()) for shape in shapes)
    if size == 0:
        return 1.0
    common = int((shapes[0] & shapes[1]).sum()) if len(shapes) == 2 else 0
    return 2 * common / size
