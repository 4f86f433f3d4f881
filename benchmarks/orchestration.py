"""What it costs to find that nothing need be done, and how soon a delivery is asked for.

    .venv/bin/python -m benchmarks.orchestration [--partitions 10 100 1000 10000] [--repeat 5]

1. `repro` of the whole graph against `dvc repro` of a pipeline of five stages over the same images,
   both with nothing to do.
2. The same against the number of batches, and some hundred snapshots of them.
3. The time from a delivery's marker to the request for its ingest, by the sensor `new_images`:
   what a tick takes and when it comes; and observed, with the real daemon and code server.

DVC comes from PyPI into an environment of its own. See orchestration.md.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from benchmarks.peers import PROJECT, Figure, StepFailed, install, measure
from defect_assets.dataset.batch import REF as BATCHES
from defect_assets.dataset.batch import Batch, BatchPin, read_batch
from defect_assets.dataset.snapshot import REF as DATASETS
from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.home import Home
from defect_assets.store import Record, Store
from tests.checkouts import commit_all, git
from tests.end_to_end.conftest import SHIPPED, Checkout
from tests.experiments import new_home
from tests.servers.dagster import dagster_servers
from tests.small import cut, home_of, ingest, plain

DVC = "dvc"
STAGES = ("ingest", "cut", "split", "train", "evaluate")
SNAPSHOTS = 300
"""At most as many as there are batches."""
ARRIVALS = 12
"""Deliveries whose wait is observed."""


def main() -> None:
    """Measure all, print it, and leave it in the folder as JSON."""
    options = _options()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, object] = {"machine": f"{os.cpu_count()} CPUs", "repeat": options.repeat}
    found["no-op"] = against_dvc(work, options.repeat)
    found["partitions"] = [partitions(work, n, options.repeat) for n in options.partitions]
    found["marker to request"] = marker_to_request(work, options.repeat)
    found["marker to request, observed"] = observed(work)
    (work / "orchestration.json").write_text(json.dumps(found, indent=2))
    print(f"\n{work / 'orchestration.json'}")


def against_dvc(work: Path, repeat: int) -> dict[str, object]:
    """Measure both with nothing to do, in turn."""
    root = work / "ours"
    checkout = _checkout(root)
    ours = {**os.environ, "PYTHONPATH": str(checkout), "DEFECT_HOME": str(root / "home")}
    ours |= {"OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "defect_assets"]
    _say("ours: the whole road once, with a small network")
    if not (root / "home").exists():
        measure([*command, "import", "synthetic", "--tiles", "60"], checkout, ours)
        measure([*command, "repro"], checkout, ours)
    python, version = install(work, "dvc", DVC)
    theirs = {**os.environ, "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    repository = _pipeline(work / "dvc", root / "home" / "inbox", python, theirs)
    sides = {
        "repro": ([*command, "repro"], checkout, ours),
        "repro --dry-run": ([*command, "repro", "--dry-run"], checkout, ours),
        "dvc repro": ([python, "-m", "dvc", "repro"], repository, theirs),
    }
    figures: dict[str, list[Figure]] = {name: [] for name in sides}
    for _ in range(repeat):
        for name, step in sides.items():
            figures[name].append(measure(*step))
    for name, said in {"repro": "All is up to date", "dvc repro": "up to date"}.items():
        if said not in figures[name][-1].output:
            raise StepFailed(f"{name} had something to do:\n{figures[name][-1].output}")
    print(f"\nNothing to do ({version}, five stages), median of {repeat}:\n")
    print("| | wall s | CPU s | peak MB |\n|---|---|---|---|")
    for name, runs in figures.items():
        wall, cpu, peak = (_median(runs, k) for k in ("seconds", "cpu_seconds", "peak_mb"))
        print(f"| `{name}` | {wall:.2f} | {cpu:.2f} | {peak:.0f} |")
    ratios = {
        kind: _median(figures["repro"], kind) / _median(figures["dvc repro"], kind)
        for kind in ("seconds", "cpu_seconds")
    }
    wall_ratio, cpu_ratio = ratios["seconds"], ratios["cpu_seconds"]
    print(f"| ratio of the first to the last | **{wall_ratio:.2f}** | **{cpu_ratio:.2f}** | |")
    raw = {
        name: [{k: v for k, v in asdict(f).items() if k != "output"} for f in runs]
        for name, runs in figures.items()
    }
    return {"dvc": version, "figures": raw, "ratios": ratios}


def partitions(work: Path, count: int, repeat: int) -> dict[str, float]:
    """Measure how long it takes to see that nothing is to be done for so many batches."""
    root = work / f"batches-{count}"
    shutil.rmtree(root, ignore_errors=True)
    home = _many(root, count)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "DEFECT_HOME": str(home.root)}
    command = [sys.executable, "-m", "defect_assets", "repro", "dataset_split"]
    told = measure(command, PROJECT, environment)  # Dagster hears of them here
    quick, look, dagster = [], [], []
    for _ in range(repeat):
        (home.dagster / "settled.json").unlink(missing_ok=True)
        dagster.append(measure(command, PROJECT, environment))
        quick.append(measure(command, PROJECT, environment))
        look.append(measure([*command, "--dry-run"], PROJECT, environment))
    row = {"batches": count, "snapshots": min(SNAPSHOTS, count), "told s": told.seconds}
    for name, runs in (("no-op", quick), ("dry run", look), ("by Dagster", dagster)):
        row |= {
            f"{name} s": _median(runs, "seconds"),
            f"{name} CPU s": _median(runs, "cpu_seconds"),
        }
    titles = list(row)
    if not _shown:
        print(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    _shown.append(count)
    cells = [str(int(v)) if float(v).is_integer() else f"{v:.2f}" for v in row.values()]
    print(f"| {' | '.join(cells)} |", flush=True)
    shutil.rmtree(root)
    return row


_shown: list[int] = []


def marker_to_request(work: Path, repeat: int) -> dict[str, float]:
    """Measure how long one tick of the sensor takes, and when it comes."""
    import dagster as dg
    from dagster_aws.s3 import S3Resource

    from defect_assets.automation.deliveries import new_images
    from defect_assets.resources import HomeResource
    from definitions import defs

    root = work / "sensor"
    shutil.rmtree(root, ignore_errors=True)
    home = new_home(root)
    home.prepare()
    os.environ.update(home.environment())
    seconds = []
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey("python_environment")]
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        job.execute_in_process(instance=instance, asset_selection=keys, run_config=quiet)
        for turn in range(repeat):
            plain(home, f"delivery-{turn}", range(turn * 30, turn * 30 + 30))
            start = time.perf_counter()
            with dg.build_sensor_context(
                instance=instance, resources={"home": HomeResource(s3=S3Resource())}
            ) as context:
                result = new_images(context)
            seconds.append(time.perf_counter() - start)
            asked = [r.partition_key for r in getattr(result, "run_requests", None) or ()]
            if f"delivery-{turn}" not in asked:
                raise StepFailed(f"the sensor did not ask for the delivery: {result}")
    tick, interval = statistics.median(seconds), new_images.minimum_interval_seconds or 30
    most = interval + tick
    print("\nFrom a delivery's marker to the request for its ingest:\n")
    print(f"a tick takes {tick:.2f} s, and comes every {interval} s: at most {most:.1f} s")
    return {"tick s": tick, "interval s": interval, "at most s": most}


def observed(work: Path) -> dict[str, float]:
    """Measure how long deliveries wait until Dagster's instance has the run that takes them in."""
    import dagster as dg

    from defect_assets.automation.changes import UNDER_WAY
    from defect_assets.automation.deliveries import new_images

    root = work / "observed"
    shutil.rmtree(root, ignore_errors=True)
    checkout = Checkout(_checkout(root))
    home, outside = home_of(checkout.home), home_of(root / "outside")
    rng = random.Random(0)
    seconds = []
    with (
        dagster_servers(checkout) as servers,
        dg.DagsterInstance.from_config(str(home.dagster)) as instance,
    ):
        servers.switch_on(new_images.name)
        servers.start_daemon()
        for turn in range(ARRIVALS + 1):
            name = f"delivery-{turn:02}"
            plain(outside, name, range(turn * 30, turn * 30 + 30))
            (outside.inbox / name).rename(home.inbox / name)
            start = time.perf_counter()
            own = dg.RunsFilter(tags={"dagster/partition": name})
            while not instance.get_runs_count(own):
                time.sleep(0.05)
            seconds.append(time.perf_counter() - start)
            while instance.get_runs_count(dg.RunsFilter(statuses=UNDER_WAY)):
                time.sleep(0.5)
            time.sleep(rng.uniform(0, new_images.minimum_interval_seconds or 30))
    del seconds[0]  # it waited for the servers' start, and for the environment's record
    least, median, most = min(seconds), statistics.median(seconds), max(seconds)
    print(f"observed, {ARRIVALS} times: {least:.1f} s, median {median:.1f} s, {most:.1f} s at most")
    return {"min s": least, "median s": median, "max s": most}


