"""A client is its address, whatever it says of itself; only trusted proxies speak for others."""

import pytest

from blip2_serve.clients import NOBODY, client_of, networks_of

PROXIES = networks_of("10.0.0.0/8, 2001:db8::1")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.9", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.9", "198.51.100.1", "10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("2001:db8::1", ["[2a00:1:2:3:4::5]:80"], "2a00:1:2:3::/64"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("2a00:1:2:3:ffff::1", [], "2a00:1:2:3::/64"),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("testclient", [], "testclient"),
        (None, ["198.51.100.1"], NOBODY),
    ],
)
def test_a_client_is_the_nearest_address_that_is_no_proxy(
    peer: str | None, forwarded_for: list[str], client: str
) -> None:
    assert client_of(peer, forwarded_for, PROXIES) == client


def test_a_chain_of_invented_proxies_is_not_followed_for_ever() -> None:
    assert client_of("10.0.0.1", ["10.0.0.2"] * 100_000, PROXIES) == "10.0.0.2"


def test_networks_are_addresses_or_networks() -> None:
    assert [str(network) for network in PROXIES] == ["10.0.0.0/8", "2001:db8::1/128"]
    with pytest.raises(ValueError, match="example"):
        networks_of("example.com")
