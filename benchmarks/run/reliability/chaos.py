"""Mix good, bad, slow, greedy and vanishing clients, and see whether the server's books balance afterwards.

`make chaos` (twelve minutes): for ten minutes callers that vanish and callers that send a byte a second are always
there, and two other attacks of benchmarks/hostile/attacks.py at a time, each from an address of its own. A good client
asks all the while. Prints one line of JSON and writes it to benchmarks/results/.
"""

import argparse
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from benchmarks.hostile.attacker import Attacker
from benchmarks.hostile.attacks import ATTACKS, CHAOS, Answers, small_picture
from benchmarks.hostile.books import Books
from benchmarks.hostile.crowd import Errand, closed_loop, statuses
from benchmarks.hostile.report import report
from benchmarks.hostile.victim import Noticed, notice
from benchmarks.measure.posts import multipart
from benchmarks.measure.processes import Processes
from tests.support.serving import Server

PHASE_S = 20.0
_GOOD = multipart("/generate", {"num_beams": "1", "max_new_tokens": "20"}, small_picture(900))
_GREEDY = sorted(set(ATTACKS) - set(CHAOS))


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rest", type=float, default=60.0, help="seconds until the books are read again")
    options = parser.parse_args()
    settings = {"BLIP2_MODEL": options.model, "BLIP2_UI": "on"}
    report("chaos", settings, lambda server: chaos(server, options.minutes * 60, options.rest))


def chaos(server: Server, seconds: float, rest_s: float) -> dict[str, Any]:
    """Let them loose for so many seconds; returns what the good client noticed, and the books."""
    burst(server)
    alone, before = notice(server.url, _GOOD, 10.0), Books.of(server.pid)
    noticed: list[Noticed] = []
    asking = threading.Thread(target=lambda: noticed.append(notice(server.url, _GOOD, seconds)))
    asking.start()
    answers = let_loose(server.url, seconds)
    asking.join()
    time.sleep(rest_s)
    # The first burst after it may start threads and connections anew, as the one before it did.
    every_slot_is_free = burst(server)
    time.sleep(rest_s / 4)
    during, after = noticed[0], notice(server.url, _GOOD, 10.0)
    return {
        "good": {name: figures(each) for name, each in (("alone", alone), ("during", during), ("after", after))},
        "answers": {name: dict(counts) for name, counts in answers.items()},
        "burst_after": every_slot_is_free,
        "before": asdict(before),
        "gained": dict(Books.of(server.pid).gained(before)),
        "peak_mb": round(Processes(server.pid).peak_mb(), 1),
        "tracebacks": server.log.read_bytes().count(b"Traceback"),
    }


def let_loose(url: str, seconds: float) -> dict[str, Answers]:
    """Run the attacks, phase after phase; returns the answers by attack."""
    total: dict[str, Answers] = {}
    rng, began = random.Random(0), time.monotonic()
    with tqdm(total=round(seconds), unit="s") as progress:
        while (passed := time.monotonic() - began) < seconds:
            progress.update(round(passed) - progress.n)
            for name, answers in phase(url, [*CHAOS, *rng.sample(_GREEDY, 2)], min(PHASE_S, seconds)).items():
                total[name] = total.get(name, Counter()) + answers
    return total


def phase(url: str, names: Sequence[str], seconds: float) -> dict[str, Answers]:
    """Run these attacks at once, each from an address of its own."""
    attackers = [Attacker(url, name, seconds, f"127.0.0.{100 + number}") for number, name in enumerate(names)]
    for attacker in attackers:
        attacker.start()
    return {name: attacker.wait() for name, attacker in zip(names, attackers, strict=True)}


def burst(server: Server) -> dict[str, int]:
    """Ask for 64 captions at once; all are 200 where every slot and place is free."""
    return statuses(closed_loop(server.url, captions(), 64, 2.0))


def captions() -> Iterator[Errand]:
    """Ask for captions of five beams, of one picture after the other."""
    for number in itertools.count():
        yield Errand(multipart("/generate", {"max_new_tokens": "20"}, small_picture(number % 50)))


def figures(noticed: Noticed) -> dict[str, Any]:
    """Report latencies in milliseconds, and statuses."""
    return {
        "p50_ms": round(noticed.p50_ms, 1),
        "p95_ms": round(noticed.p95_ms, 1),
        "max_ms": round(max(noticed.latencies) * 1000, 1),
        "probe_max_ms": round(noticed.probe_s * 1000, 1),
        "statuses": dict(noticed.statuses),
    }


if __name__ == "__main__":
    main()
