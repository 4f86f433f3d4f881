"""The service's HTTP: routes, and what they do with an image."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from defect_assets.inference.detector import Detector
from defect_assets.inference.images import encode_png
from defect_assets.inference.quality import image_quality
from detector_service import masks, metrics, plc
from detector_service.analyzer import Analyzer, Inspection
from detector_service.errors import ApiError, internal_error
from detector_service.forms import File, Options, ReplyOptions, client_gone, read_form
from detector_service.inference_log import InferenceLog, InferenceRecord, Limits
from detector_service.openapi import description
from detector_service.protection import ApiKeys, BodyLimit, Envelope, ErrorReplies, KeyRing
from detector_service.replies import (
    AnalysisReply,
    BatchItem,
    BatchReply,
    ModelInfo,
    ModelReply,
    found_defects,
    mask_of,
)
from detector_service.settings import Settings

logger = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page") / "index.html"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_AT_ONCE = 4
"""How many images of a batch are worked on at once, so that others have their turn."""

Result = TypeVar("Result")


class DetectorApp:
    """The service as an ASGI application.

    Parameters
    ----------
    detector
        The model.
    model
        What is known of it.
    settings
        Of this process.

    Raises
    ------
    OSError
        If the file of API keys cannot be read.
    """

    def __init__(self, detector: Detector, model: ModelReply, settings: Settings) -> None:
        self._model = model
        self._info = ModelInfo(**{name: getattr(model, name) for name in ModelInfo.model_fields})
        self._classes = sorted(detector.spec.class_map)
        self._settings = settings
        self._taken = 0
        self._page = PAGE.read_bytes()
        self._openapi = description(settings)
        on_gpu = "cuda" in str(detector.device)
        self.analyzer = Analyzer(
            detector,
            settings.batch_size or (16 if on_gpu else 1),
            int(settings.max_megapixels * 1e6),
        )
        self._log = None
        if settings.inference_log is not None:
            sizes = (settings.log_file_mb, settings.log_budget_mb, settings.image_budget_mb)
            self._log = InferenceLog(settings.inference_log, Limits(*(1e6 * mb for mb in sizes)))
        routes = [
            Route("/analyze", self.analyze, methods=["POST"]),
            Route("/analyze_batch", self.analyze_batch, methods=["POST"]),
            Route("/overlay", self.overlay, methods=["POST"]),
            Route("/plc", self.plc, methods=["POST"]),
            Route("/model", self.model, methods=["GET", "POST"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/", self.page, methods=["GET"]),
        ]
        origins = [o.strip() for o in settings.cors_origins.split(",") if o.strip()]
        cors = Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["X-API-Key", "Authorization", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
        self.asgi = Starlette(
            routes=routes,
            middleware=[
                Middleware(Envelope, routes=[route.path for route in routes]),
                *([cors] if origins else []),
                Middleware(ErrorReplies),
                Middleware(ApiKeys, ring=key_ring(settings), open_paths=["/", "/openapi.json"]),
                Middleware(BodyLimit, limit=int(settings.max_body_mb * 1e6)),
            ],
            exception_handlers={HTTPException: _unrouted},
        )
        self.asgi.router.redirect_slashes = False

    def close(self) -> None:
        """Finish what is begun, and write what waits."""
        self.analyzer.close()
        if self._log is not None:
            self._log.close()

    async def analyze(self, request: Request) -> Response:
        """Find the defects of one image."""

        def reply(options: ReplyOptions, inspection: Inspection) -> Response:
            body = self._reply(request, options, inspection).model_dump_json()
            return Response(body, media_type="application/json")

        return await self._one(request, ReplyOptions, reply)

    async def overlay(self, request: Request) -> Response:
        """Draw the defects of one image into it."""

        def reply(options: Options, inspection: Inspection) -> Response:
            analysis = inspection.analysis
            shown = analysis.defects[: self._settings.max_defects]
            picture = masks.overlay(inspection.image, analysis.mask, shown)
            headers = {"X-Verdict": analysis.verdict}
            return Response(encode_png(picture), headers=headers, media_type="image/png")

        return await self._one(request, Options, reply)

    async def plc(self, request: Request) -> Response:
        """Find the defects of one image, for a controller: see `plc`."""

        def reply(options: Options, inspection: Inspection) -> Response:
            record = plc.record(
                inspection.analysis,
                self._info.digest,
                options.part_id or "",
                inspection.milliseconds(),
            )
            return Response(record, media_type="application/octet-stream")

        return await self._one(request, Options, reply)

    async def analyze_batch(self, request: Request) -> Response:
        """Find the defects of several images; each has its own result or error."""
        with self._place():
            files, options = await read_form(
                request, ReplyOptions, self._settings.max_batch_images, self._settings.deadline_s
            )
            turn = asyncio.Semaphore(_AT_ONCE)

            async def one(index: int, file: File) -> BatchItem:
                item = BatchItem(index=index, filename=file.name)
                try:
                    async with turn:
                        item.result = await self.analyzer.inspect(
                            file.data,
                            options,
                            lambda inspection: self._finish(
                                request,
                                file,
                                options,
                                inspection,
                                lambda o, i: self._reply(request, o, i),
                            ),
                        )
                except ApiError as error:
                    item.error = error.detail
                except Exception:
                    logger.exception("image %d of request %s failed", index, _id(request))
                    item.error = internal_error().detail
                return item

            results = await self._in_time(
                request, _all(one(index, file) for index, file in enumerate(files))
            )
            reply = BatchReply(request_id=_id(request), results=results)
            request.state.log["images"] = len(files)
            return Response(reply.model_dump_json(), media_type="application/json")

    async def model(self, _: Request) -> Response:
        """Say which model is loaded and how it is used."""
        return Response(self._model.model_dump_json(), media_type="application/json")

    async def metrics(self, _: Request) -> Response:
        """Return what Prometheus collects."""
        text = await asyncio.to_thread(metrics.exposition)
        return Response(text, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def openapi(self, _: Request) -> Response:
        """Return the description of all this."""
        return JSONResponse(self._openapi)

    async def page(self, _: Request) -> Response:
        """Return the page for people."""
        headers = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-cache"}
        return Response(self._page, headers=headers, media_type="text/html; charset=utf-8")

    async def _one(
        self,
        request: Request,
        options: type[Any],
        reply: Callable[[Any, Inspection], Response],
    ) -> Response:
        with self._place():
            files, chosen = await read_form(request, options, 1, self._settings.deadline_s)
            (file,) = files
            return await self._in_time(
                request,
                self.analyzer.inspect(
                    file.data,
                    chosen,
                    lambda inspection: self._finish(request, file, chosen, inspection, reply),
                ),
            )

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take one of the places for requests, or refuse."""
        if self._taken >= self._settings.max_requests:
            raise ApiError(
                429,
                "busy",
                f"{self._taken} requests are being worked on already",
                "send it again after the seconds in Retry-After",
                {"Retry-After": "1"},
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def _in_time(self, request: Request, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for work until its deadline, or until its client is gone; then drop it."""
        deadline = self._settings.deadline_s
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnection(request))
        try:
            await asyncio.wait((task, gone), timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone.done():
                raise client_gone()
            raise ApiError(
                504,
                "deadline",
                f"the image was not analyzed within {deadline:g} s",
                "send fewer images at once",
            )
        finally:
            gone.cancel()
            task.cancel()

    def _finish(
        self,
        request: Request,
        file: File,
        options: Any,
        inspection: Inspection,
        reply: Callable[[Any, Inspection], Result],
    ) -> Result:
        """Make the reply, and log; in a worker's thread."""
        made = reply(options, inspection)
        analysis = inspection.analysis
        summary = {
            "verdict": analysis.verdict,
            "defects": len(analysis.defects),
            "part_id": options.part_id,
        }
        request.state.log.update(summary)
        if self._log is not None:
            self._log.write(self._record(request, file, options, inspection), file.data)
        return made

    def _reply(
        self, request: Request, options: ReplyOptions, inspection: Inspection
    ) -> AnalysisReply:
        analysis = inspection.analysis
        height, width = analysis.mask.shape
        defects = found_defects(analysis, options.px_to_mm, self._settings.max_defects)
        probability = None
        if options.probability == "png":
            probability = masks.png_base64(
                masks.probability_picture(
                    analysis.probability,
                    self.analyzer.detector.likeliest_class(inspection.maps, (height, width)),
                )
            )
        return AnalysisReply.model_construct(
            request_id=_id(request),
            part_id=options.part_id,
            verdict=analysis.verdict,
            width=width,
            height=height,
            defects=defects,
            truncated=len(defects) < len(analysis.defects),
            mask=mask_of(analysis, options.mask, defects, self._classes),
            probability=probability,
            class_map=self.analyzer.detector.spec.class_map,
            model=self._info,
            timings_ms=inspection.timings(),
        )

    def _record(
        self, request: Request, file: File, options: Options, inspection: Inspection
    ) -> InferenceRecord:
        analysis = inspection.analysis
        names = [defect.class_name for defect in analysis.defects]
        height, width = analysis.mask.shape
        return InferenceRecord(
            request_id=_id(request),
            route=request.url.path,
            part_id=options.part_id,
            bytes=len(file.data),
            width=width,
            height=height,
            verdict=analysis.verdict,
            defects=len(names),
            area_px=sum(defect.area_px for defect in analysis.defects),
            classes={name: names.count(name) for name in sorted(set(names))},
            confidence=max((defect.confidence for defect in analysis.defects), default=None),
            threshold=inspection.postprocessing.threshold,
            quality=image_quality(inspection.image),
            milliseconds=inspection.milliseconds(),
            release=self._info.release,
            model=self._info.digest,
        )


def key_ring(settings: Settings) -> KeyRing:
    """Return the keys that open the service.

    Raises
    ------
    OSError
        If their file cannot be read.
    """
    return KeyRing(settings.api_keys.get_secret_value(), settings.api_keys_file)


def model_reply(release: dict[str, Any], detector: Detector) -> ModelReply:
    """Return what ``/model`` says of a release and its loaded model."""
    return ModelReply(
        **release,
        runtime=detector.runtime,
        device=str(detector.device),
        bundle=detector.spec.model_dump(mode="json"),
    )


async def _all(coroutines: Iterator[Coroutine[Any, Any, Result]]) -> list[Result]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
    return [task.result() for task in tasks]


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _id(request: Request) -> str:
    return request.state.request_id


def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    hint = "GET /openapi.json says what there is"
    refused = ApiError(
        error.status_code,
        codes.get(error.status_code, "refused"),
        f"{request.method} is not possible here" if error.status_code == 405 else error.detail,
        hint,
        dict(error.headers or {}),
    )
    request.state.log["error"] = refused.detail.code
    return refused.reply(_id(request))
