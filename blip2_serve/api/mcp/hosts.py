"""Judge Host and Origin: no web page may reach /mcp through the browser of somebody who can reach this server.

A page whose name suddenly means our address (DNS rebinding) still asks under its own name. A request for an address
cannot come from such a page, and neither can one for localhost.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers

from blip2_serve.config import ANY_HOST, LISTED_HOST
from blip2_serve.errors import HostNotAllowed

_LOCAL = "localhost"
_ANY_ORIGIN = "*"
_ORIGIN = re.compile(r"https?://([^/]+)")
_MAX_SHOWN = 128


def check_hosts(headers: Headers, listed: Collection[str], origins: Collection[str] = ()) -> None:
    """Let a request through that is for `listed` names, for localhost or an address, and from no other's page.

    A listed name without a port stands for all ports. Programs send no Origin, only browsers do; pages of `origins` may
    call the whole server.

    Raises:
        HostNotAllowed: Host is another name, or Origin is neither Host's own page nor a listed or local one.
    """
    if ANY_HOST in listed:
        return
    host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
    if not (_is_listed(host, listed) or _is_address(host)):
        raise HostNotAllowed(f"{_shown(host)} is no name under which /mcp is served: add it to BLIP2_MCP_HOSTS.")
    page = _ORIGIN.fullmatch(origin)
    if origin in origins or _ANY_ORIGIN in origins:
        return
    if origin and not (page and (page[1] == host or _is_listed(page[1], listed))):
        raise HostNotAllowed(f"Pages of {_shown(origin)} may not use /mcp: add their host to BLIP2_MCP_HOSTS.")


def _is_listed(place: str, listed: Collection[str]) -> bool:
    name = _name(place)
    return place in listed or name in listed or name == _LOCAL or (_is_address(place) and ip_address(name).is_loopback)


def _is_address(place: str) -> bool:
    try:
        return bool(ip_address(_name(place)))
    except ValueError:
        return False


def _name(place: str) -> str:
    """Return a host without port and brackets; empty where it is malformed."""
    parsed = LISTED_HOST.fullmatch(place)
    return parsed["host"].strip("[]") if parsed else ""


def _shown(sent: str) -> str:
    return repr(sent[:_MAX_SHOWN])
