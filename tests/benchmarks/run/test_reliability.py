"""Overload, soak and chaos with real servers: so short that only what they count is looked at."""

from collections.abc import Iterator

import pytest

from benchmarks.run.reliability.chaos import chaos
from benchmarks.run.reliability.overload import overload
from benchmarks.run.reliability.soak import soak
from support.serving import Server, serve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("home"), {"BLIP2_MODEL": "demo"}) as running:
        yield running


def test_an_overload_is_answered_or_refused(server: Server) -> None:
    report = overload(server, 6.0, 0.0)
    assert set(report["statuses"]) <= {"200", "429"}
    assert report["capacity_per_s"] > 0 < report["goodput"]
    assert report["accepted_ms"]["p50"] > 0 < report["resident_mb"]["after"]


def test_a_soak_has_answers_refusals_of_bad_pictures_and_readings(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.run.reliability.soak.READ_EVERY_S", 0.5)
    monkeypatch.setattr("benchmarks.run.reliability.soak.CAPACITY_S", 2.0)
    report = soak(server, 5.0)
    assert set(report["statuses"]) <= {"200", "400", "415", "429", "vanished"}
    assert len(report["resident_mb_every_0.5_s"]) > 5
    assert abs(report["growth"]) < 0.5


def test_a_chaos_leaves_the_good_client_its_answers(server: Server) -> None:
    report = chaos(server, 6.0, 0.0)
    assert list(report["good"]["during"]["statuses"]) == [200]
    assert report["burst_after"] == {"200": report["burst_after"]["200"]}
    assert {"vanishing", "slow"} < set(report["answers"])
    assert report["tracebacks"] == 0
