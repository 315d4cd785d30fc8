"""Whoever has had least comes first, and nobody saves up."""

import pytest

from blip2_serve.engine import shares as module
from blip2_serve.engine.shares import PATIENCE_S, Shares, leaves_room


def test_a_newcomer_starts_level_with_the_least_served() -> None:
    shares = Shares()
    shares.enter("old")
    shares.charge("old", 100)
    shares.enter("new")
    assert shares.first(["old", "new"]) == "old"
    shares.charge("old", 1)
    assert shares.first(["old", "new"]) == "new"


def test_leaving_and_coming_back_forgets_nothing() -> None:
    shares = Shares()
    shares.enter("patient")
    shares.enter("hasty")
    shares.charge("hasty", 50)
    shares.leave("hasty")
    shares.enter("hasty")
    assert shares.first(["hasty", "patient"]) == "patient"
    shares.charge("patient", 49)
    assert shares.first(["hasty", "patient"]) == "patient"


def test_staying_away_saves_nothing_up() -> None:
    shares = Shares()
    shares.enter("absent")
    shares.leave("absent")
    shares.enter("diligent")
    shares.charge("diligent", 1000)
    shares.enter("absent")
    shares.charge("absent", 1)
    assert shares.first(["absent", "diligent"]) == "diligent"


def test_a_client_that_has_just_left_still_counts() -> None:
    now = [0.0]
    shares = Shares(lambda: now[0])
    shares.enter("a")
    assert not shares.contended
    shares.enter("b")
    assert shares.contended
    shares.leave("b")
    assert shares.contended
    now[0] += PATIENCE_S + 0.1
    assert not shares.contended


def test_a_client_alone_contends_with_nobody_between_its_requests() -> None:
    shares = Shares()
    for _ in range(3):
        shares.enter("a")
        shares.leave("a")
    assert not shares.contended


def test_a_flood_of_addresses_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 10)
    shares = Shares()
    for number in range(1000):
        shares.enter(str(number))
        shares.leave(str(number))
    assert len(shares._had) == 10


def test_whoever_owns_much_leaves_the_last_of_it_to_others() -> None:
    assert leaves_room(owned=0, wanted=8, free=1)
    assert leaves_room(owned=79, wanted=1, free=10)
    assert not leaves_room(owned=80, wanted=1, free=10)
