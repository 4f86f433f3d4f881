"""What work costs as it is spread, and as data grow: `python -m benchmarks.scale --help`.

1. Ingest, verify and scoring by this process, and on a Ray cluster of 1 and of 2 workers with one
   processor each: efficiency, and what Ray adds for a task and for 1,000 images.
2. Ingest, cut and split of 10^3 … 10^6 tiny images: seconds, memory, bytes and requests, and their
   slopes; and of one more delivery, by how many batches there are.

See scale.md, which projects them to 100 million images.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.filesets import cached_delivery
from defect_assets.cluster.spreading import OnRay
from defect_assets.dataset.cut import next_snapshot
from defect_assets.dataset.split import split_snapshot
from defect_assets.home import Home, known_description
from defect_assets.inbox import take_in
from defect_assets.registry.provenance import publish_batch, publish_snapshot
from defect_assets.spreading import Spread, in_threads, one_by_one
from defect_assets.store import Store, open_store
from defect_assets.store.backend import Backend, Entry
from defect_assets.store.cache import CachedBackend
from defect_assets.store.verify import verify
from tests.small import cut as cut_small
from tests.small import home_of, lock_of, plain
from tests.small import ingest as ingest_small

PROJECT = Path(__file__).resolve().parents[1]
SIZES = (1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Spreading:
    """What some work took."""

    step: str
    where: str
    images: int
    seconds: float
    rate: float
    """Images a second."""


class Counting:
    """A backend that counts what would be requests to a bucket."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.counts: Counter[str] = Counter()

    def hold(self) -> None:
        self._backend.hold()

    def read(self, key: str) -> bytes:
        self.counts["get"] += 1
        return self._backend.read(key)

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self.counts["get"] += 1
        return self._backend.read_ranges(key, ranges)

    def exists(self, key: str) -> bool:
        self.counts["get"] += 1
        return self._backend.exists(key)

    def create(self, key: str, data: bytes) -> bool:
        self.counts["put"] += 1
        self.counts["bytes"] += len(data)
        return self._backend.create(key, data)

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        self.counts["put"] += 1
        return self._backend.swap(key, expected, data)

    def delete(self, key: str) -> None:
        self._backend.delete(key)

    def entries(self, folder: str) -> Iterator[Entry]:
        for number, entry in enumerate(self._backend.entries(folder)):
            self.counts["list"] += number % 1000 == 0  # a page of a bucket's list
            yield entry

    def clean(self, before: float) -> int:
        return self._backend.clean(before)


def spreading(images: int, model: Path | None, tiles: Path | None, work: Path) -> list[Spreading]:
    """Measure work here and on clusters of one and of two workers."""
    from tests.servers.ray import ray_cluster

    delivery = work / f"delivery-{images}"
    cached_delivery(delivery, 0, images)
    found = _spread_over("one processor here", one_by_one, images, delivery, work)
    found += _spread_over("threads here", in_threads, images, delivery, work)
    if model and tiles:
        found.append(_scored("threads here", model, tiles, work))
    for workers in (1, 2):
        where = f"Ray, {workers} worker{'s' if workers > 1 else ''}"
        with ray_cluster(0, *[1] * workers) as cluster:
            os.environ.update(cluster.environment)
            import ray

            start = time.perf_counter()
            list(OnRay()(abs, range(8)))  # workers have started
            print(f"{where}: connected and begun after {time.perf_counter() - start:.1f} s")
            start = time.perf_counter()
            tasks = 1000
            list(OnRay()(abs, range(tasks)))
            each = (time.perf_counter() - start) / tasks
            print(f"{where}: {each * 1000:.2f} ms a task that does nothing")
            found += _spread_over(where, OnRay(), images, delivery, work)
            if model and tiles:
                found.append(_scored(where, model, tiles, work))
            ray.shutdown()
        for name in cluster.environment:
            os.environ.pop(name, None)
    return found


def _spread_over(
    where: str, spread: Spread, images: int, delivery: Path, work: Path
) -> list[Spreading]:
    """Take a delivery into an empty store and verify that, twice; the faster one counts."""
    seconds: dict[str, list[float]] = {"ingest": [], "verify": []}
    for _ in range(2):
        with tempfile.TemporaryDirectory(dir=work) as folder:
            home = _home(Path(folder))
            (home.inbox / "all").symlink_to(delivery.resolve())
            store = home.store()
            for step, do in (
                ("ingest", lambda h=home, s=store: _ingest(h, s, spread)),
                ("verify", lambda s=store: verify(s, spread=spread)),
            ):
                start = time.perf_counter()
                do()
                seconds[step].append(time.perf_counter() - start)
    return [
        Spreading(step, where, images, min(taken), images / min(taken))
        for step, taken in seconds.items()
    ]


def _ingest(home: Home, store: Store, spread: Spread) -> None:
    from defect_assets.dataset.ingest import ingest

    ingest(store, home.inbox / "all", home.description(), spread=spread)


def _scored(where: str, model: Path, tiles: Path, work: Path) -> Spreading:
    from benchmarks.scoring import read_model, timed

    with tempfile.TemporaryDirectory(dir=work) as output:
        run = timed(read_model(model), tiles, output, times=3)
    return Spreading("score", where, run.images, run.seconds, run.rate)


def _home(root: Path) -> Home:
    home = Home(root)
    description = known_description("synthetic-tiles")
    groups = description.groups.model_copy(update={"near_duplicates": False})  # tiny ones all are
    home.hold(description.model_copy(update={"groups": groups}))
    home.inbox.mkdir(parents=True, exist_ok=True)
    return home


