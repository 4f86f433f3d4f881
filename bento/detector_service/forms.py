"""What clients send: multipart forms with images and options."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from detector_service.errors import HOW, ApiError

IMAGE = "image"
PartId = Annotated[str, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Options(BaseModel):
    """How an image is to be looked at. An empty field counts as absent."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    threshold: float | None = Field(default=None, gt=0, lt=1)
    """A pixel is defective if its probability of being so is at least this; by default as the
    release has it. The threshold for ``uncertain`` keeps its proportion to it."""
    min_area_px: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """Smaller regions are dropped; by default as the release has it."""
    px_to_mm: float | None = Field(default=None, gt=0, le=1000)
    """Millimetres a pixel; with it, defects have ``centroid_mm`` and ``area_mm2``."""
    part_id: PartId | None = None
    """Comes back in the reply, and stands in the inference log."""


class ReplyOptions(Options):
    """And what the reply is to hold."""

    mask: Literal["png", "rle", "polygon", "none"] = "png"
    """How the mask is to be sent."""
    probability: Literal["png", "none"] = "none"
    """Whether to send the probabilities, too."""


AnyOptions = TypeVar("AnyOptions", bound=Options)


@dataclass(frozen=True)
class File:
    """An uploaded file."""

    name: str
    data: bytes


class _InMemory(MultiPartParser):
    """Starlette's parser writes files above 1 MB to the disk; ours are limited as they come in."""

    spool_max_size = 2**62


async def read_form(
    request: Request, options: type[AnyOptions], max_files: int, deadline_s: float
) -> tuple[list[File], AnyOptions]:
    """Read a form with images and options.

    Raises
    ------
    ApiError
        If it is no form, has no image or too many, holds text in place of a file, or an option
        that is not known or not sound; if it takes too long to come in.
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != (
        "multipart/form-data"
    ):
        raise ApiError(415, "form_needed", "the request must be a multipart/form-data form", HOW)
    parser = _InMemory(request.headers, request.stream(), max_files=max_files, max_fields=50)
    try:
        async with asyncio.timeout(deadline_s):
            form = await parser.parse()
    except TimeoutError:
        message = f"the request did not come in within {deadline_s:g} s"
        raise ApiError(408, "too_slow", message) from None
    except ClientDisconnect:
        raise client_gone() from None
    except MultiPartException as error:
        if "Too many files" in error.message:
            message = f"there are more than {max_files} files in the form"
            raise ApiError(413, "too_many_images", message, "send fewer at once") from error
        raise unreadable_form(error) from error
    except (FormParserError, ValueError, LookupError) as error:
        raise unreadable_form(error) from error
    files: list[File] = []
    fields: dict[str, str] = {}
    try:
        for name, value in form.multi_items():
            if name == IMAGE:
                if not isinstance(value, UploadFile):
                    # An address, perhaps. What a client names is not fetched.
                    raise ApiError(422, "not_a_file", "image must be a file", HOW)
                files.append(File(value.filename or "", await value.read()))
            elif isinstance(value, UploadFile):
                message = f"{_shown(name)} is a file; only image may be one"
                raise ApiError(422, "invalid_option", message, HOW)
            elif name in fields:
                message = f"{_shown(name)} is given twice"
                raise ApiError(422, "invalid_option", message, "give it once")
            else:
                fields[name] = value
    finally:
        await form.close()
    if not files:
        raise ApiError(400, "image_missing", "the form has no file named image", HOW)
    return files, _validated(options, {k: v for k, v in fields.items() if v != ""})


def _validated(options: type[AnyOptions], fields: dict[str, str]) -> AnyOptions:
    try:
        return options.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(
            f"{_shown('.'.join(map(str, e['loc'])))}: {e['msg'].lower()}" for e in error.errors()
        )
        known = ", ".join(options.model_fields)
        raise ApiError(422, "invalid_option", wrong, f"the options are {known}") from None


def unreadable_form(error: Exception) -> ApiError:
    """Return what is said of a form that is damaged."""
    return ApiError(400, "unreadable_form", f"the form cannot be read ({error})", HOW)


def client_gone() -> ApiError:
    """Return what stands in the log when nobody waits for a reply any more (nginx's number)."""
    return ApiError(499, "client_gone", "the client did not wait for the reply")


def _shown(name: str) -> str:
    return name if len(name) <= 40 else name[:40] + "…"
