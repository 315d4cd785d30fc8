"""A good client: asks for one caption after the other, and looks at the probe, while others do what they do."""

import http.client
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.measure.posts import Post

ADDRESS = "127.0.0.2"
"""The address that it calls from; attackers call from others."""
_PAUSE_S = 0.05
_PATIENCE_S = 120.0


@dataclass
class Noticed:
    """Seconds that each answer took, statuses, and the longest that the probe took."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    probe_s: float = 0.0

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.latencies) * 1000

    @property
    def p95_ms(self) -> float:
        return statistics.quantiles(self.latencies, n=20)[-1] * 1000 if len(self.latencies) > 1 else self.p50_ms


def notice(url: str, post: Post, seconds: float) -> Noticed:
    """Ask for so many seconds."""
    noticed, until = Noticed(), time.monotonic() + seconds
    probing = threading.Thread(target=_probe, args=(url, until, noticed))
    probing.start()
    while time.monotonic() < until:
        began = time.monotonic()
        noticed.statuses[_status(url, "POST", post.path, post.body, post.content_type)] += 1
        noticed.latencies.append(time.monotonic() - began)
        time.sleep(_PAUSE_S)
    probing.join()
    return noticed


def _probe(url: str, until: float, noticed: Noticed) -> None:
    while time.monotonic() < until:
        began = time.monotonic()
        _status(url, "GET", "/livez")
        noticed.probe_s = max(noticed.probe_s, time.monotonic() - began)
        time.sleep(0.1)


def _status(url: str, method: str, path: str, body: bytes | None = None, content_type: str = "") -> int:
    """Ask once, on a connection of its own; 0 for no answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE_S, source_address=(ADDRESS, 0))
    try:
        connection.request(method, path, body, {"Content-Type": content_type} if body else {})
        reply = connection.getresponse()
        reply.read()
        return reply.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
