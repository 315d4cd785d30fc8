"""A run against a server of its own, reported as one dated line of JSON."""

import datetime
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.measure.processes import cpu_name
from tests.support.serving import Server, serve


def report(name: str, settings: Mapping[str, str], measure: Callable[[Server], dict[str, Any]]) -> None:
    """Serve with `settings`, measure, print the line and write it to benchmarks/results/."""
    date = str(datetime.date.today())
    with tempfile.TemporaryDirectory() as home, serve(Path(home), settings) as server:
        line = json.dumps({"date": date, "cpu": cpu_name(), **measure(server)})
    (RESULTS / f"{name}-{settings['BLIP2_MODEL']}-{date}.json").write_text(line + "\n")
    print(line)
