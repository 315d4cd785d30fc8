"""Fetching against a real local server, with every connect() of the process under watch."""

import asyncio
import re
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from images.remote.test_addresses import EVERY_FORBIDDEN

from blip2_serve.errors import Blip2Error, ImageFetchFailed, ImageTooLarge, Part, UrlNotAllowed
from blip2_serve.images import ImageUrl, Upload
from blip2_serve.images.remote import fetch
from blip2_serve.images.remote.fetch import ImageFetcher
from blip2_serve.images.remote.url_policy import UrlPolicy
from support.images.answers import PICTURE, AnswerServer, Handler, head, redirect, serving, whole
from support.images.connections import Connections, Names

MAX_BYTES = 100_000
# Public addresses, which the fake internet leads to the local server.
HERE, THERE = "93.184.215.14", "1.1.1.1"
TLS = ImageFetcher(UrlPolicy("public"), MAX_BYTES)._tls
CERTIFICATE = Path(__file__).with_name("pictures.test.pem")


@pytest.fixture
def internet() -> Iterator[Connections]:
    with Connections().watched() as connections:
        yield connections


def fetcher(setting: str = "public", names: Names | None = None) -> ImageFetcher:
    fetching = ImageFetcher(UrlPolicy(setting), MAX_BYTES, names or Names())
    fetching._tls = TLS  # reading all authorities takes 30 ms
    return fetching


def fetched(
    internet: Connections,
    answers: dict[str, bytes | Handler],
    url: str = f"http://{HERE}/",
    names: Names | None = None,
    check: Callable[[AnswerServer], object] = lambda server: None,
) -> bytes:
    """Fetch as "public" from a server that is reached under two public addresses."""

    async def run() -> bytes:
        async with serving(answers) as server:
            internet.routes |= {HERE: server.port, THERE: server.port}
            try:
                return await fetcher(names=names).fetch(url)
            finally:
                check(server)

    return asyncio.run(run())


def refused(internet: Connections, answers: dict[str, bytes | Handler], *args: Any, **more: Any) -> Blip2Error:
    with pytest.raises(Blip2Error) as caught:
        fetched(internet, answers, *args, **more)
    assert caught.value.about == Part.IMAGE
    return caught.value


def test_a_picture_comes_as_it_is(internet: Connections) -> None:
    heads: list[str] = []
    names = Names(pictures_test=[HERE])
    body = fetched(
        internet, {"/a.jpg?b=c": whole()}, "http://pictures.test/a.jpg?b=c#d", names, lambda s: heads.extend(s.heads)
    )
    assert body == PICTURE
    assert internet.made == [(HERE, 80)]
    assert "\r\nHost: pictures.test\r\n" in heads[0]
    assert "\r\nAccept-Encoding: identity\r\n" in heads[0]


def test_a_listed_host_may_be_inside(internet: Connections) -> None:
    async def run() -> bytes:
        async with serving({"/": whole()}) as server:
            names = Names(localhost=["127.0.0.1"])
            by_name = await fetcher(f"localhost:{server.port}", names).fetch(f"http://localhost:{server.port}/")
            by_address = await fetcher(f"127.0.0.1:{server.port}").fetch(f"http://127.0.0.1:{server.port}")
            assert by_name == by_address
            assert [
                f"Host: {host}:{server.port}" in head
                for host, head in zip(("localhost", "127.0.0.1"), server.heads, strict=True)
            ] == [True, True]
            return by_name

    assert asyncio.run(run()) == PICTURE


# ---- addresses


@pytest.mark.parametrize("address", EVERY_FORBIDDEN)
def test_a_name_of_an_address_inside_is_not_connected_to(internet: Connections, address: str) -> None:
    for answer in (address, f"{HERE} {address}", f"{address} {HERE}"):
        error = refused(internet, {"/": whole()}, "http://inside.test/", Names(inside_test=[answer]))
        assert isinstance(error, ImageFetchFailed)
    assert internet.made == []


@pytest.mark.parametrize("address", [each for each in EVERY_FORBIDDEN if "%" not in each])
def test_a_redirect_inward_is_not_followed(internet: Connections, address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    for location in (f"http://{host}/", f"//{host}/", f"https://{host}:80/x"):
        assert isinstance(refused(internet, {"/": redirect(location)}), UrlNotAllowed)
    names = Names(inside_test=[address])
    assert isinstance(refused(internet, {"/": redirect("http://inside.test/")}, names=names), ImageFetchFailed)
    assert set(internet.hosts) == {HERE}


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "127。0。0。1"])
def test_addresses_in_disguise_are_not_connected_to(internet: Connections, host: str) -> None:
    assert isinstance(refused(internet, {}, f"http://{host}/"), UrlNotAllowed)
    assert isinstance(refused(internet, {"/": redirect(f"http://{host}/")}), UrlNotAllowed)
    assert internet.hosts == [HERE]


