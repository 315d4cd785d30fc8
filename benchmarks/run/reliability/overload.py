"""Ask the real server for three times as much as it can do, for two minutes.

`make overload` (five minutes): captions of five beams and 30 tokens from 16 addresses, first as a closed loop, which
says how many a second the server can do, then three times as many as an open loop, which nobody slows down. Prints one
line of JSON and writes it to benchmarks/results/.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.hostile.crowd import Errand, closed_loop, latencies_ms, open_loop, rate_of, statuses
from benchmarks.hostile.memory_log import memory_log
from benchmarks.hostile.report import report
from benchmarks.measure.pictures import uploads
from benchmarks.measure.posts import to_ours
from benchmarks.measure.processes import Processes
from benchmarks.measure.workloads import Call
from tests.support.serving import Server

TIMES_CAPACITY = 3.0
NUM_CALLERS = 48
WARM_UP_S = 5.0


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--rest", type=float, default=60.0, help="seconds until latency is measured again")
    options = parser.parse_args()
    settings = {"BLIP2_MODEL": options.model}
    report("overload", settings, lambda server: overload(server, options.seconds, options.rest))


def overload(server: Server, seconds: float, rest_s: float) -> dict[str, Any]:
    """Measure before, during and after."""
    calls, processes = captions(), Processes(server.pid)
    closed_loop(server.url, calls, NUM_CALLERS, WARM_UP_S)
    capacity = rate_of(closed_loop(server.url, calls, NUM_CALLERS, seconds / 6))
    alone = closed_loop(server.url, calls, 1, seconds / 12)
    with memory_log(server.pid, 1.0) as memory:
        during = open_loop(server.url, calls, TIMES_CAPACITY * capacity, seconds)
    time.sleep(rest_s)
    after = closed_loop(server.url, calls, 1, seconds / 12)
    in_the_first_half = [mb for moment, mb in memory if moment < seconds / 2]
    return {
        "capacity_per_s": round(capacity, 1),
        "goodput": round(rate_of(during) / capacity, 3),
        "statuses": statuses(during),
        "accepted_ms": latencies_ms(during),
        "refused_ms": latencies_ms(during, "429"),
        "alone_ms": latencies_ms(alone),
        "after_ms": latencies_ms(after),
        "resident_mb": {
            "first_half": max(in_the_first_half),
            "all": max(mb for _, mb in memory),
            "after": round(processes.resident_mb(), 1),
        },
    }


def captions() -> Iterator[Errand]:
    """Captions of exactly 30 tokens, five beams, of pictures that no cache knows."""
    for picture in uploads("overload"):
        yield Errand(to_ours(Call("caption", picture, 30, num_beams=5)))


if __name__ == "__main__":
    main()
