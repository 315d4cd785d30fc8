"""Attack the real server, and measure what a good client notices of it.

`make measure-hostile` (ten minutes): each attack of benchmarks/hostile/attacks.py comes from an address of its own, for
20 seconds, between two times alone. Prints a line for each, and writes benchmarks/results/hostile-<model>-<date>.json.
"""

import argparse
import datetime
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import RESULTS
from benchmarks.hostile.attacker import Attacker
from benchmarks.hostile.attacks import ATTACKS, small_picture
from benchmarks.hostile.victim import Noticed, notice
from benchmarks.measure.posts import multipart
from benchmarks.measure.processes import Processes, cpu_name
from tests.support.serving import Server, serve

_GOOD = multipart("/generate", {"num_beams": "1", "max_new_tokens": "20"}, small_picture(900))
_SETTLE_S = 2.0


def main() -> None:
    """Run the attacks and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--give-back", type=float, default=60.0, help="seconds until memory is read again")
    parser.add_argument("attacks", nargs="*", default=list(ATTACKS))
    options = parser.parse_args()
    date = datetime.datetime.now().astimezone().date()
    lines = []
    for name in tqdm(options.attacks, unit="attack"):
        with tempfile.TemporaryDirectory() as home, serve(Path(home), _settings(options.model)) as server:
            lines.append({"date": str(date), "cpu": cpu_name(), "attack": name, **_attacked(server, name, options)})
        tqdm.write(json.dumps(lines[-1]))
    (RESULTS / f"hostile-{options.model}-{date}.json").write_text("\n".join(map(json.dumps, lines)) + "\n")


def _settings(model: str) -> dict[str, str]:
    return {"BLIP2_MODEL": model, "BLIP2_UI": "on"}


def _attacked(server: Server, name: str, options: argparse.Namespace) -> dict[str, Any]:
    processes = Processes(server.pid)
    notice(server.url, _GOOD, 3.0)
    alone = notice(server.url, _GOOD, options.seconds / 2)
    quiet_mb, log_bytes = processes.resident_mb(), server.log.stat().st_size
    attacker = Attacker(server.url, name, options.seconds + _SETTLE_S)
    attacker.start()
    time.sleep(_SETTLE_S)
    attacked = notice(server.url, _GOOD, options.seconds)
    answers = attacker.wait()
    log = server.log.read_bytes()[log_bytes:]
    after = notice(server.url, _GOOD, options.seconds / 2)
    time.sleep(max(0.0, options.give_back - options.seconds / 2))
    return {
        "alone": _figures(alone),
        "attacked": _figures(attacked),
        "after": _figures(after),
        "p50_ratio": round(attacked.p50_ms / alone.p50_ms, 2),
        "p95_ratio": round(attacked.p95_ms / alone.p95_ms, 2),
        "answers": dict(answers),
        "resident_mb": {"quiet": quiet_mb, "peak": processes.peak_mb(), "given_back": processes.resident_mb()},
        "log": {"bytes": len(log), "tracebacks": log.count(b"Traceback")},
    }


def _figures(noticed: Noticed) -> dict[str, Any]:
    return {
        "p50_ms": round(noticed.p50_ms, 1),
        "p95_ms": round(noticed.p95_ms, 1),
        "probe_ms": round(noticed.probe_s * 1000, 1),
        "statuses": dict(noticed.statuses),
    }


if __name__ == "__main__":
    main()
