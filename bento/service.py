"""The detector as a service: image in, verdict, defects and mask out."""

import base64
import json
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import bentoml
from _bentoml_impl.serde import MultipartSerde
from bentoml.exceptions import BentoMLException
from bentoml.validators import FileSchema
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from defect_assets.inference.bundle import check_bundle
from defect_assets.inference.detector import Detector
from defect_assets.inference.images import ImageError, decode_image, encode_png
from defect_assets.inference.postprocessing import Defect, Verdict

_HOW = "send it as in: curl -F image=@tile.jpg"

# A built bento names its model here; from the source tree the model packed last is served.
_MODEL = Path(__file__).with_name("MODEL")
MODEL_TAG = _MODEL.read_text().strip() if _MODEL.exists() else "defect_detector:latest"


class ModelInfo(BaseModel):
    """Which model answered."""

    release: str
    digest: str
    dataset: str
    config: str


class AnalysisReply(BaseModel):
    """What was found in an image; coordinates are in its own pixels."""

    verdict: Verdict
    width: int
    height: int
    defects: list[Defect]
    mask: str
    """PNG, base64, in the image's size: 0 where there is no defect, else the class id."""
    class_map: dict[int, str]
    model: ModelInfo


class UnreadableImage(BentoMLException):
    """The client sent something that is no image."""

    error_code = HTTPStatus.UNPROCESSABLE_ENTITY


_parse_form = MultipartSerde.parse_request


async def _parse_form_or_refuse(serde: MultipartSerde, request: Request, cls: Any) -> Any:
    try:
        return await _parse_form(serde, request, cls)
    # Faults of the sender that BentoML would answer with a 500.
    except (HTTPException, KeyError, OSError, UnicodeError) as error:
        raise UnreadableImage(f"the form cannot be read ({error}); {_HOW}") from error


async def _refuse_text(value: str | UploadFile) -> UploadFile:
    if isinstance(value, UploadFile):
        return value
    raise UnreadableImage(f"image must be a file; {_HOW}")


# BentoML takes text in place of a file for an address and fetches it, which would let a client
# make this server call others.
MultipartSerde.ensure_file = staticmethod(_refuse_text)  # type: ignore[method-assign]
MultipartSerde.parse_request = _parse_form_or_refuse  # type: ignore[method-assign]


@bentoml.service(name="defect_detector", traffic={"timeout": 60})
class DefectDetector:
    """Finds defects in images of parts."""

    bento_model = bentoml.models.BentoModel(MODEL_TAG)

    def __init__(self) -> None:
        folder = Path(self.bento_model.path)
        self._model = ModelInfo(**json.loads((folder / "release.json").read_bytes()))
        check_bundle(folder, self._model.digest)
        self._detector = Detector.load(folder)

    @bentoml.api
    def analyze(self, image: Annotated[Path, FileSchema()]) -> AnalysisReply:
        """Find the defects of one image (JPEG, PNG, BMP, TIFF or WebP)."""
        try:
            pixels = decode_image(image.read_bytes())
        except ImageError as error:
            raise UnreadableImage(f"the image cannot be used: {error}") from error
        analysis = self._detector.analyze(pixels)
        height, width = analysis.mask.shape
        return AnalysisReply(
            verdict=analysis.verdict,
            width=width,
            height=height,
            defects=analysis.defects,
            mask=base64.b64encode(encode_png(analysis.mask)).decode(),
            class_map=self._detector.spec.class_map,
            model=self._model,
        )

    @bentoml.api(route="/model")
    def model(self) -> dict[str, Any]:
        """Say which model is loaded and how it is used."""
        spec = self._detector.spec.model_dump(mode="json")
        return self._model.model_dump() | {"device": str(self._detector.device), "bundle": spec}
