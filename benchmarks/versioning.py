"""Our versions of a dataset against DVC's and Oxen's: `python -m benchmarks.versioning --help`."""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.filesets import cached_delivery, extent, read_all
from benchmarks.peers import DESCRIPTION, Dvc, Figure, Ours, Oxen, Side, StepFailed, install

NEW = 10
"""Images in a small delivery, each with its mask."""
DVC_BEST = {"cache.type": "hardlink", "core.checksum_jobs": "2"}
DVC_REMOTE_BEST = {'remote "s3".jobs': "16"}
"""Pushes of 2,700 files to Ceph: 4.4 s with 16 or 32 jobs, 7 with its own 8, 10 with 4."""
DVC_CANDIDATES: list[dict[str, str]] = [
    {},
    {"core.checksum_jobs": "2"},
    {"cache.type": "hardlink"},
    {"cache.type": "hardlink", "core.checksum_jobs": "2"},
    {"cache.type": "hardlink", "core.checksum_jobs": "8"},
    {"cache.type": "symlink"},
]
TARGETS = {
    "ingest, cold": 8.0,
    "ingest, nothing changed": 4.0,
    "ingest, 10 new": 4.0,
    "diff, first": 10.0,
    "diff, again": 10.0,
    "push, cold": 20.0,
    "push, 10 new": 8.0,
    "clone with its files": 10.0,
}
"""How many times faster than DVC, at 100,000 files and more; with fewer, never slower."""
BIG = 100_000
SUMS = {
    "ingest and cut, cold": ("ingest, cold", "cut, cold"),
    "ingest and cut, 10 new": ("ingest, 10 new", "cut, 10 new"),
    "clone with its files": ("clone, cold", "checkout in the clone"),
}
"""Two processes of ours, which may be one, or two, of the others."""
LONG = 60.0
"""Seconds; what took longer is not repeated."""
MILLION = 1_000_000
DELIVERIES = 10


@dataclass
class Results:
    """All that was measured, by step and side, in the order of the steps."""

    figures: dict[str, dict[str, list[Figure]]] = field(default_factory=dict)

    def take(self, step: str, side: Side, run: Callable[[], Figure | None]) -> None:
        """Run a step of a side and keep what it took."""
        figure = run()
        if figure is None:
            return
        self.figures.setdefault(step, {}).setdefault(side.name, []).append(figure)
        mb, cpu = figure.peak_mb, figure.cpu_seconds
        _say(f"  {step:26} {side.name:13} {figure.seconds:8.2f} s {cpu:8.2f} s cpu {mb:6.0f} MB")

    def best(self, step: str, side: str) -> Figure | None:
        """Return a side's fastest run of a step, or the sum of two steps."""
        if step in SUMS:
            parts = [self.best(part, side) for part in SUMS[step]]
            found = [p for p in parts if p is not None]
            if not found or parts[0] is None:
                return None
            return Figure(
                sum(f.seconds for f in found),
                max(f.peak_mb for f in found),
                sum(f.cpu_seconds for f in found),
                "",
            )
        runs = self.figures.get(step, {}).get(side)
        return min(runs, key=lambda f: f.seconds) if runs else None


