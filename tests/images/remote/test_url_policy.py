"""The text of a URL is judged before anything is resolved or connected to."""

import pytest
from images.remote.test_addresses import EVERY_FORBIDDEN

from blip2_serve.config import Settings
from blip2_serve.errors import Part, StartupError, UrlNotAllowed
from blip2_serve.images.remote.url_policy import Target, UrlPolicy

PUBLIC = UrlPolicy("public")


def refusal(policy: UrlPolicy, url: str) -> str:
    with pytest.raises(UrlNotAllowed) as caught:
        policy.check(url)
    assert (caught.value.status, caught.value.code, caught.value.about) == (400, "url_not_allowed", Part.IMAGE)
    return caught.value.message


def seen(target: Target) -> tuple[str, int, str]:
    return target.host, target.port, target.host_header


def test_off_refuses_everything_and_says_how_to_switch_it_on() -> None:
    assert "BLIP2_IMAGE_URLS" in refusal(UrlPolicy("off"), "https://example.com/a.jpg")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://example.com/a.jpg?b=c#d", ("example.com", 80, "example.com")),
        ("  HTTPS://EXAMPLE.com", ("example.com", 443, "example.com")),
        ("https://example.com.:443/", ("example.com", 443, "example.com")),
        ("https://example.com:80/", ("example.com", 80, "example.com:80")),
        ("http://bücher.example/", ("xn--bcher-kva.example", 80, "xn--bcher-kva.example")),
        ("http://a_b.example/", ("a_b.example", 80, "a_b.example")),
        ("http://8.8.8.8/", ("8.8.8.8", 80, "8.8.8.8")),
        ("http://8.8.8.8./", ("8.8.8.8", 80, "8.8.8.8")),
        ("http://[2A00:0::1]:443/", ("2a00::1", 443, "[2a00::1]:443")),
    ],
)
def test_public_hosts_are_allowed_in_one_normal_form(url: str, target: tuple[str, int, str]) -> None:
    assert seen(PUBLIC.check(url)) == target


@pytest.mark.parametrize("address", [each for each in EVERY_FORBIDDEN if "%" not in each])
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert "not public" in refusal(PUBLIC, f"http://{host}/a.jpg")
    assert "not public" in refusal(PUBLIC, f"https://{host}:443/a.jpg")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7F.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.01",
        "127.0.0.0x1",
        "1.2.3.4.5",
        "256.256.256.256",
        "example.7",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[::1",
        "[::ffff:0x7f.1]",
        "%31%32%37.0.0.1",
        "a%00.example",
        "①②⑦.0.0.1",
        "\uff11\uff12\uff17.0.0.1",
        "a..example",
        "example..",
        ".example",
        "-a.example",
        "a b.example",
        "a" * 64 + ".example",
        "a." * 127 + "example",
        "",
    ],
)
def test_hosts_in_an_unusual_notation_are_refused(host: str) -> None:
    refusal(PUBLIC, f"http://{host}/")


@pytest.mark.parametrize("host", ["127。0。0。1", "127.0.0.1.", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]"])
def test_disguised_addresses_are_seen_through(host: str) -> None:
    assert "not public" in refusal(PUBLIC, f"http://{host}/")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://user:secret@example.com/", "name or password"),
        ("http://user@example.com/", "name or password"),
        ("http://8.8.8.8\\@example.com/", "name or password"),
        ("http://example.com:8080/", "port"),
        ("http://example.com:22/", "port"),
        ("http://example.com:0/", "port"),
        ("http://example.com:65536/", "port"),
        ("ftp://example.com/", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://example.com/", "neither http nor https"),
        ("//example.com/a.jpg", "neither http nor https"),
        ("http://exa\nmple.com/", "cannot be read"),
        ("http://example.com/\x00", "cannot be read"),
        ("http://example.com/" + "a" * 5000, "characters"),
    ],
)
def test_other_urls_are_refused_with_their_reason(url: str, reason: str) -> None:
    assert reason in refusal(PUBLIC, url)


def test_listed_hosts_are_allowed_wherever_they_are_and_no_others() -> None:
    policy = UrlPolicy("images.internal, 10.0.0.5:8080,[fd00::1]:81,Shop.Example.")
    for url in (
        "http://images.internal/a",
        "https://IMAGES.internal.:443/a",
        "http://10.0.0.5:8080/",
        "http://[fd00:0::1]:81/",
        "http://shop.example/",
    ):
        assert policy.check(url).any_address
    for url in ("http://10.0.0.5/", "http://10.0.0.5:8081/", "http://[fd00::1]/", "http://a.images.internal/"):
        refusal(policy, url)
    assert "port" in refusal(policy, "http://images.internal:8080/")
    assert "list" in refusal(policy, "https://example.com/")


def test_public_never_judges_by_a_list() -> None:
    assert not PUBLIC.check("http://example.com/").any_address


def test_a_redirect_is_relative_to_where_it_comes_from() -> None:
    base = PUBLIC.check("https://example.com/a/b?c").url
    assert str(PUBLIC.check("../d", base=base).url) == "https://example.com/d"
    assert PUBLIC.check("//other.example/", base=base).host == "other.example"
    for inward in ("//127.0.0.1/", "http://localhost:22/", "file:///etc/passwd", "//[::1]/", "https://u@example.com/"):
        with pytest.raises(UrlNotAllowed):
            PUBLIC.check(inward, base=base)


@pytest.mark.parametrize(
    "setting", ["off", "public", "PUBLIC", "a.example", "a.example:8080 , 10.0.0.5,[::1]:81,[::1]"]
)
def test_the_setting_takes_hosts(setting: str) -> None:
    read = Settings.from_env({"BLIP2_IMAGE_URLS": setting}).image_urls
    assert read == setting.lower()
    UrlPolicy(read)


@pytest.mark.parametrize(
    "setting", ["*", "a b", "http://a", "a/b", "a,,b", "a:0", "a:70000", "[::z]", "[1.2.3.4]", "a@b"]
)
def test_a_setting_that_holds_no_hosts_ends_the_start(setting: str) -> None:
    with pytest.raises(StartupError, match="off, public, or hosts"):
        Settings.from_env({"BLIP2_IMAGE_URLS": setting})
