"""The service against the bare network, a FastAPI app and LitServe: `… serving --help`."""

import argparse
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from PIL import Image

from benchmarks.peers import PROJECT, StepFailed, install, measure
from defect_assets.home import Home
from defect_assets.registry.packaging import NAME
from defect_assets.registry.release.releases import releases

FASTAPI = "fastapi==0.165.0"
LITSERVE = "litserve==0.2.19"
SHARED = (
    "torch",
    "torchvision",
    "segmentation-models-pytorch",
    "safetensors",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "pydantic",
    "uvicorn",
    "httptools",
    "uvloop",
    "python-multipart",
)
"""What the peers' environments have in our versions, so that the server is what differs."""
RUNTIMES = ("openvino", "onnxruntime")
"""And these, for the peer that runs our detector."""
WIDTH, HEIGHT = 640, 512
CPU_OF_REFERENCE = 0.35
"""How much of the reference-like app's CPU time a request of ours may take."""
CPU_OF_BARE = 1.25
"""And of the fastest runtime's bare network."""


@dataclass(frozen=True)
class Load:
    """What one side did under one load."""

    concurrency: int
    per_second: float
    cpu_ms: float
    """Of all of the server's processes, for one request."""
    p50_ms: float
    p99_ms: float
    reply_bytes: float
    failures: int


@dataclass(frozen=True)
class Server:
    """How a side is started."""

    name: str
    command: list[str]
    environment: dict[str, str]
    ready: str

    @contextmanager
    def running(self, port: int, work: Path) -> Iterator[psutil.Process]:
        """Start it, wait until it is ready, and end it with all of its processes."""
        log = work / f"{self.name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                self.command,
                cwd=PROJECT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _await(f"http://127.0.0.1:{port}{self.ready}", process, log)
            yield psutil.Process(process.pid)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def _await(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            urllib.request.urlopen(address, timeout=2).close()
            return
        time.sleep(0.5)
    raise StepFailed(f"{address} does not answer:\n{log.read_text()[-2000:]}")


def load(server: psutil.Process, url: str, images: Path, clients: int, seconds: float) -> Load:
    """Ask for some seconds, and say what the server's processes took for it."""
    before = _cpu_seconds(server)
    command = [sys.executable, "-m", "benchmarks.servers.load", url, images, clients, seconds]
    done = subprocess.run(
        list(map(str, command)), cwd=PROJECT, capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    cpu = _cpu_seconds(server) - before
    latencies = sorted(said["latencies"])
    if not latencies:
        raise StepFailed(f"{url} answered nothing: {said['failures'][:3]}")
    return Load(
        concurrency=clients,
        per_second=len(latencies) / said["seconds"],
        cpu_ms=1000 * cpu / len(latencies),
        p50_ms=1000 * statistics.median(latencies),
        p99_ms=1000 * latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))],
        reply_bytes=statistics.mean(said["sizes"]),
        failures=len(said["failures"]),
    )


