"""Does a built bento answer? Asked of what will be served, without a port.

The bento's own code runs, in a process that finds its folder before anything else, as it would in
its container; only the packages are this environment's.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from defect_assets.registry.packaging import bento_folder
from defect_assets.registry.release.releases import Release

PATIENCE = 300
"""Seconds after which a bento that does not answer is given up."""

_ASK = """
import sys, time, json
from service import DefectDetector
from starlette.testclient import TestClient

detector = DefectDetector.inner()
client = TestClient(detector.app.asgi, raise_server_exceptions=False)
start = time.perf_counter()
reply = client.post("/analyze", files={"image": ("part.png", sys.stdin.buffer.read())})
milliseconds = 1000 * (time.perf_counter() - start)
detector.close()
said = {"status": reply.status_code, "milliseconds": milliseconds, "said": reply.json()}
print(json.dumps(said))
"""


class Answer(BaseModel):
    """What a bento says of an image."""

    status: int
    """HTTP's; 0 where the service did not start."""
    milliseconds: float = 0.0
    said: Any
    """The reply; of one that did not start, the last lines that it printed."""

    @property
    def sound(self) -> bool:
        """Whether it says something of the image."""
        return self.status == 200 and "verdict" in self.said


def ask_bento(bentoml_home: Path, release: Release, image: bytes) -> Answer:
    """Start the service of a release's bento in a process, and ask it about an image.

    Parameters
    ----------
    bentoml_home
        Where the bento was built.
    release
        Whose bento it is.
    image
        A file as a camera sends it.
    """
    source = bento_folder(bentoml_home, release) / "src"
    asked = {k: v for k, v in os.environ.items() if not k.startswith("DETECTOR_")}
    try:
        process = subprocess.run(
            [sys.executable, "-c", _ASK],
            input=image,
            cwd=source,
            env={
                **asked,
                "PYTHONPATH": str(source),
                "BENTOML_HOME": str(bentoml_home),
                "BENTOML_DO_NOT_TRACK": "True",
            },
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Answer(status=0, said=str(error))
    if process.returncode:
        return Answer(status=0, said=process.stderr.decode(errors="replace")[-2000:])
    return Answer.model_validate(json.loads(process.stdout.splitlines()[-1]))
