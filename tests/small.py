"""Deliveries of tiny images, for tests in which the images do not matter; quick to import."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import yaml

from defect_assets.dataset.cut import next_snapshot
from defect_assets.dataset.delivery import COMPLETE, HEADER, SAMPLES
from defect_assets.dataset.description import DatasetDescription, DefectClass
from defect_assets.dataset.snapshot import Snapshot
from defect_assets.dataset.version import Version
from defect_assets.home import Home
from defect_assets.inbox import take_in
from defect_assets.inference.images import encode_png
from defect_assets.registry.provenance import publish_batch, publish_snapshot
from defect_assets.store import Store

DESCRIPTION = DatasetDescription(
    name="small",
    classes=(
        DefectClass(id=1, name="Crack", color="#8b5cf6"),
        DefectClass(id=2, name="Hole", color="#e11d48"),
    ),
    masks="indexed",
)
CLASSES = ("Free", "Crack", "Hole")
SIDE = 8


@lru_cache
def picture(number: int) -> bytes:
    """Return a PNG of 8 × 8 pixels, another one for each number."""
    return encode_png(np.random.default_rng([1, number]).integers(0, 256, (SIDE, SIDE), np.uint8))


@lru_cache
def mask(class_id: int, number: int) -> bytes:
    """Return a mask in which some pixels are of a class."""
    spots = np.random.default_rng([2, number]).random((SIDE, SIDE)) < 0.4
    spots[0, 0] = True
    return encode_png((spots * class_id).astype(np.uint8))


def home_of(root: Path) -> Home:
    """Make an empty home of these images."""
    home = Home(root)
    home.hold(DESCRIPTION)
    home.inbox.mkdir(parents=True, exist_ok=True)
    return home


def deliver(
    home: Home,
    name: str,
    images: Mapping[str, bytes],
    masks: Mapping[str, bytes],
    groups: Mapping[str, str] | None = None,
    remove: Iterable[str] = (),
) -> None:
    """Write a delivery into a home's inbox."""
    folder = home.inbox / name
    for kind, files in (("images", images), ("masks", masks)):
        (folder / kind).mkdir(parents=True)
        for sample, data in files.items():
            (folder / kind / f"{sample}.png").write_bytes(data)
    if groups:
        lines = ["sample,group", *(f"{s},{groups.get(s, '')}" for s in sorted({*images, *masks}))]
        (folder / SAMPLES).write_text("\n".join(lines) + "\n")
    header = {"notes": f"about {name}", "remove": sorted(remove)}
    (folder / HEADER).write_text(yaml.safe_dump(header))
    (folder / COMPLETE).touch()


def plain(home: Home, name: str, numbers: Iterable[int]) -> None:
    """Deliver samples by their numbers: every third is free of defects, two make one part."""
    numbers = list(numbers)
    deliver(
        home,
        name,
        {f"s{n:03}": picture(n) for n in numbers},
        {f"s{n:03}": mask(n % 3, n) for n in numbers if n % 3},
        {f"s{n:03}": f"part-{n // 2}" for n in numbers},
    )


def ingest(home: Home, store: Store, name: str) -> None:
    """Take a delivery in and name it, as the command does."""
    digest, _ = take_in(home, store, name)
    publish_batch(store, name, digest, lock_of(home))


def cut(home: Home, store: Store, version: Version | None = None) -> Snapshot | None:
    """Cut the next version and name it, as the command does."""
    snapshot = next_snapshot(store, home.description(), version)
    if snapshot is not None:
        publish_snapshot(store, snapshot, lock_of(home))
    return snapshot


def lock_of(home: Home) -> Path:
    """Return a short lock file; the project's would take most of the time."""
    path = home.root / "requirements.lock"
    if not path.exists():
        path.write_text("numpy==2.0.0\n")
    return path


def contents(store: Store) -> dict[str, str | None]:
    """Return what each name of a store leads to."""
    return {name: store.content(name) for name in store.refs.names()}


def damage(path: Path, at: int = -1) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x04
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)