def test_a_name_that_resolves_differently_the_second_time_gains_nothing(internet: Connections) -> None:
    names = Names(rebinding_test=[HERE, "127.0.0.1"])
    assert fetched(internet, {"/": whole()}, "http://rebinding.test/", names) == PICTURE
    assert names.asked == ["rebinding.test"]
    assert internet.hosts == [HERE]


def test_every_redirect_is_resolved_and_judged_anew(internet: Connections) -> None:
    names = Names(rebinding_test=[HERE, "127.0.0.1"])
    error = refused(internet, {"/": redirect("/again")}, "http://rebinding.test/", names)
    assert isinstance(error, ImageFetchFailed)
    assert internet.hosts == [HERE]


def test_an_address_that_does_not_answer_leaves_the_others_their_turn(internet: Connections) -> None:
    names = Names(pictures_test=["9.9.9.9 2606:4700::1111 " + HERE])
    assert fetched(internet, {"/": whole()}, "http://pictures.test/", names) == PICTURE
    assert internet.hosts == ["9.9.9.9", "2606:4700::1111", HERE]


def test_a_proxy_in_the_environment_is_not_used(internet: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetched(internet, {"/": whole()}) == PICTURE
    assert internet.hosts == [HERE]


# ---- TLS


def secure(internet: Connections, name: str, trusted: bool = True) -> bytes:
    """Fetch https://{name}/ from a server with a certificate for pictures.test."""

    async def run() -> bytes:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(CERTIFICATE)
        async with serving({"/": whole()}, tls) as server:
            internet.routes = {HERE: server.port}
            fetching = ImageFetcher(UrlPolicy("public"), MAX_BYTES, Names(pictures_test=[HERE], other_test=[HERE]))
            if trusted:
                fetching._tls.load_verify_locations(CERTIFICATE)
            return await fetching.fetch(f"https://{name}/")

    return asyncio.run(run())


def test_a_certificate_is_checked_for_the_name_and_not_the_address(internet: Connections) -> None:
    assert secure(internet, "pictures.test") == PICTURE
    assert internet.made == [(HERE, 443)]


@pytest.mark.parametrize(("name", "trusted"), [("other.test", True), (HERE, True), ("pictures.test", False)])
def test_a_certificate_of_another_or_of_nobody_is_refused(internet: Connections, name: str, trusted: bool) -> None:
    with pytest.raises(ImageFetchFailed):
        secure(internet, name, trusted)


def test_authorities_in_ssl_cert_file_are_trusted(internet: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    assert secure(internet, "pictures.test", trusted=False) == PICTURE


# ---- redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_are_followed_to_other_hosts_and_paths(internet: Connections, status: str) -> None:
    answers = {"/": redirect(f"http://{THERE}/b/c", status), "/b/c": redirect("../d", status), "/d": whole()}
    assert fetched(internet, answers) == PICTURE
    assert internet.hosts == [HERE, THERE, THERE]


def test_three_redirects_are_followed_and_a_fourth_is_not(internet: Connections) -> None:
    answers: dict[str, bytes | Handler] = {f"/{n}": redirect(f"/{n - 1}") for n in range(1, 5)} | {"/0": whole()}
    assert fetched(internet, answers, f"http://{HERE}/3") == PICTURE
    assert "more than 3" in refused(internet, answers, f"http://{HERE}/4").message
    assert "more than 3" in refused(internet, {"/": redirect("/")}).message


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://1.1.1.1/",
        "gopher://1.1.1.1/",
        "data:image/png;base64,eHl6",
        f"http://{THERE}:22/",
        f"http://{THERE}:8080/",
        f"http://user:secret@{THERE}/",
        "http://[",
        "\xff\x00",
    ],
)
def test_redirects_to_other_schemes_ports_and_to_nonsense_are_not_followed(
    internet: Connections, location: str
) -> None:
    error = refused(internet, {"/": redirect(location)})
    assert error.status == 400
    assert internet.hosts == [HERE]


def test_a_listed_host_leads_to_no_other(internet: Connections) -> None:
    async def run() -> None:
        async with serving({"/": redirect("http://127.0.0.2/"), "/port": redirect("http://127.0.0.1:80/")}) as server:
            for path in ("", "port"):
                with pytest.raises(UrlNotAllowed):
                    await fetcher(f"127.0.0.1:{server.port}").fetch(f"http://127.0.0.1:{server.port}/{path}")
            assert set(internet.made) == {("127.0.0.1", server.port)}

    asyncio.run(run())


# ---- bodies


def test_as_many_bytes_as_are_taken_are_taken(internet: Connections) -> None:
    assert len(fetched(internet, {"/": whole(b"x" * MAX_BYTES)})) == MAX_BYTES


