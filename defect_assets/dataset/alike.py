"""Near-duplicates among stored images, and the groups that they join."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from defect_assets.dataset.near_duplicates import LIMIT, similar_pairs, spectra
from defect_assets.errors import UserError
from defect_assets.inference.images import decode_image
from defect_assets.store import Digest, Store
from defect_assets.store.columns import column, numbers


class TooManyImages(UserError):
    """More images than can be compared with each other."""


@dataclass(frozen=True)
class Alike:
    """Which of some images are near-duplicates."""

    images: pa.Array
    """Digests, sorted."""
    pairs: np.ndarray
    """Positions among them, int64 of shape (pairs, 2)."""


def find_alike(store: Store, images: Sequence[pa.ChunkedArray], similarity: float) -> Alike:
    """Compare images with each other, each two once.

    Parameters
    ----------
    store
        Where they lie.
    images
        Columns of digests, which may repeat themselves.
    similarity
        See `defect_assets.dataset.near_duplicates`.

    Raises
    ------
    TooManyImages
        If there are more than `LIMIT`.
    """
    digests = sorted({digest for some in images for digest in pc.unique(some).to_pylist()})
    if len(digests) > LIMIT:
        raise TooManyImages(
            f"{len(digests):,} images are too many to find near-duplicates among them, more than "
            f"{LIMIT:,}: say the groups in deliveries or by a rule on names, and take "
            "near_duplicates from the groups of the dataset's description"
        )
    found = [(i, j) for i, j, _ in similar_pairs(read_spectra(store, digests), similarity)]
    pairs = np.array(found, np.int64).reshape(len(found), 2)
    return Alike(column(digests, pa.string()), pairs)


def read_spectra(store: Store, digests: Sequence[Digest]) -> np.ndarray:
    """Return `spectra` of stored images, complex128 of shape (images, 32, 17)."""

    def pixels() -> Iterator[np.ndarray]:
        for start in range(0, len(digests), 64):
            yield from map(decode_image, store.objects.get_many(digests[start : start + 64]))

    return spectra(pixels())


def join_groups(samples: pa.Table, alike: Alike) -> pa.Table:
    """Join the groups of which images are near-duplicates, or the same.

    Parameters
    ----------
    samples
        Columns sample, group, image and others.
    alike
        Near-duplicates among these images, and maybe among others, which join nothing.

    Returns
    -------
    pyarrow.Table
        The samples; joined groups are named as the first of them by name.
    """
    names = pc.unique(samples["group"])
    names = names.take(pc.sort_indices(names))
    group_of = numbers(pc.index_in(samples["group"], value_set=names))
    image_of = numbers(pc.index_in(samples["image"], value_set=alike.images))
    there = np.zeros(len(alike.images), bool)
    there[image_of] = True
    pairs = alike.pairs[there[alike.pairs].all(axis=1)]
    # Groups, and after them images, are the nodes.
    one = np.concatenate([group_of, len(names) + pairs[:, 0]])
    other = np.concatenate([len(names) + image_of, len(names) + pairs[:, 1]])
    nodes = len(names) + len(alike.images)
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(nodes, nodes))
    _, joined = connected_components(graph, directed=False)
    _, first, place = np.unique(joined[: len(names)], return_index=True, return_inverse=True)
    group = names.take(column(first[place][group_of], pa.int64()))
    return samples.set_column(samples.column_names.index("group"), "group", group)
