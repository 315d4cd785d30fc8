"""Measurements in their order: the settings of the table, and with `--full` all the others."""

from collections.abc import Iterable, Sequence

from benchmarks.compare.table import CAPACITY_CLIENTS, Closed, Comparison, Open, Setting

Plan = dict[Setting, tuple[str, ...]]
CLIENTS = (1, 8, 32, 128)
SHARES = (0.5, 0.9)


def plan(comparisons: Iterable[Comparison], full: Sequence[str] = (), parts: Sequence[str] = ("",)) -> Plan:
    """Servers measured at each setting: ours and those it is compared with; all of them for checkpoints in `full`.

    Of the latter only settings with one of `parts` in their names.

    The floor and the static batch cost little and are told wherever W1 is measured at full load. A capacity is
    measured before what is offered at a share of it.
    """
    wanted: dict[Setting, set[str]] = {}
    for comparison in comparisons:
        _add(wanted, comparison.setting, {"ours", comparison.against})
    for checkpoint in full:
        for setting, names in _everything(checkpoint):
            if any(part in str(setting) for part in parts):
                _add(wanted, setting, names)
    settings = sorted(wanted, key=lambda setting: isinstance(setting.load, Open))
    return {setting: tuple(name for name in ORDER if name in wanted[setting]) for setting in settings}


# In turn, in this order, round after round.
ORDER = ("ours", "ours streamed", "a", "b", "static", "floor")


def capacity_setting(setting: Setting) -> Setting:
    """Where the capacity is measured that an open loop takes a share of."""
    return Setting(setting.checkpoint, setting.workload, Closed(CAPACITY_CLIENTS))


def _add(wanted: dict[Setting, set[str]], setting: Setting, names: set[str]) -> None:
    wanted.setdefault(setting, set()).update(names)
    if isinstance(setting.load, Open):
        wanted.setdefault(capacity_setting(setting), set()).add(setting.load.of)
    if (setting.workload, setting.load) == ("W1", Closed(CAPACITY_CLIENTS)):
        wanted[setting].update({"static", "floor"})


def _everything(checkpoint: str) -> Iterable[tuple[Setting, set[str]]]:
    for clients in CLIENTS:
        streamed = {"ours streamed"} if clients in (1, CAPACITY_CLIENTS) else set()
        yield Setting(checkpoint, "W1", Closed(clients)), {"ours", "a", "b", *streamed}
        yield Setting(checkpoint, "W2", Closed(clients)), {"ours", "b"}
    for workload in ("W1", "W2"):
        for share in SHARES:
            yield Setting(checkpoint, workload, Open(share)), {"ours", "b"}
            yield Setting(checkpoint, workload, Open(share, "ours")), {"ours"}
    yield Setting(checkpoint, "W3", Closed(1)), {"ours", "a", "b"}
    yield Setting(checkpoint, "W4", Closed(CAPACITY_CLIENTS)), {"ours", "a"}