def test_a_body_that_says_it_is_too_large_is_not_read(internet: Connections) -> None:
    error = refused(internet, {"/": head("200 OK", f"Content-Length: {MAX_BYTES + 1}")})
    assert isinstance(error, ImageTooLarge)


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Connection: close"])
def test_a_body_without_an_end_is_cut_at_the_limit(internet: Connections, framing: str) -> None:
    written = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(head("200 OK", framing))
        piece = b"x" * 4096
        while True:
            writer.write(b"1000\r\n" + piece + b"\r\n" if "chunked" in framing else piece)
            await writer.drain()
            written += len(piece)

    assert isinstance(refused(internet, {"/": endless}), ImageTooLarge)
    assert written < 50_000_000  # what fits into the buffers of two sockets, and no more


@pytest.mark.parametrize(
    "length", ["10", "1000000000000000000000", "-1", "x", "5, 6", "9" * 5000], ids=lambda text: text[:9]
)
def test_a_length_that_lies_gives_no_picture_that_is_cut(internet: Connections, length: str) -> None:
    answer = head("200 OK", f"Content-Length: {length}") + b"12345678"
    assert isinstance(refused(internet, {"/": answer}), ImageFetchFailed | ImageTooLarge)


def test_bytes_beyond_the_length_are_not_part_of_the_picture(internet: Connections) -> None:
    assert fetched(internet, {"/": head("200 OK", "Content-Length: 3") + b"abcdef"}) == b"abc"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"])
def test_a_compressed_body_is_refused_unread(internet: Connections, encoding: str) -> None:
    assert "compressed" in refused(internet, {"/": head("200 OK", f"Content-Encoding: {encoding}")}).message


def test_a_body_of_crumbs_is_refused(internet: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_PIECES", 1000)
    crumbs = head("200 OK", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n"
    assert "small pieces" in refused(internet, {"/": crumbs}).message


SAID = f"Content-Length: {len(PICTURE)}"


@pytest.mark.parametrize(
    "head_of_answer",
    [
        f"HTTP/1.1 200 ok\r\n{SAID}\r\n\r\n",
        f"HTTP/1.1 200\r\n{SAID}\r\n\r\n",
        f"HTTP/1.1 200 D\xe9j\xe0 vu\r\n{SAID}\r\n\r\n",
        f"HTTP/1.1 203 Changed\r\n{SAID}\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        f"HTTP/1.1 200 OK\n{SAID}\n\n",
        f"HTTP/1.1 200 OK\r\n{SAID}\r\n{SAID}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\n{SAID}, {len(PICTURE)}\r\n\r\n",
        f'HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=\xff"junk\r\n{SAID}\r\n\r\n',
        f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream; charset=utf-8\r\n{SAID}\r\n\r\n",
        *(
            f"HTTP/1.1 200 OK\r\nContent-Encoding:{value}\r\n{SAID}\r\n\r\n"
            for value in ("", " none", " Identity", " UTF-8", " binary", " identity, none")
        ),
        *(
            f"HTTP/1.1 200 OK\r\n{line}\r\n{SAID}\r\n\r\n"
            for line in (
                "X-\xe9: 1",
                "X A: 1",
                "X-A : 1",
                ": 1",
                "a line without a colon",
                "bad name: a\r\n  goes on: here",
                "X-A: a\r\n goes on",
                "X-A: caf\xe9 \x01 \xff",
                "Transfer-Encoding: identity",
            )
        ),
        f"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX A: 1\r\n\r\nHTTP/1.1 200 OK\r\nX A: 1\r\n{SAID}\r\n\r\n",
    ],
)
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "in pieces"])
def test_odd_headers_that_change_nothing_are_read(internet: Connections, head_of_answer: str, is_whole: bool) -> None:
    answer = head_of_answer.encode("latin-1") + PICTURE

    async def in_pieces(writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(answer), 50):
            writer.write(answer[start : start + 50])
            await writer.drain()
            await asyncio.sleep(0)

    assert fetched(internet, {"/": answer if is_whole else in_pieces}) == PICTURE


def test_chunks_may_be_called_what_they_are_in_capitals(internet: Connections) -> None:
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PICTURE), PICTURE)
    assert fetched(internet, {"/": head("200 OK", "Transfer-Encoding: Chunked") + body}) == PICTURE


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length : 5",
        "X Content-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: gzip",
    ],
)
def test_odd_headers_about_the_body_are_refused(internet: Connections, line: str) -> None:
    assert refused(internet, {"/": head("200 OK", line) + b"12345"}).message == unreachable(internet)


def test_the_server_is_told_who_fetches_and_whom_to_ask(internet: Connections) -> None:
    heads: list[str] = []
    fetched(internet, {"/": whole()}, check=lambda server: heads.extend(server.heads))
    assert re.search(r"\r\nUser-Agent: blip2-serve/[0-9.]+ \(\+https://\S+\)\r\n", heads[0])


