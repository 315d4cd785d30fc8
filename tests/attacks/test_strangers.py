"""While a stranger does his worst, a good client is answered every time, and soon."""

from collections.abc import Iterator

import pytest

from benchmarks.hostile.attacker import Attacker
from benchmarks.hostile.attacks import small_picture
from benchmarks.hostile.victim import notice
from benchmarks.measure.posts import multipart
from support.serving import Server, serve

SECONDS = 5.0
GOOD = multipart("/generate", {"num_beams": "1", "max_new_tokens": "20"}, small_picture(900))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real server on the demo checkpoint."""
    with serve(tmp_path_factory.mktemp("attacked"), {"BLIP2_MODEL": "demo"}) as running:
        yield running


@pytest.mark.parametrize("attack", ["many_beams", "documents", "many_keys"])
def test_a_good_client_is_answered_every_time_and_soon(server: Server, attack: str) -> None:
    attacker = Attacker(server.url, attack, SECONDS)
    attacker.start()
    noticed = notice(server.url, GOOD, SECONDS)
    answers = attacker.wait()
    assert set(noticed.statuses) == {200}
    assert noticed.p95_ms < 2000
    assert answers.total() > 0
    assert "500" not in answers
    assert "Traceback" not in server.log.read_text()
