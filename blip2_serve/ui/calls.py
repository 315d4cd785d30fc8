"""The calls that the page makes of gradio's queue: what fits the page is rewritten, and nothing else passes.

Gradio answers a call that does not fit with an exception whose traceback it prints.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from pydantic import BaseModel, Field, ValidationError

from blip2_serve.api.large_json import parse_json
from blip2_serve.errors import InvalidField, InvalidImage, Part
from blip2_serve.ui.uploads import Uploads

# A call carries texts and the path of a picture; the picture itself is uploaded.
MAX_CALL_BYTES = 2**18
_MAX_FILES = 4

_SESSION = Field(pattern=r"^[a-z0-9]{1,32}$")
_EVENT = Field(pattern=r"^[a-f0-9]{1,32}$")


class _Join(BaseModel):
    """An event of the page: a function and the values of its inputs."""

    data: list[Any]
    fn_index: int
    session_hash: str = _SESSION
    trigger_id: int | None = None


class _Cancel(BaseModel):
    session_hash: str = _SESSION
    fn_index: int
    event_id: str = _EVENT


class _Reset(BaseModel):
    event_id: str = _EVENT


class Calls:
    """Checks calls against the page's functions: `num_inputs` says how many values each takes."""

    _KINDS: Mapping[str, type[BaseModel]] = {"/queue/join": _Join, "/cancel": _Cancel, "/reset": _Reset}

    def __init__(self, num_inputs: Mapping[int, int], uploads: Uploads) -> None:
        self._num_inputs = num_inputs
        self._uploads = uploads

    @classmethod
    def are_made_at(cls, path: str) -> bool:
        """Return True if the page makes calls at `path`."""
        return path in cls._KINDS

    def checked(self, path: str, body: bytearray) -> bytes:
        """Return the call with nothing in it but what the page sends.

        Raises:
            InvalidField: the call does not fit the page.
            InvalidImage: it names a file other than an uploaded picture: gradio would fetch or copy it.
        """
        try:
            call = self._KINDS[path].model_validate(parse_json(body, dict, _refuse_constant))
            named = list(_named_files(call.data)) if isinstance(call, _Join) else []
        except (ValidationError, ValueError, RecursionError):
            raise _unfit() from None
        if isinstance(call, _Join) and self._num_inputs.get(call.fn_index) != len(call.data):
            raise _unfit()
        if len(named) > _MAX_FILES or not all(map(self._uploads.holds, named)):
            raise InvalidImage("The picture is no longer here: choose it again.", about=Part.IMAGE)
        return json.dumps(call.model_dump()).encode()


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _unfit() -> InvalidField:
    return InvalidField("The call does not fit the page: load the page again.")


def _named_files(content: object) -> Iterator[object]:
    """Yield the path of every file in `content`: gradio takes each object with a `path` for one."""
    if isinstance(content, list):
        for item in content:
            yield from _named_files(item)
    elif isinstance(content, dict):
        if "path" in content:
            yield content["path"]
        for value in content.values():
            yield from _named_files(value)