def test_a_few_heads_before_the_answer_are_skipped_and_no_end_of_them_is_given_up(internet: Connections) -> None:
    early = head("103 Early Hints", "Link: </a.css>")
    assert fetched(internet, {"/": early * 3 + whole()}) == PICTURE
    began = time.monotonic()
    assert isinstance(refused(internet, {"/": head("100 Continue") * 100_000}), ImageFetchFailed)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial Content", "304 Not Modified", "404 No", "500 No"])
def test_a_status_other_than_200_is_named(internet: Connections, status: str) -> None:
    assert status[:3] in refused(internet, {"/": whole(b"", status)}).message


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"a" * 200_000, b"\x15\x03\x01\x00\x02\x02"],
    ids=["nothing", "SSH", "endless headers", "TLS"],
)
def test_what_is_no_http_tells_nothing(internet: Connections, answer: bytes) -> None:
    assert refused(internet, {"/": answer}).message == unreachable(internet)


# ---- time


Slow = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def dripping(writer: asyncio.StreamWriter) -> None:
    writer.write(head("200 OK", "Content-Length: 100000"))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def dripping_headers(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("slow", [silent, dripping, dripping_headers])
def test_a_slow_answer_is_given_up(internet: Connections, slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TOTAL_TIMEOUT_S", 0.3)
    began = time.perf_counter()
    assert isinstance(refused(internet, {"/": slow}), ImageFetchFailed)
    assert 0.2 < time.perf_counter() - began < 2


def test_a_slow_name_is_given_up_and_holds_up_nobody(internet: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TOTAL_TIMEOUT_S", 0.3)

    given_up = threading.Event()

    def slow(host: str, port: int) -> list[Any]:
        given_up.wait(20)
        return []

    async def run() -> bool:
        fetching = ImageFetcher(UrlPolicy("public"), MAX_BYTES, slow)
        waiting = asyncio.create_task(fetching.fetch("http://slow.test/"))
        await asyncio.sleep(0.01)
        went_on = not waiting.done()
        with pytest.raises(ImageFetchFailed):
            await waiting
        fetching.close()
        return went_on

    began = time.perf_counter()
    try:
        assert asyncio.run(run())
        assert time.perf_counter() - began < 10
    finally:
        given_up.set()


def test_a_connection_that_does_not_come_about_is_given_up(
    internet: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "CONNECT_TIMEOUT_S", 0.2)
    names = Names(pictures_test=[f"9.9.9.9 {HERE}"])
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        internet.made.clear()
        internet.routes = {"9.9.9.9": full.getsockname()[1]}  # its queue is full: further connections are not answered
        began = time.perf_counter()
        assert fetched(internet, {"/": whole()}, "http://pictures.test/", names) == PICTURE
    assert 0.1 < time.perf_counter() - began < 2
    assert internet.hosts == ["9.9.9.9", HERE]


# ---- what a caller may learn


def unreachable(internet: Connections) -> str:
    """Return the message about a name that does not exist."""
    return refused(internet, {}, "http://nobody.test/").message


def test_inside_and_nowhere_and_refused_and_silent_look_alike(
    internet: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TOTAL_TIMEOUT_S", 0.3)
    names = Names(inside_test=["10.0.0.1"], refusing_test=["9.9.9.9"], empty_test=[""])
    said = {
        refused(internet, {"/": silent}, url, names).message
        for url in ("http://inside.test/", "http://refusing.test/", "http://empty.test/", f"http://{HERE}/")
    }
    assert len(said) == 1


# ---- at hand


def test_what_was_fetched_holds_its_slot_until_it_is_used(
    internet: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_FETCHES", 2)
    held = most = 0

    async def use(fetching: ImageFetcher) -> bytes:
        nonlocal held, most
        async with fetching.at_hand(ImageUrl(f"http://{HERE}/")) as upload:
            held += 1
            most = max(most, held)
            await asyncio.sleep(0.02)
            held -= 1
            assert isinstance(upload, Upload)
            return upload.release()

    async def run() -> None:
        async with serving({"/": whole()}) as server:
            internet.routes = {HERE: server.port}
            fetching = fetcher()
            assert await asyncio.gather(*(use(fetching) for _ in range(6))) == [PICTURE] * 6

    asyncio.run(run())
    assert most == 2


def test_what_is_not_a_url_is_handed_through(internet: Connections) -> None:
    async def run() -> None:
        upload = Upload(b"x")
        async with fetcher("off").at_hand(upload) as at_hand:
            assert at_hand is upload

    asyncio.run(run())
    assert internet.made == []


def test_the_systems_resolver_gives_every_address() -> None:
    assert "127.0.0.1" in {str(address) for address in fetch.resolve("localhost", 80)}
