"""What each step sees: a function of data, configuration, seed and the step's number alone.

So a training that was interrupted goes on with the batches it would have seen, whatever number of
workers prepares them, and the batch of a step can be looked at again.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.random import Generator as Random
from torch import Tensor
from torch.utils.data import Dataset

from defect_assets.training.augmentation import Augmenter
from defect_assets.training.config import DefectKind, Sampling, TrainingConfig
from defect_assets.training.data import FittedImages
from defect_assets.training.painting import paint
from defect_assets.training.paste import paste

T = TypeVar("T")

NOBODY = -1
"""Stands for a donor where there is none."""


@dataclass(frozen=True)
class Draw:
    """Which images a step sees, and what is done to them."""

    images: np.ndarray
    """int64 of shape (n,): rows of the data."""
    donors: np.ndarray
    """int64 of shape (n,): whose defect is pasted onto each; `NOBODY` for none."""
    painted: np.ndarray
    """int64 of shape (n,): the class of the defect that is painted onto each; 0 for none."""

    def share(self, rank: int, ranks: int) -> "Draw":
        """Return what one of several processes takes."""
        part = np.s_[rank::ranks]
        return Draw(self.images[part], self.donors[part], self.painted[part])


class Sampler:
    """Draws which images a step sees.

    Defect-free images have their share; the others are drawn class by class.
    """

    def __init__(
        self, data: FittedImages, sampling: Sampling, paintable: Sequence[int] = ()
    ) -> None:
        self._sampling = sampling
        self._paintable = list(paintable)
        self._members: dict[int, list[np.ndarray]] = {}
        classes, groups = data.classes[data.rows], data.groups[data.rows]
        for class_id in np.unique(classes):
            of_class = data.rows[classes == class_id]
            if sampling.by == "part":
                parts = groups[classes == class_id]
                drawn_from = [of_class[parts == part] for part in np.unique(parts)]
            else:
                drawn_from = [of_class]
            self._members[int(class_id)] = drawn_from
        self._defects = [class_id for class_id in self._members if class_id > 0]

    def draw(self, rng: Random) -> Draw:
        """Draw the images of one step."""
        s = self._sampling
        shares = {"free": s.defect_free, "pasted": s.pasted, "painted": s.painted}
        if 0 not in self._members:
            shares = {}
        elif not self._defects:
            shares = {"free": 1 - s.painted, "painted": s.painted}
        shares["real"] = max(0.0, 1 - sum(shares.values()))
        kinds = rng.choice(list(shares), s.batch_size, p=list(shares.values()))
        images, donors, painted = [], [], []
        for kind in kinds:
            defect = int(rng.choice(self._defects)) if kind in ("real", "pasted") else 0
            images.append(self._one_of(defect if kind == "real" else 0, rng))
            donors.append(self._one_of(defect, rng) if kind == "pasted" else NOBODY)
            painted.append(int(rng.choice(self._paintable)) if kind == "painted" else 0)
        return Draw(np.array(images), np.array(donors), np.array(painted))

    def _one_of(self, class_id: int, rng: Random) -> int:
        members = self._members[class_id]
        return int(rng.choice(members[rng.integers(len(members))]))


class Batches(Dataset):
    """The batches of a training, by the number of the step.

    Parameters
    ----------
    data
        What to draw from.
    config
        How to draw and to change it.
    class_map
        Class ids, from 1 on, and their names.
    rank, ranks
        Of several processes that share each batch, which one this is.
    """

    def __init__(
        self,
        data: FittedImages,
        config: TrainingConfig,
        class_map: Mapping[int, str],
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._data = data
        self._config = config
        self._kinds: dict[int, DefectKind] = {
            id: config.paint[name] for id, name in class_map.items() if name in config.paint
        }
        self._sampler = Sampler(data, config.sampling, list(self._kinds))
        self._augment = Augmenter(config.augmentation)
        self._rank, self._ranks = rank, ranks

    def draw(self, step: int) -> Draw:
        """Return what a step sees."""
        return self._sampler.draw(self._random(step, "draw")).share(self._rank, self._ranks)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs, float32 (n, channels, H, W), and masks, int64 (n, H, W)."""
        draw, data = self.draw(step), self._data
        images, masks = data.images[draw.images], data.masks[draw.images]
        rng = self._random(step, "change")
        for i, (donor, class_id) in enumerate(zip(draw.donors, draw.painted, strict=True)):
            if donor != NOBODY:
                images[i], masks[i] = paste(images[i], data.images[donor], data.masks[donor], rng)
            elif class_id:
                images[i], masks[i] = paint(images[i], self._kinds[class_id], class_id, rng)
        if self._config.task == "binary":
            masks = (masks > 0).astype(np.uint8)
        images, masks = self._augment(images, masks, int(rng.integers(2**31)))
        inputs = self._config.input.normalize(images)
        return torch.from_numpy(inputs), torch.from_numpy(masks).long()

    def _random(self, step: int, purpose: str) -> Random:
        # All ranks draw the same batch, of which each takes its share; changes are their own.
        rank = 0 if purpose == "draw" else 1 + self._rank
        return np.random.default_rng([self._config.seed, step, rank])


def prefetch(items: Iterable[T]) -> Generator[T, None, None]:
    """Yield items; the next one is made in a thread while this one is used."""
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, iterator, end)
        while (made := future.result()) is not end:
            future = pool.submit(next, iterator, end)
            yield made  # type: ignore[misc]
