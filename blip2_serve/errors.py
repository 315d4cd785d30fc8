"""The error tree. Every class carries the HTTP status and the stable code it is answered with.

Blip2Error
  RequestError             the caller's fault; the message is safe to show
    InvalidField 400   InvalidImage 400   PromptTooLong 400   UrlNotAllowed 400   ImageFetchFailed 400
    UnknownImage 404   UnknownModel 404   NotInstalled 404   HostNotAllowed 403
    ImageTooLarge 413   UnsupportedImage 415   UnsupportedBody 415
  Busy 429                 the server has enough to do; carries retry_after_s
  ClientGone 499           the caller left; only the log sees it
  DeadlineExceeded 504
  EngineFailure 500        this request only; the cause stays in the log
  EngineDead 503           the loop has stopped; readyz and livez turn false
  StartupError             no status: the process ends with this one line
"""

from enum import Enum, auto
from typing import ClassVar


class Part(Enum):
    """A part of a request; each protocol has its own field name for it."""

    IMAGE = auto()
    IMAGE_ID = auto()
    PROMPT = auto()
    CHOICES = auto()
    TEXTS = auto()


class Blip2Error(Exception):
    """Base of all errors that this package raises on purpose.

    `message` tells the reader what to do next. `about` is the part of the request at fault, or the name of a field
    that only one protocol has.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, about: Part | str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.about = about


class RequestError(Blip2Error):
    """The caller's fault; the same request will fail again."""

    status = 400
    code = "invalid_request"


class InvalidField(RequestError):
    """A field is missing, unknown, of the wrong type or out of bounds; `about` tells which."""

    code = "invalid_field"


class InvalidImage(RequestError):
    """The picture is empty, cut short or cannot be decoded."""

    code = "invalid_image"


class UrlNotAllowed(RequestError):
    """This server does not fetch the picture's URL."""

    code = "url_not_allowed"


class ImageFetchFailed(RequestError):
    """A picture's URL gave no picture; the message may hide why, so that callers cannot probe the server's network."""

    code = "image_fetch_failed"


class UnknownImage(RequestError):
    """The cache has no picture with this id, or has dropped it: send the picture again."""

    status = 404
    code = "unknown_image"


class PromptTooLong(RequestError):
    """The question alone leaves no room in the model's context."""

    code = "prompt_too_long"


class UnknownModel(RequestError):
    """The request names a model other than the served one; the code is OpenAI's."""

    status = 404
    code = "model_not_found"


class NotInstalled(RequestError):
    """This part of the server needs a package that is not installed."""

    status = 404
    code = "not_installed"


class HostNotAllowed(RequestError):
    """The request is for a name, or from a web page, that this part of the server does not trust."""

    status = 403
    code = "host_not_allowed"


class ImageTooLarge(RequestError):
    """The body has too many bytes or the picture too many pixels."""

    status = 413
    code = "image_too_large"


class UnsupportedImage(RequestError):
    """The bytes are in no supported image format."""

    status = 415
    code = "unsupported_image"


class UnsupportedBody(RequestError):
    """The endpoint does not read this Content-Type."""

    status = 415
    code = "unsupported_body"


class ClientGone(Blip2Error):
    """The caller left before its answer; the status, nginx's, appears only in the log."""

    status = 499
    code = "client_closed_request"


class Busy(Blip2Error):
    """The server has enough to do; try again after `retry_after_s` seconds."""

    status = 429
    code = "busy"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(Blip2Error):
    """The request did not finish within its deadline."""

    status = 504
    code = "deadline_exceeded"


class EngineFailure(Blip2Error):
    """The model failed on this request only."""

    code = "engine_failure"


class EngineDead(Blip2Error):
    """The model's loop has stopped; restart the server."""

    status = 503
    code = "engine_dead"


class StartupError(Blip2Error):
    """The settings or the weights are unusable; the process ends with this one line."""

    code = "startup_error"