def _cpu_seconds(server: psutil.Process) -> float:
    total = 0.0
    for process in [server, *server.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def write_images(tiles: Path, folder: Path, count: int) -> None:
    """Write tiles in the camera's size, as JPEGs."""
    sources = sorted(p for p in tiles.rglob("*.jpg"))
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources[:: max(1, len(sources) // count)][:count]:
        with Image.open(source) as image:
            buffer = io.BytesIO()
            image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        (folder / source.name).write_bytes(buffer.getvalue())


def bare(bundle: Path, images: Path, runtimes: list[str], seconds: float) -> list[dict]:
    """Return what the network alone takes, by runtime; one that is not to be had is left out."""
    found = []
    for runtime in runtimes:
        command = [sys.executable, "-m", "benchmarks.servers.bare"]
        try:
            figure = measure(
                [*command, bundle, images, str(seconds), runtime, "1"], PROJECT, _environment()
            )
        except StepFailed as error:
            print(f"  {runtime}: {str(error).splitlines()[-1]}", flush=True)
            continue
        found.append(json.loads(figure.output.splitlines()[-1]))
        print(f"  {found[-1]}", flush=True)
    return found


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_WAIT_POLICY": "PASSIVE", **more}


def table(sides: dict[str, list[Load]]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| side | clients | requests/s | CPU-ms a request | p50 ms | p99 ms | bytes a reply "
        "| failures |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, loads in sides.items():
        for one in loads:
            lines.append(
                f"| {name} | {one.concurrency} | {one.per_second:.1f} | {one.cpu_ms:.1f} "
                f"| {one.p50_ms:.1f} | {one.p99_ms:.1f} | {one.reply_bytes:,.0f} "
                f"| {one.failures} |"
            )
    return "\n".join(lines)


def verdicts(sides: dict[str, list[Load]], limits: list[dict]) -> str:
    """Return which of the targets are met, as a Markdown table."""
    ours = {one.concurrency: one for one in sides["ours"]}
    peers = {
        name: {one.concurrency: one for one in loads}
        for name, loads in sides.items()
        if name != "ours"
    }
    lines = ["| target | clients | ours | against | met |", "|---|---|---|---|---|"]

    def line(what: str, clients: int, value: float, against: float, factor: float) -> None:
        met = "yes" if value <= factor * against else "no"
        lines.append(
            f"| {what} | {clients} | {value:.1f} | {against:.1f}, {value / against:.2f}× | {met} |"
        )

    fastest = min((limit["cpu_ms"] for limit in limits), default=None)
    for clients, one in ours.items():
        if "fastapi" in peers:
            reference = peers["fastapi"][clients].cpu_ms
            line(
                f"CPU-ms ≤ {CPU_OF_REFERENCE} × the FastAPI app's",
                clients,
                one.cpu_ms,
                reference,
                CPU_OF_REFERENCE,
            )
        if fastest:
            line(
                f"CPU-ms ≤ {CPU_OF_BARE} × the fastest bare network's",
                clients,
                one.cpu_ms,
                fastest,
                CPU_OF_BARE,
            )
        if peers:
            best = max(loads[clients].per_second for loads in peers.values())
            met = "yes" if one.per_second >= best else "no"
            lines.append(
                f"| requests/s ≥ every peer's | {clients} | {one.per_second:.1f} "
                f"| {best:.1f} | {met} |"
            )
            if clients == 8:
                quickest = min(loads[clients].p99_ms for loads in peers.values())
                line("p99 ms ≤ every peer's", clients, one.p99_ms, quickest, 1)
    return "\n".join(lines)


def main() -> None:
    """Serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="with a release and its bento")
    parser.add_argument("--tiles", type=Path, help="JPEGs; by default those in the home's inbox")
    parser.add_argument("--runtime", default="auto", help="ours and LitServe's")
    parser.add_argument(
        "--sides", nargs="+", default=["ours", "fastapi", "litserve"], help="who serves"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=15, help="of each load")
    parser.add_argument("--rounds", type=int, default=2, help="the one of least CPU time counts")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--port", type=int, default=28_700)
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "defect-assets-serving"
    )
    parser.add_argument("--json", type=Path, help="where every figure goes")
    options = parser.parse_args()

    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    home = Home(options.home.resolve())
    released = releases(home.store())[-1]
    bundle = home.bentoml / "models" / NAME / released.id
    images = work / f"images-{released.id}-{options.images}"
    write_images(options.tiles or home.inbox, images, options.images)

    same = [f"{name}=={version(name).partition('+')[0]}" for name in SHARED]
    runtimes = [f"{name}=={version(name)}" for name in RUNTIMES]
    port, environment = options.port, _environment(BUNDLE=str(bundle), RUNTIME=options.runtime)
    servers = []
    if "ours" in options.sides:
        bentoml = str(Path(sys.executable).with_name("bentoml"))
        ours = environment | home.environment() | {"DETECTOR_RUNTIME": options.runtime}
        serve = [bentoml, "serve", f"{NAME}:{released.id}", "--port", str(port)]
        servers.append(Server("ours", serve, ours, "/readyz"))
    if "fastapi" in options.sides:
        python, which = install(work, "fastapi", FASTAPI, *same)
        print(which)
        app = ["-m", "uvicorn", "benchmarks.servers.reference:app", "--port", str(port)]
        servers.append(
            Server("fastapi", [str(python), *app, "--no-access-log"], environment, "/ready")
        )
    if "litserve" in options.sides:
        python, which = install(work, "litserve", LITSERVE, *same, *runtimes)
        print(which)
        app = ["-m", "benchmarks.servers.with_litserve"]
        litserve = environment | {"PORT": str(port)}
        servers.append(Server("litserve", [str(python), *app], litserve, "/health"))

    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print("\nthe network alone")
    limits = bare(bundle, images, ["torch", "openvino", "onnx"], options.seconds)
    sides: dict[str, list[Load]] = {server.name: [] for server in servers}
    url = f"http://127.0.0.1:{port}/analyze"
    for turn in range(options.rounds):
        for server in servers[turn % len(servers) :] + servers[: turn % len(servers)]:
            with server.running(port, work) as process:
                load(process, url, images, 4, 3)  # warm
                for clients in options.clients:
                    one = load(process, url, images, clients, options.seconds)
                    sides[server.name].append(one)
                    print(f"  {server.name}: {one}", flush=True)
    best = {
        name: [
            min((one for one in loads if one.concurrency == n), key=lambda one: one.cpu_ms)
            for n in options.clients
        ]
        for name, loads in sides.items()
    }
    print(f"\n{table(best)}\n")
    if "ours" in best:
        print(verdicts(best, limits))
    print(f"\nload of the machine after: {os.getloadavg()[0]:.1f}")
    path = options.json or work / time.strftime("serving-%Y%m%d-%H%M%S.json")
    report = {"release": released.id, "bare": limits, "load": os.getloadavg()}
    report |= {name: [asdict(one) for one in loads] for name, loads in sides.items()}
    path.write_text(json.dumps(report, indent=1))
    print(f"every figure: {path}")


if __name__ == "__main__":
    main()