def compare(
    source: Path, small: list[Path], sides: list[Side], options: argparse.Namespace
) -> Results:
    """Take all sides through all steps, in turn."""
    results = Results()
    whole = extent(source)
    more = tuple(map(sum, zip(whole, extent(small[0]), strict=True)))
    remote = [s for s in sides if s.remote]

    def each(step: str, run: str, among: list[Side], *arguments: object, times: int = 1) -> None:
        for turn in range(times):
            for side in _in_turn(among, turn):
                method = getattr(side, run, None)
                known = results.best(step, side.name)
                if method is not None and (known is None or known.seconds < LONG):
                    results.take(step, side, lambda m=method: m(*arguments))

    for turn in range(options.rounds):
        for side in _in_turn(sides, turn):
            side.begin()
            side.deliver(source)
            time.sleep(1)  # older than the clock's grain: nobody has to look twice
            read_all(side.inbox)
            results.take("ingest, cold", side, side.ingest)
            results.take("cut, cold", side, lambda s=side: s.version(0))
    each("ingest, nothing changed", "ingest", sides, times=options.repeat)
    each("status", "status", sides, times=options.repeat)
    each("status, Oxen's import too", "status_imported", sides, times=options.repeat)
    if remote:
        each("push, cold", "push", remote)
        each("push, nothing new", "push", remote)
        each("push, nothing new, again", "push", remote, times=options.repeat)
        each("clone, cold", "clone", remote)
        each("checkout in the clone", "files_of_clone", remote, 0, whole)

    for number, delivery in enumerate(small, start=1):
        for side in sides:
            side.deliver(delivery)
        time.sleep(1)
        for side in _in_turn(sides, number):
            results.take("ingest, 10 new", side, side.ingest)
            results.take("cut, 10 new", side, lambda s=side, n=number: s.version(n))
        if number == 1:
            each("push, 10 new", "push", remote)
            each("pull, 10 new", "pull", remote)
    each("diff, first", "diff", sides, 0, 1)
    each("diff, again", "diff", sides, 0, 1, times=options.repeat)
    each("checkout, whole", "files_of", sides, 0, True, whole)
    for _ in range(options.repeat):
        each("checkout, neighbour", "files_of", sides, 1, False, more)
        each("checkout, neighbour back", "files_of", sides, 0, False, whole)
    return results


