"""How well near-duplicates are found: `python -m benchmarks.near_duplicates --help`."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from defect_assets.dataset.formats.magnetic_tiles import read_tiles
from defect_assets.dataset.grouping import SIMILARITY
from defect_assets.dataset.near_duplicates import similar_pairs, spectra
from defect_assets.inference.images import decode_image

SIMILARITIES = (0.75, 0.8, 0.85, 0.9, 0.95)
DISTANCES = (0, 2, 4, 6, 8, 10)
Pairs = np.ndarray
"""Positions of two images each, int64 of shape (pairs, 2), the lower one first."""


def perceptual_hashes(images: list[np.ndarray]) -> np.ndarray:
    """Return 64-bit hashes as `imagehash.phash` defines them, bool of shape (images, 64).

    32 × 32 pixels, the 8 × 8 lowest frequencies of their cosine transform, each above the median
    or not.
    """
    rows = []
    for image in images:
        small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        low = cv2.dct(small)[:8, :8].ravel()
        rows.append(low > np.median(low))
    return np.array(rows)


def pairs_by_hash(images: list[np.ndarray], distance: int) -> Pairs:
    """Return the pairs whose hashes differ by so many bits at most."""
    bits = perceptual_hashes(images).astype(np.int32)
    differing = bits @ (1 - bits).T
    differing += differing.T
    return np.argwhere(np.triu(differing <= distance, 1))


def pairs_by_correlation(images: list[np.ndarray], similarity: float) -> Pairs:
    """Return the pairs that `similar_pairs` finds."""
    found = [(i, j) for i, j, _ in similar_pairs(spectra(images), similarity)]
    return np.array(found, np.int64).reshape(len(found), 2)


def joined(pairs: Pairs, count: int) -> Pairs:
    """Return all pairs that are connected by some."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return together(connected_components(graph, directed=False)[1])


def together(group: np.ndarray) -> Pairs:
    """Return all pairs of one group."""
    return np.argwhere(np.triu(group[:, None] == group[None], 1))


def share(pairs: Pairs, among: Pairs, count: int) -> float:
    """Return which part of some pairs is among others; 1 where there are none."""
    keys = pairs[:, 0] * count + pairs[:, 1]
    return float(np.isin(keys, among[:, 0] * count + among[:, 1]).mean()) if len(pairs) else 1.0


def main() -> None:
    """Print precision and recall, of pairs and of the groups that they make."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=Path, required=True, help="has MT_*/Imgs")
    parser.add_argument("--groups", type=Path, required=True, help="CSV: stem,cls,tile,group")
    parser.add_argument("--disagreements", action="store_true", help="list pairs the file denies")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    tiles = read_tiles(options.tiles)
    truth = pd.read_csv(options.groups).set_index("stem").loc[[tile.stem for tile in tiles]]
    images = [decode_image(tile.image.read_bytes()) for tile in tiles]
    count = len(images)
    of_tile, of_group = (together(truth[name].to_numpy()) for name in ("tile", "group"))
    sequence = together(pd.factorize(pd.Series([tile.group for tile in tiles]))[0])
    print(f"{count} images, {len(of_tile)} pairs of one tile, {len(of_group)} of one group\n")
    columns = "method, pairs, precision (tile), precision (group), recall (tile), pairs joined, "
    columns += "precision (group), recall (tile), recall (group), CPU ms an image"
    print(f"| {' | '.join(columns.split(', '))} |\n|{'---|' * 10}")
    methods: list[tuple[str, Callable[[], Pairs]]] = [
        (f"correlation ≥ {s}", lambda s=s: pairs_by_correlation(images, s)) for s in SIMILARITIES
    ]
    methods += [(f"pHash ≤ {d} bits", lambda d=d: pairs_by_hash(images, d)) for d in DISTANCES]
    for name, find in methods:
        start = time.process_time()
        pairs = find()
        cost = 1000 * (time.process_time() - start) / count
        all_joined = joined(pairs, count)
        figures = [
            share(pairs, of_tile, count),
            share(pairs, of_group, count),
            share(of_tile, pairs, count),
        ]
        of_joined = [
            share(all_joined, of_group, count),
            share(of_tile, all_joined, count),
            share(of_group, all_joined, count),
        ]
        shown = " | ".join(f"{figure:.3f}" for figure in figures)
        print(f"| {name} | {len(pairs)} | {shown} | {len(all_joined)} | ", end="")
        print(" | ".join(f"{figure:.3f}" for figure in of_joined), f"| {cost:.2f} |")
        if name.startswith("correlation") and options.disagreements:
            group = truth["group"].to_numpy()
            denied = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
            print(pd.Series([str(sorted(p)) for p in group[denied].tolist()]).value_counts())
    found = joined(np.concatenate([sequence, pairs_by_correlation(images, SIMILARITY)]), count)
    precision, recall = share(found, of_group, count), share(of_group, found, count)
    print(f"\nwith the capture sequence: precision {precision:.3f}, recall {recall:.3f} (group)")


if __name__ == "__main__":
    main()
