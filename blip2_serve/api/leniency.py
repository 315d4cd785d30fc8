"""Ask less of foreign clients: what BLIP-2 cannot follow is left out and named, or refused where the server is strict.

Clients of other protocols send by habit what means nothing here. An answer without it beats no answer, as long as the
caller can find out; BLIP2_STRICT=on is for people who test their clients.
"""

import logging
import re
from collections.abc import Container, Mapping

from blip2_serve.errors import InvalidField

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_NUMBER = re.compile(r"[+-]?\d{1,19}(\.\d{0,19})?")
_MAX_NAMES = 16
_MAX_LOGGED = 256
_logged: set[str] = set()


class Ignored:
    """Names of what a request asks for in vain, each once, in the order found.

    A name is a path without places, such as `messages[].name`, so that a long conversation names a thing once.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._names: dict[str, None] = {}
        self._others: set[str] = set()

    def leave_out(self, name: str, reason: str, *, at: str | None = None) -> None:
        """Remember that `name` is ignored; `at` is its exact place, `reason` says why nothing can be done with it.

        Raises:
            InvalidField: the server is strict; `about` is the place.
        """
        if self._strict:
            place = at or (name if len(name) <= 64 else f"{name[:64]}...")
            raise InvalidField(f"{place} asks for what is not done here ({reason}): leave it out.", about=place)
        self.mention(name, reason)

    def mention(self, name: str, reason: str) -> None:
        """Name what even a strict server ignores."""
        shown = name if _NAME.fullmatch(name) else "?"
        if shown in self._names:
            return
        if len(self._names) == _MAX_NAMES:
            self._others.add(shown)
            return
        self._names[shown] = None
        _log_once(shown, reason)

    def tolerate(self, reason: str, *, at: str) -> None:
        """Let pass what can be understood although it is not as it should be.

        Raises:
            InvalidField: the server is strict.
        """
        if self._strict:
            raise InvalidField(f"{at}: {reason}.", about=at)

    @property
    def headers(self) -> dict[str, str]:
        """X-Ignored with at most 16 names and how many more there were; empty if all was followed."""
        if not self._names:
            return {}
        more = [f"+{len(self._others)}"] if self._others else []
        return {"X-Ignored": ", ".join([*self._names, *more])}


def number_of(value: object) -> float | None:
    """Read a number, or a text that is one, as pydantic does; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    return float(value)


def known_fields(
    values: Mapping[str, object], known: Container[str], notes: Container[str], ignored: Ignored
) -> dict[str, object]:
    """Keep the fields of a body that are `known`; even a strict server takes the caller's `notes`, which go nowhere.

    Raises:
        InvalidField: the server is strict, and a field is neither.
    """
    for name in values:
        if name in notes:
            ignored.mention(name, "it goes nowhere")
        elif name not in known:
            ignored.leave_out(name, "there is no such field")
    return {name: value for name, value in values.items() if name in known}


def _log_once(name: str, reason: str) -> None:
    """Log a name once per process, and few names: a stranger invents more of them than a log can take."""
    if name in _logged or len(_logged) >= _MAX_LOGGED:
        return
    _logged.add(name)
    logger.info("a client asks for %s, which is ignored: %s", name, reason)
