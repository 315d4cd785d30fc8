"""Pages on another origin: preflights, answers and refusals as a browser needs them; and connections that wait."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.idle import survives_idling
from support.pictures import jpeg
from support.serving import Server, serve

ORIGIN, OTHER = "https://app.example.com", "https://evil.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-any"}
# BentoML's own CORS, switched on by mistake: its headers must not stand beside ours.
BENTOML = '{"services": {"blip2": {"http": {"cors": {"enabled": true, "access_control_allow_origins": ["*"]}}}}}'


@pytest.fixture(scope="module")
def called(tiny_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = {
        "BLIP2_MODEL": str(tiny_checkpoints["opt"]),
        "BLIP2_MAX_REQUEST_BYTES": "100000",
        "BLIP2_CORS_ORIGINS": f"{ORIGIN}/, http://localhost:5173",
        "BLIP2_UI": "on",
        "BLIP2_FRAME_ANCESTORS": "self,https://intra.example.com",
        "BENTOML_CONFIG_OVERRIDES": BENTOML,
    }
    with (
        serve(tmp_path_factory.mktemp("server"), settings) as running,
        httpx.Client(base_url=running.url, timeout=60) as client,
    ):
        yield client


def allowed(reply: httpx.Response) -> list[tuple[str, str]]:
    """Return every header of an answer that lets pages in."""
    return [(name, value) for name, value in reply.headers.multi_items() if name.startswith("access-control-")]


READABLE = [("access-control-allow-origin", ORIGIN), ("access-control-expose-headers", "*")]


@pytest.mark.parametrize("path", ["/generate", "/batch", "/v1/chat/completions", "/v1/models", "/docs.json"])
def test_a_browser_is_let_through_before_it_calls(called: httpx.Client, path: str) -> None:
    reply = called.options(path, headers={"Origin": ORIGIN, **PREFLIGHT})
    assert reply.status_code == 200
    said = dict(allowed(reply))
    assert said["access-control-allow-origin"] == ORIGIN
    assert "POST" in said["access-control-allow-methods"]
    assert said["access-control-allow-headers"] == "authorization,x-any"
    assert len(said) == len(allowed(reply))


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/generate", jpeg(), 200),
        ("POST", "/generate", b"no picture", 415),
        ("POST", "/generate", bytes(100_001), 413),
        ("POST", "/v1/chat/completions", b"{}", 400),
        ("GET", "/nothing", b"", 404),
        ("GET", "/generate", b"", 405),
        ("GET", "/v1/models", b"", 200),
        ("GET", "/docs.json", b"", 200),
        ("GET", "/ui/", b"", 200),
    ],
)
def test_every_answer_can_be_read_with_its_headers(
    called: httpx.Client, method: str, path: str, content: bytes, status: int
) -> None:
    kind = "application/json" if path.startswith("/v1") else "image/jpeg"
    reply = called.request(method, path, content=content, headers={"Origin": ORIGIN, "Content-Type": kind})
    assert reply.status_code == status, reply.text
    assert sorted(allowed(reply)) == READABLE
    assert "Origin" in reply.headers["vary"]


def test_other_origins_are_not_let_in(called: httpx.Client) -> None:
    refusal = called.options("/generate", headers={"Origin": OTHER, **PREFLIGHT})
    assert refusal.status_code == 400
    assert "access-control-allow-origin" not in refusal.headers
    assert "origin" in refusal.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/livez", "/docs.json", "/v1/models"])
def test_by_default_nobody_is_let_in(http: httpx.Client, path: str) -> None:
    assert allowed(http.get(path, headers={"Origin": ORIGIN})) == []
    assert allowed(http.options(path, headers={"Origin": ORIGIN, **PREFLIGHT})) == []


@pytest.mark.parametrize("path", ["/", "/ui/"])
def test_pages_say_who_may_show_them_inside(called: httpx.Client, http: httpx.Client, path: str) -> None:
    policy = called.get(path).headers["content-security-policy"].split("; ")
    assert "frame-ancestors 'self' https://intra.example.com" in policy
    assert "frame-ancestors 'none'" in http.get("/").headers["content-security-policy"].split("; ")


def test_a_connection_that_has_waited_is_still_there(server: Server) -> None:
    assert survives_idling(server.url)