@dataclass(frozen=True)
class Growth:
    """What a step took with so many images, in a process of its own."""

    step: str
    images: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    puts: int
    gets: int
    lists: int
    megabytes: float
    """Written."""


def growth(sizes: Sequence[int], work: Path) -> list[Growth]:
    """Measure steps on growing deliveries of tiny images, each in a process of its own."""
    found = []
    for images in sizes:
        delivery = work / f"tiny-{images}"
        cached_delivery(delivery, 0, images, tiny=True)
        root = work / f"home-{images}"
        shutil.rmtree(root, ignore_errors=True)
        home = _home(root)
        (home.inbox / "all").symlink_to(delivery.resolve())
        for step in STEPS:
            command = [
                sys.executable,
                "-m",
                "benchmarks.scale",
                "--step",
                step,
                "--home",
                str(root),
            ]
            done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
            found.append(Growth(step, images, **json.loads(done.stdout.splitlines()[-1])))
            print(found[-1])
        shutil.rmtree(root)
    return found


def batches(counts: Sequence[int], work: Path) -> list[dict[str, float]]:
    """Measure what a delivery of thirty images costs where so many batches are in a snapshot."""
    rows = []
    for count in counts:
        root = work / f"batches-{count}"
        shutil.rmtree(root, ignore_errors=True)
        home = home_of(root)
        counting = Counting(open_store(home.url).backend)
        store = Store(counting)
        plain(home, "batch-0", range(30))
        ingest_small(home, store, "batch-0")
        record = store.record("batches/batch-0")
        assert record is not None
        for number in range(1, count):
            store.publish_once(f"batches/batch-{number}", record)
        cut_small(home, store)
        row: dict[str, float] = {"batches": count}
        kept = Store(CachedBackend(counting, root / "cache"))
        # The second time a node's cache has what the first one asked for.
        places = [("", store), ("first with a cache ", kept), ("with a cache ", kept)]
        for number, (kind, place) in enumerate(places, 1):
            name = f"more-{number}"
            plain(home, name, range(30 * number, 30 * number + 30))
            for step, do in (("ingest", partial(ingest_small, name=name)), ("cut", cut_small)):
                counting.counts.clear()
                before = time.process_time()
                do(home, place)
                row[f"{step} {kind}CPU s"] = time.process_time() - before
                row[f"{step} {kind}GET"] = counting.counts["get"]
        rows.append({name: value for name, value in row.items() if "first" not in name})
        shutil.rmtree(root)
    return rows


def _take_in(home: Home, store: Store) -> None:
    digest, _ = take_in(home, store, "all")
    publish_batch(store, "all", digest, lock_of(home))


def _cut(home: Home, store: Store) -> None:
    snapshot = next_snapshot(store, home.description())
    assert snapshot is not None
    publish_snapshot(store, snapshot, lock_of(home))


def _split(home: Home, store: Store) -> None:
    split_snapshot(store, store.content("datasets/DS-1.0.0") or "")


def _look_again(home: Home, store: Store) -> None:
    assert next_snapshot(store, home.description()) is None


STEPS: dict[str, Callable[[Home, Store], None]] = {
    "ingest": _take_in,
    "cut": _cut,
    "split": _split,
    "nothing new": _look_again,
    "verify": lambda home, store: print(len(verify(store).damages), file=sys.stderr),
}


def _do(step: str, root: Path) -> None:
    """Do one step in this process, and print what it took."""
    home = Home(root)
    counting = Counting(open_store(home.url).backend)
    store = Store(counting)
    start, before = time.perf_counter(), time.process_time()
    STEPS[step](home, store)
    counts = counting.counts
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "cpu_seconds": time.process_time() - before,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "puts": counts["put"],
                "gets": counts["get"],
                "lists": counts["list"],
                "megabytes": counts["bytes"] / 1e6,
            }
        )
    )


def slopes(found: Sequence[Growth]) -> list[dict[str, object]]:
    """Return what a million more images cost, by a line through the two largest sizes."""
    rows = []
    for step in STEPS:
        of_step = sorted((g for g in found if g.step == step), key=lambda g: g.images)
        if len(of_step) < 2:
            continue
        small, large = of_step[-2:]
        more = (large.images - small.images) / 1e6
        row: dict[str, object] = {"step": step}
        for name in ("seconds", "cpu_seconds", "peak_mb", "puts", "gets", "megabytes"):
            row[name] = round((getattr(large, name) - getattr(small, name)) / more, 1)
        logs = np.log([[g.images, g.seconds] for g in of_step])
        row["exponent"] = round(float(np.polyfit(*logs.T, 1)[0]), 2)
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print tables, and write all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--work", type=Path, default=Path("/tmp/scale"))
    parser.add_argument("--images", type=int, default=20_000, help="of the delivery that is spread")
    parser.add_argument("--model", type=Path, help="a packed model's folder, to score with")
    parser.add_argument("--tiles", type=Path, help="the folder of images to score")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="of tiny images")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        _do(options.step, options.home)
        return
    from benchmarks.runtimes import print_table  # PyTorch's memory is none of a step's

    options.work.mkdir(parents=True, exist_ok=True)
    spread = spreading(options.images, options.model, options.tiles, options.work)
    print_table([asdict(row) for row in spread])
    grown = growth(options.sizes, options.work)
    print_table([asdict(row) for row in grown])
    print_table(slopes(grown))
    counted = batches((10, 100, 1_000), options.work)
    print_table(counted)
    figures = {
        "spreading": [asdict(row) for row in spread],
        "growth": [asdict(row) for row in grown],
        "slopes": slopes(grown),
        "batches": counted,
    }
    (options.work / "scale.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
