"""How the shares of classes move from one snapshot to the next."""

from collections.abc import Mapping


def drift(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[float, dict[str, float]]:
    """Return how far two distributions of classes are apart.

    Parameters
    ----------
    before, after
        Samples per class, at least one each.

    Returns
    -------
    tuple
        The total variation distance, from 0 for the same shares to 1 for no class in common: half
        of the sum of all differences. And by how much the share of each class grew.

    Examples
    --------
    >>> drift({"Free": 3, "Crack": 1}, {"Free": 2, "Crack": 2})
    (0.25, {'Crack': 0.25, 'Free': -0.25})
    """
    shares = [
        {name: n / sum(counts.values()) for name, n in counts.items()} for counts in (before, after)
    ]
    grew = {
        name: shares[1].get(name, 0.0) - shares[0].get(name, 0.0)
        for name in sorted({*before, *after})
    }
    return sum(abs(difference) for difference in grew.values()) / 2, grew