def _checkout(root: Path) -> Path:
    """Return a committed copy of this checkout, with a small network and one gate."""
    checkout = root / "checkout"
    if checkout.exists():
        return checkout
    for name in SHIPPED:
        source = PROJECT / name
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (checkout / "configs" / "gates.yaml").write_text(yaml.safe_dump({"no_leaks": True}))
    path = checkout / "configs" / "C-01.yaml"
    small = {
        "steps": 60,
        "input": {"height": 64, "width": 64},
        "architecture": {"widths": [8, 16, 32]},
    }
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | small))
    commit_all(checkout)
    return checkout


def _pipeline(root: Path, inbox: Path, python: Path, environment: dict[str, str]) -> Path:
    """Return a repository with a pipeline of the same shape, brought up to date once."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    git(root, "init", "--quiet")
    run = [python, "-m", "dvc"]
    measure([*run, "init", "--quiet"], root, environment)
    measure([*run, "config", "core.analytics", "false"], root, environment)
    measure([*run, "config", "core.check_update", "false"], root, environment)
    shutil.copytree(inbox, root / "inbox")
    (root / "params.yaml").write_text(yaml.safe_dump({"steps": 60, "learning_rate": 0.003}))
    # What a stage computes does not matter where none is run.
    (root / "stage.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "Path(sys.argv[2]).write_text(str(sorted(map(str, Path(sys.argv[1]).rglob('*')))))\n"
    )
    stages, before = {}, "inbox"
    for name in STAGES:
        out = f"{name}.txt"
        stages[name] = {
            "cmd": f"{python} stage.py {before} {out}",
            "deps": [before, "stage.py"],
            "outs": [out],
            **({"params": ["steps", "learning_rate"]} if name == "train" else {}),
        }
        before = out
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    measure([*run, "repro"], root, environment)
    return root


def _many(root: Path, count: int) -> Home:
    """Return a home of so many batches, each with the same thirty images, and of snapshots."""
    home = new_home(root)
    home.prepare()
    store = home.store()
    plain(home, "b00000", range(30))
    ingest(home, store, "b00000")
    cut(home, store)
    first = store.record(f"{BATCHES}b00000")
    dataset = store.record(f"{DATASETS}DS-1.0.0")
    assert first is not None
    assert dataset is not None
    batch = read_batch(store, first.content)
    pins = [BatchPin(id="b00000", digest=first.content)]
    pins += [_batch(store, first, batch, number) for number in range(1, count)]
    _, snapshot = find_snapshot(store, "DS-1.0.0")
    versions = min(SNAPSHOTS, count)
    for minor in range(1, versions):
        # The newest pins all there is; the ones before need not, to be looked at.
        held = pins if minor == versions - 1 else pins[:1]
        name = f"DS-1.{minor}.0"
        header = snapshot.model_copy(update={"id": name, "batches": tuple(held)})
        content = store.objects.put_json(header.model_dump(mode="json"))
        record = dataset.model_copy(update={"partition": name, "content": content})
        store.publish_once(f"{DATASETS}{name}", record)
    return home


def _batch(store: Store, first: Record, batch: Batch, number: int) -> BatchPin:
    name = f"b{number:05}"
    header = batch.model_copy(update={"id": name})
    content = store.objects.put_json(header.model_dump(mode="json"))
    when = datetime.now(UTC) + timedelta(microseconds=number)
    changed = {"partition": name, "content": content, "created_at": when}
    store.publish_once(f"{BATCHES}{name}", first.model_copy(update=changed))
    return BatchPin(id=name, digest=content)


def _median(runs: list[Figure], figure: str) -> float:
    return statistics.median(getattr(run, figure) for run in runs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--partitions", type=int, nargs="*", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--repeat", type=int, default=5)
    default = Path(tempfile.gettempdir()) / "orchestration"
    parser.add_argument("--work", type=Path, default=default, metavar="DIR")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        main()
    except StepFailed as error:
        sys.exit(str(error))
