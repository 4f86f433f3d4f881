"""How fast Python's S3 clients are: obstore and boto3 in threads, and s3fs.

    python benchmarks/s3_clients.py [--ceph] [--clients obstore boto3 s3fs] [--rounds 3]

Each client runs in a process of its own against a server on this machine, in turn, and of the
rounds the best is shown. s3fs, which the project does not depend on, comes from PyPI by `uv run`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
BUCKET = "bench"
THREADS = 16
SMALL = [(f"small/{i:05d}", os.urandom(10_000)) for i in range(2_000)]
LARGE_BYTES = 32 * 2**20
LARGE = [f"large/{i:02d}" for i in range(20)]
LARGE_AT_ONCE = 4  # memory: a few times 32 MB each
RANGES = [(LARGE[i % len(LARGE)], i * 150_000) for i in range(200)]
RANGE_BYTES = 10_000

# A pinned floor: without one, uv may resolve an s3fs of 2021, older than its botocore's pins.
S3FS = ["s3fs>=2025.1", "fsspec>=2025.1"]


def in_threads(do: Callable, work: Iterable, threads: int = THREADS) -> list:
    """What `do` returned for each, in order."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(do, work))


class Threaded:
    """A client of one request a call, called in threads."""

    def put(self, item: tuple[str, bytes]) -> None:
        raise NotImplementedError

    def get(self, key: str) -> int:
        raise NotImplementedError

    def get_range(self, where: tuple[str, int]) -> int:
        raise NotImplementedError

    def put_many(self, items: list, at_once: int) -> None:
        in_threads(self.put, items, at_once)

    def get_many(self, keys: list[str], at_once: int) -> list[int]:
        return in_threads(self.get, keys, at_once)

    def get_ranges(self, ranges: list) -> list[int]:
        return in_threads(self.get_range, ranges)


class Obstore(Threaded):
    """By its synchronous calls."""

    def __init__(self) -> None:
        import obstore
        from obstore.store import S3Store

        self.obstore = obstore
        self.store = S3Store(BUCKET)  # all the rest is in the environment

    def put(self, item: tuple[str, bytes]) -> None:
        # As one request, as the others do: the multipart uploads that obstore would make are
        # no conditional puts.
        self.obstore.put(self.store, *item, use_multipart=False)

    def get(self, key: str) -> int:
        return len(self.obstore.get(self.store, key).bytes())

    def get_range(self, where: tuple[str, int]) -> int:
        key, start = where
        return len(self.obstore.get_range(self.store, key, start=start, length=RANGE_BYTES))


