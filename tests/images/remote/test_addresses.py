"""Public addresses; each special range is tried at its first, an inner and its last address."""

from ipaddress import ip_address

import pytest

from blip2_serve.images.remote.addresses import is_public, parse_address

FORBIDDEN = {
    "unspecified": "0.0.0.0 0.1.2.3 0.255.255.255 ::",
    "private": "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255",
    "loopback": "127.0.0.0 127.0.0.1 127.1.2.3 127.255.255.255 ::1",
    "link-local": "169.254.0.0 169.254.255.255 fe80:: fe80::1 fe80::1%eth0 febf:ffff::1",
    "metadata": "169.254.169.254 169.254.170.2 fd00:ec2::254 fd20:ce::254 100.100.100.200 192.0.0.192 168.63.129.16",
    "CGNAT": "100.64.0.0 100.127.255.255",
    "protocol assignments": "192.0.0.0 192.0.0.9 192.0.0.255 2001:1::1 2001:10::1 2001:20::1 2001:1ff:ffff::1",
    "documentation": "192.0.2.1 198.51.100.7 203.0.113.255 2001:db8:: 2001:db8:ffff::1 3fff:: 3fff:fff::1",
    "benchmarking": "198.18.0.0 198.19.255.255 2001:2::1",
    "6to4 relay": "192.88.99.1",
    "multicast": "224.0.0.0 224.0.0.1 232.1.2.3 239.255.255.255 ff00:: ff02::1 ff0e::1",
    "reserved and broadcast": "240.0.0.0 254.1.2.3 255.255.255.255",
    "IPv4-mapped": "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8",
    "IPv4-compatible": "::127.0.0.1 ::8.8.8.8",
    "IPv4-translated": "::ffff:0:127.0.0.1",
    "NAT64": "64:ff9b::127.0.0.1 64:ff9b::8.8.8.8 64:ff9b:1::1 64:ff9b:1:ffff::10.0.0.1",
    "6to4": "2002:: 2002:7f00:1::1 2002:808:808::1",
    "Teredo": "2001:: 2001:0:7f00:1::1",
    "discard, unassigned": "100::1 100:0:0:1::1 4000::1 5f00::1 8000::1 1fff::1",
    "ULA": "fc00:: fc00::1 fd12:3456::1 fdff:ffff::1",
    "site-local": "fec0::1 feff::1",
}
PUBLIC = (
    "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.215.14 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1"
    " 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0"
    " 223.255.255.255 2001:200::1 2001:4860:4860::8888 2606:2800:21f:cb07:6820:80da:af6b:8b2c 2a00::1 3ffe:ffff::1"
)
EVERY_FORBIDDEN = [address for addresses in FORBIDDEN.values() for address in addresses.split()]


@pytest.mark.parametrize("text", EVERY_FORBIDDEN)
def test_a_special_address_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC.split())
def test_an_ordinary_address_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", ["224.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1"])
def test_pythons_own_judgement_would_not_do(text: str) -> None:
    assert ip_address(text).is_global


@pytest.mark.parametrize(
    "text",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.01",
        "",
        "a",
        "fe80::1%eth0",
        "1.2.3.4.",
        "[::1]",
    ],
)
def test_only_the_usual_notation_is_an_address(text: str) -> None:
    assert parse_address(text) is None


def test_an_address_is_read_in_its_usual_notation() -> None:
    assert parse_address("127.0.0.1") == ip_address("127.0.0.1")
    assert parse_address("FD00:0EC2::0254") == ip_address("fd00:ec2::254")
