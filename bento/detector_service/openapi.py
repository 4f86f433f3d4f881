"""The description for programs, after OpenAPI 3.1, made from the models that reply."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from detector_service.errors import ErrorReply
from detector_service.forms import IMAGE, Options, ReplyOptions
from detector_service.replies import AnalysisReply, BatchReply, ModelReply
from detector_service.settings import Settings

_REFUSALS = {
    "400": "The form cannot be read, or has no image.",
    "401": "An API key is needed.",
    "408": "The request came in too slowly.",
    "413": "The request, the image, or the number of images is too large.",
    "415": "No form, or an image of another format than JPEG, PNG, BMP, TIFF and WebP.",
    "422": "The image is damaged, or an option is not sound.",
    "429": "Too many requests are being worked on.",
    "500": "The service failed; its log says why.",
    "504": "The deadline passed; the work was dropped.",
}
_REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "Comes back in the reply and stands in the logs if it is at most 64 letters, "
    "digits and . _ : -; otherwise one is drawn.",
    "schema": {"type": "string"},
}
_RETRY = {"Retry-After": {"description": "Seconds", "schema": {"type": "string"}}}


def description(settings: Settings) -> dict[str, Any]:
    """Return the document at ``/openapi.json``."""
    models: list[type[BaseModel]] = [AnalysisReply, BatchReply, ModelReply, ErrorReply]
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    one = {"type": "string", "format": "binary", "description": "A JPEG, PNG, BMP, TIFF or WebP."}
    several = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": settings.max_batch_images,
        "description": "Several files under one name.",
    }
    record = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    picture = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
    page = {"text/html": {"schema": {"type": "string"}}}
    text = {"text/plain": {"schema": {"type": "string"}}}
    document = {"application/json": {"schema": {"type": "object"}}}
    itself = _getting("This description", document, ("500",))
    tried = _getting("A page to try it on", page, ("500",))
    lineage = _answering("What is loaded, where it comes from and how it is used.", ModelReply)
    verdict = {"X-Verdict": {"schema": {"enum": ["ok", "ng", "uncertain"]}}}
    paths: dict[str, Any] = {
        "/analyze": {
            "post": _posting(
                "Find the defects of an image", one, ReplyOptions, _json(AnalysisReply)
            )
        },
        "/overlay": {
            "post": _posting("Draw the defects into an image", one, Options, picture, verdict)
        },
        "/plc": {
            "post": _posting(
                "Find the defects of an image, for a controller: 256 bytes", one, Options, record
            )
        },
        "/analyze_batch": {
            "post": _posting(
                "Find the defects of several images, each with its own result or error",
                several,
                ReplyOptions,
                _json(BatchReply),
            )
        },
        "/model": {"get": lineage, "post": lineage},
        "/metrics": {"get": _getting("What Prometheus collects", text)},
        "/openapi.json": {"get": {**itself, "security": []}},
        "/": {"get": {**tried, "security": []}},
    }
    for path, says in (
        ("/livez", "The process lives"),
        ("/readyz", "The model is loaded and warm"),
    ):
        probe = _getting(says, text, ())
        probe["responses"]["503"] = {"description": "It is not so.", "content": text}
        paths[path] = {"get": {**probe, "security": []}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Defect detector",
            "version": "1",
            "description": "Image in, verdict, defects and mask out.",
        },
        "paths": paths,
        "security": [{}, {"key": []}, {"bearer": []}],
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _posting(
    summary: str,
    image: dict[str, Any],
    options: type[Options],
    content: dict[str, Any],
    headers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    form = options.model_json_schema()
    schema = {
        "type": "object",
        "properties": {
            IMAGE: image,
            **{name: _without_null(field) for name, field in form["properties"].items()},
        },
        "required": [IMAGE],
        "additionalProperties": False,
    }
    success: dict[str, Any] = {"description": "What was found.", "content": content}
    if headers:
        success["headers"] = headers
    return {
        "summary": summary,
        "parameters": [_REQUEST_ID],
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": schema}},
        },
        "responses": {"200": success, **_errors(tuple(_REFUSALS))},
    }


def _getting(
    summary: str, content: dict[str, Any], errors: tuple[str, ...] = ("401", "500")
) -> dict[str, Any]:
    success = {"description": summary, "content": content}
    return {"summary": summary, "responses": {"200": success, **_errors(errors)}}


def _answering(summary: str, model: type[BaseModel]) -> dict[str, Any]:
    return _getting(summary, _json(model), ("401", "413", "500"))


def _errors(statuses: tuple[str, ...]) -> dict[str, Any]:
    return {
        status: {
            "description": _REFUSALS[status],
            "content": _json(ErrorReply),
            **({"headers": _RETRY} if status == "429" else {}),
        }
        for status in statuses
    }


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """A form has no null: a field that is not given is absent."""
    field = {key: value for key, value in field.items() if key not in ("default", "title")} | (
        {"default": field["default"]} if field.get("default") is not None else {}
    )
    kinds = [kind for kind in field.pop("anyOf", []) if kind != {"type": "null"}]
    return field | (kinds[0] if kinds else {})
