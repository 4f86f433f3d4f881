"""The service as its users start it, with an untrained network: `bentoml serve` in `bento/`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from defect_assets.inference.bundle import bundle_digest
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.store.objects import write_tree
from tests.conftest import PROJECT
from tests.end_to_end.conftest import answers, free_port, tool
from tests.inference.test_detector import untrained_bundle

_PACK = """
import shutil, sys, bentoml
with bentoml.models.create("defect_detector:v0.0.1") as model:
    shutil.copytree(sys.argv[1], model.path, dirs_exist_ok=True)
"""


@dataclass
class LiveService:
    address: str
    process: subprocess.Popen
    log: Path

    def worker(self) -> psutil.Process:
        """Return the process that answers."""
        (worker,) = (
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if "_bentoml_impl.worker.service" in " ".join(child.cmdline())
        )
        return worker


def pack_untrained(folder: Path) -> dict[str, str]:
    """Make a BentoML home with an untrained model; return the environment that uses it."""
    bundle = folder / "bundle"
    post = Postprocessing(threshold=0.687, review_threshold=0.62)
    write_tree(untrained_bundle(postprocessing=post), bundle)
    release = {
        "release": "v0.0.1",
        "digest": bundle_digest(bundle),
        "dataset": "DS-1.0.0",
        "config": "C-01",
        "report": "f" * 64,
        "note": "untrained",
        "metrics": {"dice": 0.5, "iou": 0.4, "images": 10, "groups": 5},
    }
    (bundle / "release.json").write_text(json.dumps(release))
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("DETECTOR_")},
        "PYTHONPATH": str(PROJECT),
        "BENTOML_HOME": str(folder / "bentoml"),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    subprocess.run([sys.executable, "-c", _PACK, str(bundle)], env=environment, check=True)
    return environment


@contextmanager
def live_service(folder: Path, **settings: object) -> Iterator[LiveService]:
    """Serve an untrained model until the block ends; settings by their variables' names."""
    environment = pack_untrained(folder) | {
        f"DETECTOR_{name.upper()}": str(value) for name, value in settings.items()
    }
    port = free_port()
    address, log = f"http://127.0.0.1:{port}", folder / "service.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [tool("bentoml"), "serve", "--port", str(port)],
            cwd=PROJECT / "bento",
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert answers(f"{address}/readyz", process), log.read_text()
        yield LiveService(address, process, log)
    finally:
        # Its workers, too: some outlive their master.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
