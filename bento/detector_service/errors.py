"""What the service answers when it cannot answer: one body for all errors."""

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

HOW = "send it as in: curl -F image=@tile.jpg"


class ErrorDetail(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    code: str = Field(examples=["unreadable_image"])
    """For programs: it does not change."""
    message: str = Field(examples=["the image cannot be used: the file is empty"])
    """For people."""
    hint: str = Field(default="", examples=[HOW])
    """What to do about it."""


class ErrorReply(BaseModel):
    """The body of every reply with a status of 400 and above."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    error: ErrorDetail
    request_id: str


class ApiError(Exception):
    """A request that gets an error for an answer.

    Parameters
    ----------
    status
        Of HTTP.
    code, message, hint
        As in `ErrorDetail`.
    headers
        More of the reply.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        hint: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(code=code, message=message, hint=hint)
        self.headers = headers

    def reply(self, request_id: str) -> Response:
        """Return what is sent."""
        body = ErrorReply(error=self.detail, request_id=request_id).model_dump_json()
        return Response(body, self.status, self.headers, media_type="application/json")


def internal_error() -> ApiError:
    """Return what is said of a fault of ours: nothing that tells of the inside."""
    return ApiError(
        500, "internal", "the service failed", "its log says why, under this request_id"
    )
