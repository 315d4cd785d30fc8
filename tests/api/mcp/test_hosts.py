"""A request reaches /mcp for localhost, an address or a listed name, and from no other name's page."""

import pytest
from starlette.datastructures import Headers

from blip2_serve.api.mcp.hosts import check_hosts
from blip2_serve.config import Settings
from blip2_serve.errors import HostNotAllowed

OURS = Settings(mcp_hosts="Captions.example.com, blip2:3000").mcp_names


def is_let_through(host: str, origin: str | None = None, listed: frozenset[str] = OURS) -> bool:
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    try:
        check_hosts(Headers(headers), listed)
    except HostNotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:3000",
        "LOCALHOST:3000",
        "127.0.0.1:3000",
        "[::1]:3000",
        "10.0.0.5",
        "[2001:db8::1]",
        "captions.example.com",
        "captions.example.com:8443",
        "blip2:3000",
    ],
)
def test_a_program_may_ask_under_these_names(host: str) -> None:
    assert is_let_through(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:3000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "captions.example.com.evil.example",
        "evil.example@localhost",
        "localhost evil.example",
        "blip2",
        "blip2:3001",
        "[localhost]",
    ],
)
def test_a_name_that_means_this_server_for_a_moment_is_refused(host: str) -> None:
    assert not is_let_through(host)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:3000", "http://localhost:3000"),
        ("localhost:3000", "http://127.0.0.1:5173"),
        ("10.0.0.5:3000", "http://10.0.0.5:3000"),
        ("captions.example.com", "https://captions.example.com"),
        ("localhost:3000", "https://captions.example.com"),
    ],
)
def test_a_page_of_this_server_or_a_listed_one_may_ask(host: str, origin: str) -> None:
    assert is_let_through(host, origin)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://10.0.0.6:3000",
        "http://localhost.evil.example",
        "null",
        "file://",
        "http://localhost@evil.example",
        "ftp://localhost",
    ],
)
def test_another_page_may_not_ask_even_by_our_address(origin: str) -> None:
    assert not is_let_through("10.0.0.5:3000", origin)


def test_any_switches_the_checks_off() -> None:
    assert is_let_through("evil.example", "http://evil.example", Settings(mcp_hosts="any").mcp_names)


def test_nothing_listed_leaves_localhost_and_addresses() -> None:
    nothing = Settings().mcp_names
    assert is_let_through("localhost:3000", None, nothing)
    assert not is_let_through("captions.example.com", None, nothing)


def test_pages_that_may_call_the_whole_server_may_use_its_tools() -> None:
    headers = Headers({"host": "localhost:3000", "origin": "https://shop.example"})
    for origins in (("https://shop.example",), ("*",)):
        check_hosts(headers, OURS, origins)
    with pytest.raises(HostNotAllowed):
        check_hosts(headers, OURS, ("https://other.example",))
