"""A connection that waits between two requests."""

import contextlib
import http.client
import time


def survives_idling(url: str, seconds: float = 8) -> bool:
    """True if the second request goes over the connection of the first; uvicorn's own patience is 5 s."""
    with contextlib.closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)) as connection:
        connection.request("GET", "/livez")
        connection.getresponse().read()
        ours = connection.sock.getsockname()
        time.sleep(seconds)
        connection.request("GET", "/livez")
        return connection.getresponse().read() == b"\n" and connection.sock.getsockname() == ours