class Boto3(Threaded):
    """By one client, which its threads share."""

    def __init__(self) -> None:
        import boto3
        from botocore.config import Config

        # Ceph 16 does not know the checksums that boto3 sends by default, obstore sends none.
        self.client = boto3.client(
            "s3",
            config=Config(
                max_pool_connections=THREADS,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def put(self, item: tuple[str, bytes]) -> None:
        self.client.put_object(Bucket=BUCKET, Key=item[0], Body=item[1])

    def get(self, key: str) -> int:
        return len(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def get_range(self, where: tuple[str, int]) -> int:
        key, start = where
        wanted = f"bytes={start}-{start + RANGE_BYTES - 1}"
        return len(self.client.get_object(Bucket=BUCKET, Key=key, Range=wanted)["Body"].read())


class S3fs:
    """By its bulk calls, which are its way of doing many things at once."""

    def __init__(self) -> None:
        import s3fs

        checksums = dict.fromkeys(
            ["request_checksum_calculation", "response_checksum_validation"], "when_required"
        )
        self.files = s3fs.S3FileSystem(
            endpoint_url=os.environ["AWS_ENDPOINT_URL"],
            config_kwargs={"max_pool_connections": THREADS, **checksums},
            skip_instance_cache=True,
        )

    def put_many(self, items: list, at_once: int) -> None:
        self.files.pipe({f"{BUCKET}/{key}": data for key, data in items}, batch_size=at_once)

    def get_many(self, keys: list[str], at_once: int) -> list[int]:
        paths = [f"{BUCKET}/{key}" for key in keys]
        return [len(data) for data in self.files.cat(paths, batch_size=at_once).values()]

    def get_ranges(self, ranges: list) -> list[int]:
        paths = [f"{BUCKET}/{key}" for key, _ in ranges]
        starts = [start for _, start in ranges]
        ends = [start + RANGE_BYTES for start in starts]
        # Gaps are not to be read along: the requests are what is compared.
        got = self.files.cat_ranges(paths, starts, ends, batch_size=THREADS, max_gap=None)
        return [len(data) for data in got]


CLIENTS: dict[str, type[Threaded | S3fs]] = {"obstore": Obstore, "boto3": Boto3, "s3fs": S3fs}


def measure(name: str) -> dict[str, float]:
    """Seconds of each task. Every reply is checked for its length."""
    client = CLIENTS[name]()
    seconds: dict[str, float] = {}

    def timed(task: str, do: Callable[[], list[int] | None], expected: list[int] | None) -> None:
        before = time.perf_counter()
        got = do()
        seconds[task] = time.perf_counter() - before
        assert got == expected, f"{name}: {task}"

    keys = [key for key, _ in SMALL]
    large = os.urandom(LARGE_BYTES)
    client.put_many([("warm-up", b"")], 1)  # the first request makes pools and credentials
    timed("put 2,000 x 10 KB", lambda: client.put_many(SMALL, THREADS), None)
    timed("get 2,000 x 10 KB", lambda: client.get_many(keys, THREADS), [10_000] * len(keys))
    uploads = [(key, large) for key in LARGE]
    timed("put 20 x 32 MB", lambda: client.put_many(uploads, LARGE_AT_ONCE), None)
    sizes = [LARGE_BYTES] * len(LARGE)
    timed("get 20 x 32 MB", lambda: client.get_many(LARGE, LARGE_AT_ONCE), sizes)
    ranges = [RANGE_BYTES] * len(RANGES)
    timed("get 200 ranges of 10 KB", lambda: client.get_ranges(RANGES), ranges)
    return seconds


def measure_in_process(name: str, environment: dict[str, str]) -> dict[str, float]:
    """`measure` in a fresh process, as the first client's threads are not the second's affair."""
    python = [sys.executable]
    if name == "s3fs":
        import uv

        wanted = [argument for package in S3FS for argument in ("--with", package)]
        python = [uv.find_uv_bin(), "run", "--quiet", "--no-project", "--python", sys.executable]
        python += [*wanted, "python"]
    done = subprocess.run(
        [*python, str(Path(__file__).resolve()), "--measure", name],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure all clients and print the table."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    asked.add_argument("--ceph", action="store_true", help="Ceph's radosgw in place of moto")
    asked.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    asked.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    asked.add_argument("--measure", choices=CLIENTS, help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return

    sys.path.insert(0, str(PROJECT))
    from tests.servers.s3 import Unavailable, ceph_server, moto_server

    best: dict[str, dict[str, float]] = {name: {} for name in options.clients}
    with ExitStack() as stack:
        try:
            if options.ceph:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                server = stack.enter_context(ceph_server(Path(folder)))
            else:
                server = stack.enter_context(moto_server())
        except Unavailable as reason:
            sys.exit(str(reason))
        server.make_bucket(BUCKET)
        for _ in range(options.rounds):
            for name in options.clients:
                for task, took in measure_in_process(name, server.environment()).items():
                    best[name][task] = min(took, best[name].get(task, took))

    first = options.clients[0]
    print(f"Seconds against {'Ceph' if options.ceph else 'moto'}; in brackets, of {first}'s:\n")
    print(f"{'':24}" + "".join(f"{name:>18}" for name in options.clients))
    for task, base in best[first].items():
        cells = [f"{best[name][task]:8.2f} ({best[name][task] / base:5.2f}x)" for name in best]
        print(f"{task:24}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
