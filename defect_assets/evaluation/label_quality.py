"""How much a model that has not seen an image agrees with its mask.

Lad and Mueller, "Estimating label quality and errors in semantic segmentation data via any model",
arXiv:2307.05080: the soft minimum, over the pixels of an image, of the probability that the model
gives to each pixel's label. Few pixels in confident disagreement weigh more than many in doubt.
"""

import numpy as np

TEMPERATURE = 0.1
"""The authors'."""


def label_quality(truth: np.ndarray, probability: np.ndarray) -> float:
    """Return a number from 0, surely labelled wrong, to 1.

    Parameters
    ----------
    truth
        Bool of shape (H, W): what the mask says is defective.
    probability
        float32 of shape (H, W): how probably it is so.
    """
    given = np.where(truth, probability, 1 - probability)
    weight = np.exp((1 - given) / TEMPERATURE)
    return float((given * weight).sum(dtype=float) / weight.sum(dtype=float))
