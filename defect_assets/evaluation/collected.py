"""What is kept of images that pass by: sums, by the physical part that they show."""

import numpy as np


class Collected:
    """Sums over the images of each part; no image is kept."""

    def __init__(self) -> None:
        self._of_group: dict[str, np.ndarray] = {}

    def _collect(self, group: str, counted: np.ndarray) -> None:
        """Add what was counted in an image of a part, float64 of one shape for all images."""
        self._of_group[group] = self._of_group.get(group, 0) + counted

    def sums(self, groups: list[str]) -> np.ndarray:
        """Return what adds up over parts, float64 of shape (groups, …)."""
        return np.array([self._of_group[group] for group in groups])
