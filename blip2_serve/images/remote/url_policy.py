"""The URLs that may be fetched, judged by their text; `fetch` judges the addresses behind a name.

Every refusal here is about text that the caller wrote, so the message may say why: it reveals nothing about the
network inside.
"""

import re
from dataclasses import dataclass

import httpx

from blip2_serve.config import LISTED_HOST
from blip2_serve.errors import Part, UrlNotAllowed
from blip2_serve.images.remote.addresses import Address, is_public, parse_address

MAX_URL_CHARACTERS = 4096
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*", re.ASCII)
# The C library takes 2130706433, 0x7f.1 and 0177.0.0.1 for 127.0.0.1; a reader does not.
_ENDS_IN_A_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL whose text is allowed.

    Attributes:
        host: a name in ASCII and lower case without a trailing dot, or an address without brackets.
        address: the host as an address; None for a name.
        any_address: True where the administrator has listed the host, so its addresses are not judged.
    """

    url: httpx.URL
    host: str
    port: int
    address: Address | None
    any_address: bool

    @property
    def host_header(self) -> str:
        """The Host header: the host, with the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.url.scheme] else f"{host}:{self.port}"


class UrlPolicy:
    """Applies `BLIP2_IMAGE_URLS`: "off", "public", or comma-separated hosts, each with or without a port."""

    def __init__(self, setting: str) -> None:
        self.is_off = setting == "off"
        self._is_public = setting == "public"
        hosts = [] if self.is_off or self._is_public else setting.split(",")
        self._listed = frozenset(_host_and_port(host.strip()) for host in hosts)

    def check(self, text: str, base: httpx.URL | None = None) -> Target:
        """Return the target that `text` names; a redirect is relative to `base`.

        Raises:
            UrlNotAllowed: the message says what is wrong with the text.
        """
        if self.is_off:
            raise UrlNotAllowed(
                "Pictures are not fetched from URLs here: send the picture itself, or set BLIP2_IMAGE_URLS to public"
                " or to a list of hosts when the server is started.",
                about=Part.IMAGE,
            )
        url = _parse(text, base)
        if url.scheme not in _DEFAULT_PORTS:
            raise _refused("is neither http nor https")
        if url.userinfo:
            raise _refused("holds a name or password")
        host = _normal_host(url.raw_host.decode("ascii"))
        port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port
        address = _address_or_name(host)
        self._check_host(host, port, address)
        return Target(url, host, port, address, any_address=not self._is_public)

    def _check_host(self, host: str, port: int, address: Address | None) -> None:
        if (host, port) in self._listed:
            return
        if port not in _DEFAULT_PORTS.values():
            raise _refused("names a port other than 80 and 443")
        if self._is_public:
            if address is not None and not is_public(address):
                raise _refused("names an address that is not public")
        elif (host, None) not in self._listed:
            raise _refused("names a host that is not on this server's list")


def _parse(text: str, base: httpx.URL | None) -> httpx.URL:
    if len(text) > MAX_URL_CHARACTERS:
        raise _refused(f"has more than {MAX_URL_CHARACTERS} characters")
    try:
        return base.join(text) if base else httpx.URL(text.strip())
    except (httpx.InvalidURL, ValueError):
        raise _refused("cannot be read") from None


def _address_or_name(host: str) -> Address | None:
    address = parse_address(host)
    if address is None and (not _NAME.fullmatch(host) or _ENDS_IN_A_NUMBER.fullmatch(host)):
        raise _refused("has no host, or one in an unusual notation")
    return address


def _normal_host(host: str) -> str:
    """Lower-case, drop the trailing dot (a full name means the same without), and write addresses as Python does."""
    host = host.lower().removesuffix(".")
    address = parse_address(host)
    return host if address is None else str(address)


def _host_and_port(listed: str) -> tuple[str, int | None]:
    match = LISTED_HOST.fullmatch(listed)
    assert match, "config.Settings lets nothing else in"
    return _normal_host(match["host"].strip("[]")), int(match["port"]) if match["port"] else None


def _refused(problem: str) -> UrlNotAllowed:
    return UrlNotAllowed(f"The URL of the picture {problem}: send another, or the picture itself.", about=Part.IMAGE)
