"""Which comparisons meet their bars, what has to be measured for them, and how it is told."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.compare.outcome import Outcome, outcome
from benchmarks.compare.plan import capacity_setting, plan
from benchmarks.compare.report import as_json, table
from benchmarks.compare.table import COMPARISONS, Closed, Comparison, Open, Setting
from benchmarks.measure.measured import Measured

SETTING = Setting("demo", "W1", Closed(32))
RATE = Comparison(SETTING, "requests_per_s", "a", 6.0, 8.0)
LATENCY = Comparison(SETTING, "p50_s", "a", 0.7)


def compared(comparison: Comparison, ours: list[Any], theirs: list[Any]) -> Outcome:
    def runs(values: list[Any]) -> list[Measured]:
        return [replace(Measured(0.0), **{comparison.figure: value}) for value in values]

    return outcome(comparison, {comparison.setting: {"ours": runs(ours), comparison.against: runs(theirs)}})


@pytest.mark.parametrize(
    ("comparison", "ours", "met", "stretch_met"),
    [
        (RATE, 59.9, False, False),
        (RATE, 60.0, True, False),
        (RATE, 80.0, True, True),
        (LATENCY, 7.1, False, False),
        (LATENCY, 7.0, True, False),
        (LATENCY, 1.0, True, False),
    ],
)
def test_rates_have_to_be_above_the_bar_and_latencies_below(
    comparison: Comparison, ours: float, met: bool, stretch_met: bool
) -> None:
    came_out = compared(comparison, [ours], [10.0])
    assert (came_out.met, came_out.stretch_met) == (met, stretch_met)


def test_the_ratio_is_the_median_of_the_rounds_own() -> None:
    # The machine slowed down by half in the second round, for both.
    came_out = compared(RATE, [70, 35, 80], [10, 5, 10])
    assert came_out.ratios == (7, 7, 8)
    assert (came_out.ratio, came_out.ours, came_out.theirs) == (7, 70, 10)


def test_a_figure_that_was_not_measured_meets_no_bar() -> None:
    came_out = compared(LATENCY, [None], [1.0])
    assert (came_out.ratio, came_out.met) == (None, False)
    assert "not measured" in table([came_out])


def test_the_table_says_which_rows_are_not_met() -> None:
    told = table([compared(RATE, [85], [10]), compared(LATENCY, [9], [10])])
    assert (
        "| demo W1, 32 clients, requests/s against (a) | 85.0/s | 10.0/s | 8.50x | >= 6x | >= 8x | stretch met |"
        in told
    )
    assert told.endswith("Not met: demo W1, 32 clients, p50 against (a).")
    assert table([compared(RATE, [65], [10])]).endswith("Every row is met.")


def test_the_json_has_every_round_and_where_it_was_run() -> None:
    results = {SETTING: {"ours": [Measured(60), Measured(90)], "a": [Measured(10), Measured(10)]}}
    told = as_json([outcome(RATE, results)], results, rounds=2)
    assert {"date", "cpu", "cores", "torch", "transformers", "bentoml", "rounds"} <= told.keys()
    assert told["rows"][0]["ratios"] == (6, 9)
    assert [(each["name"], each["clients"], each["requests_per_s"]) for each in told["measured"]] == [
        ("ours", 32, 75),
        ("a", 32, 10),
    ]


def test_a_capacity_is_measured_before_a_share_of_it_is_offered() -> None:
    to_do = plan(COMPARISONS, ("demo", "base"))
    for place, setting in enumerate(to_do):
        if isinstance(setting.load, Open):
            source = capacity_setting(setting)
            assert setting.load.of in to_do[source]
            assert list(to_do).index(source) < place


def test_a_row_alone_asks_for_no_more_than_it_needs() -> None:
    (comparison,) = [comparison for comparison in COMPARISONS if comparison.setting == Setting("demo", "W2", Open(0.5))]
    assert plan([comparison]) == {Setting("demo", "W2", Closed(32)): ("b",), comparison.setting: ("ours", "b")}


def test_of_a_full_run_only_named_settings_are_measured() -> None:
    assert {str(setting) for setting in plan((), ("base",), ("W3", "W1, 8"))} == {
        "base W1, 8 clients",
        "base W3, 1 client",
    }


def test_the_floor_and_the_static_batch_are_told_with_captions_at_full_load() -> None:
    assert plan([RATE]) == {SETTING: ("ours", "a", "static", "floor")}
    assert plan([replace(RATE, setting=Setting("demo", "W4", Closed(32)))])[Setting("demo", "W4", Closed(32))] == (
        "ours",
        "a",
    )


def test_rows_have_names_of_their_own() -> None:
    assert len({str(comparison) for comparison in COMPARISONS}) == len(COMPARISONS) == 14
