"""The public magnetic tile defect dataset.

Y. Huang, C. Qiu, K. Yuan: Surface defect saliency of magnetic tile. The Visual Computer 36,
85-96 (2020). The authors ask users to cite it.

::

    MT_Blowhole/Imgs/exp1_num_4727.jpg    the image, under exposure 1
    MT_Blowhole/Imgs/exp1_num_4727.png    its mask
    MT_Break …  MT_Crack …  MT_Fray …  MT_Uneven …  MT_Free …

Each physical tile was photographed about six times. ``num`` counts captures, and the exposures of
one tile are near each other in it, so tiles are told apart by the gaps.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pooch

from defect_assets.dataset.delivery import DeliveredSample
from defect_assets.dataset.grouping import CaptureSequence, capture_runs
from defect_assets.errors import UserError

ARCHIVE_URL = (
    "https://github.com/abin24/Magnetic-tile-defect-datasets./archive/refs/heads/master.zip"
)
CAPTURES = CaptureSequence(pattern=r"num_(?P<capture>\d+)", gap=300)
"""How tiles are told apart."""

_NAME = re.compile(rf"exp(?P<exposure>\d+)_{CAPTURES.pattern}")


class LayoutError(UserError):
    """A folder that does not have the dataset's layout."""


@dataclass(frozen=True)
class Tile:
    """One image of the dataset."""

    stem: str
    class_name: str
    exposure: str
    capture: int
    image: Path
    mask: Path | None
    group: str


def download(cache: Path, url: str = ARCHIVE_URL, known_hash: str | None = None) -> Path:
    """Download and unpack the public archive; return the folder that has the dataset's layout.

    Parameters
    ----------
    cache
        Where the archive is kept; what lies there already is not downloaded again.
    url
        The archive.
    known_hash
        Its SHA-256, e.g. ``sha256:…``; the download is refused if it differs. None where it is
        not known: the public archive is of a branch, which its host packs anew at times.
    """
    unpacked = pooch.retrieve(
        url, known_hash, "magnetic-tiles.zip", cache, processor=pooch.Unzip(), progressbar=True
    )
    for file in sorted(map(Path, unpacked)):
        for folder in file.parents:
            if folder.name.startswith("MT_"):
                return folder.parent
    raise LayoutError(f"the archive from {url} holds no MT_… folder")


def read_tiles(folder: Path, groups: Path | None = None) -> list[Tile]:
    """List the dataset's images in the order in which they were taken.

    Parameters
    ----------
    folder
        Has ``MT_*/Imgs``.
    groups
        A CSV file with the columns stem and group, which images show one physical part. Without
        it, parts are told apart by the gaps in the capture sequence alone.

    Raises
    ------
    LayoutError
        If the folder has another layout, or the CSV file lacks an image.
    """
    images = sorted(folder.glob("MT_*/Imgs/*.jpg"))
    if not images:
        raise LayoutError(
            f"{folder} holds no MT_*/Imgs/*.jpg: give the folder that has MT_Blowhole, MT_Break …"
        )
    named = {}
    for image in images:
        match = _NAME.fullmatch(image.stem)
        if not match:
            raise LayoutError(f"{image} is not named as exp1_num_4727.jpg")
        named[image] = (int(match["capture"]), f"exp{match['exposure']}")
    images.sort(key=lambda image: (named[image][0], image.name))
    by_stem = _read_groups(groups) if groups else {}
    tiles = []
    runs = capture_runs([named[image][0] for image in images], CAPTURES.gap)
    for image, run in zip(images, runs, strict=True):
        capture, exposure = named[image]
        if groups and image.stem not in by_stem:
            raise LayoutError(f"{groups} has no row for {image.stem}")
        mask = image.with_suffix(".png")
        tiles.append(
            Tile(
                stem=image.stem,
                class_name=image.parent.parent.name.removeprefix("MT_"),
                exposure=exposure,
                capture=capture,
                image=image,
                mask=mask if mask.exists() else None,
                group=f"part-{by_stem.get(image.stem, run + 1):0>4}",
            )
        )
    return tiles


def delivered(tiles: list[Tile]) -> Iterator[DeliveredSample]:
    """Yield the samples of some tiles, files read one by one."""
    for tile in tiles:
        yield DeliveredSample(
            sample=tile.stem,
            class_name=tile.class_name,
            group=tile.group,
            exposure=tile.exposure,
            image=tile.image.read_bytes(),
            image_suffix=".jpg",
            mask=tile.mask.read_bytes() if tile.mask else None,
        )


def in_batches(tiles: list[Tile], batches: int) -> list[list[Tile]]:
    """Divide tiles into batches in the order of capture, as near to equal as whole groups allow."""
    divided: list[list[Tile]] = [[] for _ in range(batches)]
    first_seen: dict[str, int] = {}
    for position, tile in enumerate(tiles):
        batch = first_seen.setdefault(tile.group, position * batches // len(tiles))
        divided[batch].append(tile)
    return [batch for batch in divided if batch]


def _read_groups(path: Path) -> dict[str, str]:
    table = pd.read_csv(path, dtype=str)
    if not {"stem", "group"} <= set(table.columns):
        raise LayoutError(f"{path} must have the columns stem and group")
    return dict(zip(table["stem"], table["group"], strict=True))