def table(results: Results, files: int) -> str:
    """Return the figures as a Markdown table; the ratio is to the faster of DVC's two."""
    lines = [
        "| step | ours s | DVC s | DVC best s | Oxen s | ratio | ours MB | DVC MB | target | met |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    steps = list(results.figures)
    for total, (first, second) in SUMS.items():
        if first in steps:
            steps.insert(steps.index(second) + 1 if second in steps else len(steps), total)
    for step in steps:
        ours, oxen = results.best(step, "ours"), results.best(step, "Oxen")
        dvc, dvc_best = results.best(step, "DVC"), results.best(step, "DVC best")
        peer = min((p for p in (dvc, dvc_best) if p), key=lambda f: f.seconds, default=None)
        ratio = peer.seconds / ours.seconds if peer and ours else None
        wanted = TARGETS.get(step, 0.0) if files >= BIG else float(peer is not None)
        target = f"≥ {wanted:g}×" if wanted else ""
        missed = ["time"] if ratio is not None and ratio < wanted else []
        if files >= BIG and ours and peer and ours.peak_mb > peer.peak_mb:
            missed.append("memory")
        if step == "status" and oxen:
            target = "≤ Oxen"
            missed += ["Oxen"] if ours and ours.seconds > oxen.seconds else []
        met = (
            "" if ours is None or peer is None else "no: " + ", ".join(missed) if missed else "yes"
        )
        cells = [
            step,
            *(_number(f and f.seconds, 2) for f in (ours, dvc, dvc_best, oxen)),
            f"{ratio:.1f}×" if ratio is not None else "",
            _number(ours and ours.peak_mb, 0),
            _number(peer and peer.peak_mb, 0),
            target,
            met if ours and peer else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def million(work: Path, program: Path, images: int) -> Results:
    """Take in a million tiny images, then ten more; ours alone."""
    results = Results()
    ours = Ours(program, work / f"{images}", _environment())
    home = work / f"{images}" / "home"
    for path in home.glob("*") if home.is_dir() else ():
        if path != ours.inbox:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    ours.inbox.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(DESCRIPTION, home / "dataset.yaml")
    shutil.rmtree(ours.inbox / "late", ignore_errors=True)
    each = images // DELIVERIES
    for number in range(DELIVERIES):
        start = time.perf_counter()
        counts = cached_delivery(
            ours.inbox / f"delivery-{number:02d}", number * each, each, tiny=True
        )
        _say(f"delivery {number}: {counts}, {time.perf_counter() - start:.0f} s to make or find")
    results.take("ingest, cold", ours, ours.ingest)
    results.take("cut, cold", ours, lambda: ours.version(0))
    cached_delivery(ours.inbox / "late", each * DELIVERIES, NEW, tiny=True)
    results.take("ingest, 10 new", ours, lambda: ours.ingest("late"))
    results.take("cut, 10 new", ours, lambda: ours.version(1))
    results.take("ingest, nothing changed", ours, ours.ingest)
    for _ in range(3):
        results.take("diff, again", ours, lambda: ours.diff(0, 1))
    both, diff = results.best("ingest and cut, 10 new", "ours"), results.best("diff, again", "ours")
    assert both is not None
    assert diff is not None
    for what, value, limit, unit in [
        ("ingest and cut of 10", both.seconds, 3, "s"),
        ("its memory", both.peak_mb, 500, "MB"),
        ("diff", diff.seconds, 1, "s"),
    ]:
        met = "yes" if value < limit else "no"
        _say(f"{what}: {value:.2f} {unit}, target < {limit} {unit}, met: {met}")
    return results


def tune(work: Path, source: Path, python: Path, rounds: int) -> None:
    """Print what `dvc add` takes, cold and again, in each of the settings known to matter."""
    for turn in range(rounds):
        for settings in DVC_CANDIDATES[:: -1 if turn % 2 else 1]:
            side = Dvc(str(settings), python, work / "tune", _environment(), settings)
            side.begin()
            side.deliver(source)
            read_all(side.inbox)
            cold, again = side.ingest(), side.ingest()
            _say(f"{settings}: cold {cold.seconds:.2f} s, {cold.peak_mb:.0f} MB; ", end="")
            _say(f"nothing changed {again.seconds:.2f} s")
            side.remove()


def main() -> None:
    """Measure, print a table for each size, and write every figure to the work folder."""
    options = _options()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    dvc, dvc_version = install(work, "dvc", "dvc[s3]")
    oxen, oxen_version = install(work, "oxen", "oxenai")
    versions = f"{dvc_version}, {oxen_version}, Python {platform.python_version()}"
    _say(f"{versions}, {os.cpu_count()} cores; work folder {work}")
    if options.tune:
        for files in options.files:
            tune(work, _file_set(work, files), dvc, options.rounds)
        return
    report: dict[str, object] = {
        "versions": versions,
        "cores": os.cpu_count(),
        "dvc_best": DVC_BEST | DVC_REMOTE_BEST,
        "rounds": options.rounds,
        "repeat": options.repeat,
    }
    name = time.strftime("results-%Y%m%d-%H%M%S.json")
    with ExitStack() as stack:
        url, server = stack.enter_context(_s3(options, work))
        report["s3"] = server
        _say(f"S3: {server}")
        for files in options.files:
            source = _file_set(work, files)
            samples = files // 2
            small = []
            for i in range(options.rounds):
                small.append(work / "files" / f"{files}-and-{i + 1}")
                cached_delivery(small[-1], samples + i * NEW, NEW)
            run = f"{url}/{name}/{files}" if url else ""
            sides = _sides(options, work / "sides", dvc, oxen, run)
            try:
                results = compare(source, small, sides, options)
            finally:
                if not options.keep:
                    shutil.rmtree(work / "sides", ignore_errors=True)
            report[str(files)] = _raw(results)
            (work / name).write_text(json.dumps(report, indent=1))
            _say(f"\n{files:,} files\n\n{table(results, files)}\n")
        if options.million:
            report["million"] = _raw(million(work, options.ours, options.million))
    (work / name).write_text(json.dumps(report, indent=1))
    _say(f"every figure: {work / name}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="*", default=[2_700, 20_000, BIG])
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "defect-assets-benchmark"
    )
    parser.add_argument("--ours", type=Path, default=Path(sys.executable).parent / "defect-assets")
    parser.add_argument("--sides", nargs="+", default=["ours", "dvc", "dvc-best", "oxen"])
    parser.add_argument("--rounds", type=int, default=1, help="of the cold steps and the 10 new")
    parser.add_argument("--repeat", type=int, default=3, help="of what can be repeated")
    parser.add_argument("--s3", metavar="s3://…", help="with the AWS environment's credentials")
    parser.add_argument("--s3-endpoint", metavar="URL")
    parser.add_argument("--ceph", action="store_true", help="start Ceph's S3, not moto's")
    parser.add_argument("--no-s3", action="store_true", help="leave S3 out")
    parser.add_argument(
        "--million", type=int, nargs="?", const=MILLION, metavar="IMAGES", help="… of ours alone"
    )
    parser.add_argument("--tune", action="store_true", help="only try DVC's settings")
    parser.add_argument("--keep", action="store_true", help="leave the repositories there")
    options = parser.parse_args()
    options.ours = options.ours.absolute()
    return options


def _sides(options: argparse.Namespace, root: Path, dvc: Path, oxen: Path, url: str) -> list[Side]:
    environment = _environment()
    # Where DVC caches makes no difference to S3, and its pushes are long: one of the two does them.
    theirs = f"{url}/dvc" if url else ""
    best = DVC_BEST | (DVC_REMOTE_BEST if url else {})
    known: dict[str, Side] = {
        "ours": Ours(options.ours, root / "ours", environment, f"{url}/ours" if url else ""),
        "dvc": Dvc("DVC", dvc, root / "dvc", environment, {}),
        "dvc-best": Dvc("DVC best", dvc, root / "dvc-best", environment, best, theirs),
        "oxen": Oxen(oxen, root / "oxen", environment),
    }
    return [known[name] for name in options.sides]


@contextmanager
def _s3(options: argparse.Namespace, work: Path) -> Iterator[tuple[str, str]]:
    """Yield where to push, and what serves it; the environment says the rest."""
    if options.no_s3 or not options.files:
        yield "", "none"
    elif options.s3:
        if options.s3_endpoint:
            os.environ["AWS_ENDPOINT_URL"] = options.s3_endpoint
        yield options.s3.rstrip("/"), f"{options.s3} at {os.environ.get('AWS_ENDPOINT_URL', 'AWS')}"
    else:
        from tests.servers.s3 import ceph_server, moto_server

        shutil.rmtree(work / "ceph", ignore_errors=True)
        with ceph_server(work / "ceph") if options.ceph else moto_server() as server:
            os.environ.update(server.environment())
            server.make_bucket("benchmark")
            kind = "Ceph's radosgw" if options.ceph else "moto's server: slow, for a first look"
            yield "s3://benchmark", f"{kind}, on this machine"
        shutil.rmtree(work / "ceph", ignore_errors=True)


def _environment() -> dict[str, str]:
    # Ceph 16 does not know the checksums that botocore sends by default.
    checksums = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
    return os.environ | dict.fromkeys(checksums, "when_required")


def _file_set(work: Path, files: int) -> Path:
    folder = work / "files" / f"{files}"
    counts = cached_delivery(folder, 0, files // 2)
    _say(f"{files:,} files, {counts['bytes'] / 1e6:.0f} MB: {folder}")
    return folder


def _in_turn(sides: list[Side], turn: int) -> list[Side]:
    first = turn % len(sides) if sides else 0
    return sides[first:] + sides[:first]


def _raw(results: Results) -> dict[str, object]:
    return {
        step: {
            side: [{k: v for k, v in asdict(f).items() if k != "output"} for f in runs]
            for side, runs in by_side.items()
        }
        for step, by_side in results.figures.items()
    }


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


if __name__ == "__main__":
    try:
        main()
    except StepFailed as error:
        sys.exit(str(error))
