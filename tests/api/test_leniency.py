"""Names of what is ignored: bounded, clean, and refusals where the server is strict."""

import logging

import pytest

from blip2_serve.api.leniency import Ignored, number_of
from blip2_serve.errors import InvalidField


def test_names_are_told_once_in_the_order_found() -> None:
    ignored = Ignored()
    for name in ("user", "messages[].name", "user"):
        ignored.leave_out(name, "nothing is done with it")
    assert ignored.headers == {"X-Ignored": "user, messages[].name"}


def test_nothing_ignored_is_no_header() -> None:
    assert Ignored().headers == {}


def test_more_than_16_names_are_counted() -> None:
    ignored = Ignored()
    for number in range(20):
        ignored.leave_out(f"field{number}", "unknown")
    ignored.leave_out("field19", "unknown")
    assert ignored.headers["X-Ignored"].split(", ")[15:] == ["field15", "+4"]


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        (5, 5),
        (-1.0, -1),
        ("-1", -1),
        ("4096", 4096),
        ("1.5", 1.5),
        (True, None),
        ("1e9", None),
        ("9" * 40, None),
        ([], None),
    ],
)
def test_numbers_are_read_from_texts_too(sent: object, number: float | None) -> None:
    assert number_of(sent) == number


@pytest.mark.parametrize("name", ["a\r\nSet-Cookie: b", "ключ", "x" * 65, "", "a b", "a,b"])
def test_a_name_that_no_header_should_carry_is_a_question_mark(name: str) -> None:
    ignored = Ignored()
    ignored.leave_out(name, "unknown")
    assert ignored.headers == {"X-Ignored": "?"}


def test_a_strict_server_refuses_and_says_why() -> None:
    with pytest.raises(InvalidField, match="store asks for what is not done here \\(nothing is stored\\)") as refusal:
        Ignored(strict=True).leave_out("store", "nothing is stored")
    assert refusal.value.about == "store"


def test_the_log_tells_each_name_once_and_few_of_them(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blip2_serve.api.leniency._logged", set())
    with caplog.at_level(logging.INFO, "blip2_serve.api.leniency"):
        for number in range(300):
            for _ in range(2):
                Ignored().leave_out(f"field{number}", "unknown")
    assert len(caplog.records) == 256
