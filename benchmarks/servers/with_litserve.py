"""LitServe with our detector in it: decoder, runtime, postprocessing and reply are ours."""

import base64
import os
from pathlib import Path
from typing import Any

import litserve
from fastapi import Request

from defect_assets.inference.detector import Detector
from defect_assets.inference.images import decode_image, encode_png
from defect_assets.inference.postprocessing import Analysis


class DetectorAPI(litserve.LitAPI):
    """Finds defects."""

    def setup(self, device: str) -> None:
        """Load the model, and run it once."""
        self.detector = Detector.load(Path(os.environ["BUNDLE"]), runtime=os.environ["RUNTIME"])

    def decode_request(self, request: Request) -> Any:
        """Decode the image of the form that LitServe passes in place of a request."""
        return decode_image(request["image"].file.read())

    def predict(self, image: Any) -> Analysis:
        """Find its defects."""
        return self.detector.analyze(image)

    def encode_response(self, analysis: Analysis) -> dict[str, Any]:
        """Return them, and the mask as a PNG."""
        return {
            "verdict": analysis.verdict,
            "defects": [defect.model_dump() for defect in analysis.defects],
            "mask": base64.b64encode(encode_png(analysis.mask)).decode(),
        }


if __name__ == "__main__":
    server = litserve.LitServer(DetectorAPI(api_path="/analyze"), accelerator="cpu")
    server.run(port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")
