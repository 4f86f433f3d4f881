"""The detector as a service: image in, verdict, defects and mask out.

BentoML runs the processes and packs the image; the HTTP is an application of our own, mounted
whole. Its own endpoints would decode before we can refuse, batch a broken image with sound ones,
answer 500 where the client is to blame, and cost three times as much a request.
"""

import json
import logging
from pathlib import Path

import bentoml
from detector_service.app import DetectorApp, key_ring, model_reply
from detector_service.logs import log_to_stdout
from detector_service.settings import Settings
from starlette.types import Receive, Scope, Send

from defect_assets.inference.bundle import check_bundle
from defect_assets.inference.detector import Detector

# A built bento names its model here; from the source tree the model packed last is served.
_MODEL = Path(__file__).with_name("MODEL")
MODEL_TAG = _MODEL.read_text().strip() if _MODEL.exists() else "defect_detector:latest"

logger = logging.getLogger("detector_service")


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass on to the application of this process, which is made with the service's instance."""
    await bentoml.get_current_service().app.asgi(scope, receive, send)


# Deadlines are ours, one for a request to come in and one for its answer: BentoML's answers and
# lets the work go on. Its own comes after both, but not long after: the timer of every request
# stays in memory until it ends. Its metrics have a label for every path that anybody asks for, its
# access log a format of its own.
@bentoml.service(
    name="defect_detector",
    traffic={"timeout": 2 * Settings().deadline_s + 5},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(application, path="/")
class DefectDetector:
    """Finds defects in images of parts."""

    bento_model = bentoml.models.BentoModel(MODEL_TAG)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Stop the start, before any process is made, if settings or model are not sound."""
        key_ring(Settings())
        _checked(Path(bentoml.models.get(MODEL_TAG).path))

    def __init__(self) -> None:
        log_to_stdout()
        settings = Settings()
        folder = Path(self.bento_model.path)
        release = _checked(folder)
        detector = Detector.load(folder, settings.runtime)
        self.app = DetectorApp(detector, model_reply(release, detector), settings)
        self.app.analyzer.warm_up()
        if not settings.api_keys.get_secret_value() and settings.api_keys_file is None:
            logger.warning("no API key is set: whoever reaches this port may use it")

    def __is_alive__(self) -> bool:
        return self.app.analyzer.is_alive()

    def __is_ready__(self) -> bool:
        return self.app.analyzer.is_alive()

    @bentoml.on_shutdown
    def close(self) -> None:
        """Finish what is begun."""
        self.app.close()


def _checked(folder: Path) -> dict[str, object]:
    """Return the release whose model lies in a folder, once that is whole and unchanged."""
    release = json.loads((folder / "release.json").read_bytes())
    check_bundle(folder, release["digest"])
    return release
