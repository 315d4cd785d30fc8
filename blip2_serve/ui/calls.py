"""The calls that the page makes of gradio's queue: what fits the page is rewritten, and nothing else passes.

Gradio answers a call that does not fit with an exception whose traceback it prints.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from pydantic import BaseModel, Field, ValidationError

from blip2_serve.api.large_json import parse_json
from blip2_serve.errors import InvalidField, InvalidImage, Part
from blip2_serve.ui.uploads import Uploads

Check = Callable[[object], object]

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
    """Checks calls against the page's functions: `inputs` has a check for each value that a function takes.

    A check raises ValueError; null passes without.
    """

    _KINDS: Mapping[str, type[BaseModel]] = {"/queue/join": _Join, "/cancel": _Cancel, "/reset": _Reset}

    def __init__(self, inputs: Mapping[int, Sequence[Check]], uploads: Uploads) -> None:
        self._inputs = inputs
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
            named = []
            if isinstance(call, _Join):
                named = list(_named_files(call.data))
                self._check_values(call)
        except (ValidationError, ValueError, RecursionError):
            raise _unfit() from None
        if len(named) > _MAX_FILES or not all(map(self._uploads.holds, named)):
            raise InvalidImage("The picture is no longer here: choose it again.", about=Part.IMAGE)
        return json.dumps(call.model_dump()).encode()

    def _check_values(self, call: _Join) -> None:
        """Raise ValueError unless the function takes these values."""
        if call.fn_index not in self._inputs:
            raise ValueError("no such function")
        for check, value in zip(self._inputs[call.fn_index], call.data, strict=True):
            if value is not None:
                check(value)


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
