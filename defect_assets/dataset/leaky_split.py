"""The split that most published scores stand on: image by image, whatever part an image shows.

It is there to measure what it flatters, and for nothing else.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from defect_assets.dataset.split import Split
from defect_assets.store import Store
from defect_assets.store.columns import column


def leaky_split(store: Store, split: Split) -> Split:
    """Deal the places of a split anew among the images of each class, and store the table.

    Train, val and test have as many images of each class as before; only who they are is left to
    chance, by the seed of the split's policy.

    Parameters
    ----------
    store
        Where the tables lie.
    split
        Divided by part.
    """
    rows = store.objects.get_table(split.rows, ["sample", "group", "class", "part"])
    classes = np.array(rows["class"].to_pylist())
    parts = np.array(rows["part"].to_pylist())
    rng = np.random.default_rng([split.policy.seed, 1])
    for name in np.unique(classes):
        of_class = np.flatnonzero(classes == name)
        parts[of_class] = parts[rng.permutation(of_class)]
    place = rows.column_names.index("part")
    rows = rows.set_column(place, "part", column(parts.tolist(), pa.string()))
    return split.model_copy(
        update={
            "rows": store.objects.put_table(rows),
            "groups": {
                part: pc.count_distinct(rows.filter(pc.equal(rows["part"], part))["group"]).as_py()
                for part in split.groups
            },
            "folds": (),
            "moved": None,
        }
    )


def share_seen(store: Store, split: Split) -> float:
    """Return the share of a split's test images of whose part another image is trained on."""
    rows = store.objects.get_table(split.rows, ["group", "part"])
    trained = pc.unique(rows.filter(pc.equal(rows["part"], "train"))["group"])
    tested = rows.filter(pc.equal(rows["part"], "test"))["group"]
    return float(pc.mean(pc.is_in(tested, value_set=trained)).as_py() or 0.0)
