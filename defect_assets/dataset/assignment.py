"""Assigning groups to parts: seeded, stratified by class, and never moving what is assigned."""

from collections.abc import Sequence

import numpy as np

from defect_assets.store import digest_of

NOWHERE = -1
"""The part of a group that is in none yet."""


def assign(
    groups: Sequence[str],
    counts: np.ndarray,
    ratios: Sequence[float],
    seed: str,
    before: np.ndarray,
) -> np.ndarray:
    """Assign each group to one of some parts.

    Class by class, the rarest first and the defect-free last, groups are taken in an order drawn
    from the seed. Each goes to the part that has the least of its share of this class (Webster's
    method: the number of images, half of the group's own included, by the part's ratio), or, while
    a part is empty, to an empty one: so a few groups suffice to fill all.

    Parameters
    ----------
    groups
        Their names, sorted.
    counts
        Images of each class in each group, integers of shape (groups, classes). The last column is
        the class without a defect; a group belongs to its most frequent class of defect, if any.
    ratios
        The share of each part, above 0.
    seed
        Another seed draws another order.
    before
        The part in which each group is already, or `NOWHERE`, integers of shape (groups,); they
        stay.

    Returns
    -------
    numpy.ndarray
        The part of each group, int64 of shape (groups,).
    """
    parts = before.astype(np.int64)
    filled = np.zeros((len(ratios), counts.shape[1]), np.int64)
    np.add.at(filled, parts[parts != NOWHERE], counts[parts != NOWHERE])
    strata = _strata(counts)
    new = np.flatnonzero(parts == NOWHERE)
    # The name breaks ties; no digest is likely to need it.
    drawn = sorted(new.tolist(), key=lambda g: (digest_of(f"{seed}/{groups[g]}".encode()), g))
    stratum_of = strata.tolist()
    places: dict[int, list[int]] = {}
    for group in drawn:
        places.setdefault(stratum_of[group], []).append(group)
    totals = counts.sum(axis=0)
    rarest_first = sorted(range(counts.shape[1] - 1), key=lambda c: (totals[c], c))
    for stratum in [*rarest_first, counts.shape[1] - 1]:
        chosen = places.get(stratum, [])
        parts[chosen] = _fill(
            counts[chosen, stratum].tolist(),
            counts[chosen].sum(axis=1).tolist(),
            ratios,
            filled[:, stratum].tolist(),
            filled.sum(axis=1).tolist(),
        )
        np.add.at(filled, parts[chosen], counts[chosen])
    return parts


def majority(votes: np.ndarray, voters: np.ndarray, groups: int, parts: int) -> np.ndarray:
    """Return the part in which most images of each group are, so that the fewest have to move.

    Parameters
    ----------
    votes
        The part of each image, or `NOWHERE`, integers of shape (images,).
    voters
        The group of each image, integers of shape (images,).
    groups, parts
        How many there are.

    Returns
    -------
    numpy.ndarray
        int64 of shape (groups,), `NOWHERE` for groups without a vote. Of equals the first counts.
    """
    given = votes != NOWHERE
    tally = np.bincount(voters[given] * parts + votes[given], minlength=groups * parts)
    tally = tally.reshape(groups, parts)
    return np.where(tally.any(axis=1), tally.argmax(axis=1), NOWHERE)


def _strata(counts: np.ndarray) -> np.ndarray:
    """Return the class to which each group belongs, int64 of shape (groups,)."""
    defect_free = counts.shape[1] - 1
    defects = counts[:, :defect_free]
    if not defect_free:
        return np.zeros(len(counts), np.int64)
    return np.where(defects.any(axis=1), defects.argmax(axis=1), defect_free)


def _fill(
    weights: list[int],
    sizes: list[int],
    ratios: Sequence[float],
    filled: list[int],
    held: list[int],
) -> list[int]:
    """Return the part of each of some groups of one class, one after the other.

    Parameters
    ----------
    weights
        Images of the class in each group.
    sizes
        Images in each group.
    ratios
        The share of each part.
    filled, held
        Images of the class, and of all classes, in each part.
    """
    places = range(len(ratios))
    chosen = []
    for weight, size in zip(weights, sizes, strict=True):
        part = min(
            places,
            key=lambda p: (
                held[p] > 0,
                (filled[p] + weight / 2) / ratios[p],
                held[p] / ratios[p],
            ),
        )
        filled[part] += weight
        held[part] += size
        chosen.append(part)
    return chosen
