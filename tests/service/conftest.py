"""The service's application in this process, with a small network."""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from defect_assets.inference.bundle import bundle_digest
from defect_assets.inference.detector import Detector
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.store.objects import write_tree
from tests.conftest import PROJECT
from tests.inference.test_detector import untrained_bundle

sys.path.insert(0, str(PROJECT / "bento"))

from detector_service.app import DetectorApp, model_reply
from detector_service.settings import Settings


@dataclass
class Served:
    app: DetectorApp
    client: TestClient
    detector: Detector

    def post(self, path: str, image: bytes, **options: object) -> object:
        data = {name: str(value) for name, value in options.items()}
        return self.client.post(path, files={"image": ("part.png", image)}, data=data)


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """Whose threshold is such that an untrained network finds something in noise."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    post = Postprocessing(threshold=0.687, review_threshold=0.62)
    write_tree(untrained_bundle(postprocessing=post), folder)
    loaded = Detector.load(folder, device="cpu")
    loaded.digest = bundle_digest(folder)  # type: ignore[attr-defined]
    return loaded


@pytest.fixture
def serve(detector: Detector) -> Iterator[Callable[..., Served]]:
    """Start the application with settings."""
    running: list[DetectorApp] = []

    def start(network: Detector = detector, **settings: object) -> Served:
        release = {
            "release": "v0.1.0",
            "digest": detector.digest,  # type: ignore[attr-defined]
            "dataset": "DS-1.0.0",
            "config": "C-01",
            "report": "f" * 64,
            "note": "a note",
            "metrics": {"dice": 0.9},
        }
        app = DetectorApp(network, model_reply(release, network), Settings(**settings))
        running.append(app)
        return Served(app, TestClient(app.asgi, raise_server_exceptions=False), network)

    yield start
    for app in running:
        app.close()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


def encoded(pixels: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def noise(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
