"""Gradio's queue as we need it: at rest while nobody is here, and bounded in what it keeps for visitors."""

import asyncio
from typing import Any

import gradio as gr
from gradio.queueing import Queue
from gradio.utils import LRUCache

# A visitor that has been quiet for so long waits up to _REST_S for the next answer to begin.
_AWAKE_S = 60.0
# Gradio 6.31 looks for calls a thousand times a second, at 4.7 % of a core, and for progress, which we never report.
_LOOK_EVERY_S = 0.01
_REST_S = 0.25
_HOURLY_S = 3600.0
# Of each session gradio keeps the whole page, 0.9 MB, and the answers that nobody has fetched.
MAX_SESSIONS = 32
_MAX_UNREAD_SESSIONS = 256


def bound_sessions(page: gr.Blocks) -> None:
    """Keep few sessions; to be called before gradio's application is built."""
    page.state_session_capacity = MAX_SESSIONS
    page._queue.pending_messages_per_session = _Unread(page._queue)
    page._queue.progress_update_sleep_when_free = _HOURLY_S
    page._queue.sleep_when_free = _REST_S


class _Unread(LRUCache[str, Any]):  # type: ignore[misc]  # gradio has no types here
    """Messages that nobody has fetched, by session; what else the queue keeps of a session goes with them."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(_MAX_UNREAD_SESSIONS)
        self._queue = queue

    def popitem(self, last: bool = True) -> tuple[str, Any]:
        session, messages = super().popitem(last)
        self._queue.pending_event_ids_session.pop(session, None)
        return session, messages


class Rest:
    """Lets the queue look for calls seldom while nobody asks anything."""

    def __init__(self, page: gr.Blocks) -> None:
        self._queue = page._queue
        self._falling_asleep: asyncio.TimerHandle | None = None

    def disturb(self) -> None:
        """Look often for a while: a visitor is here."""
        if self._falling_asleep is not None:
            self._falling_asleep.cancel()
        self._queue.sleep_when_free = _LOOK_EVERY_S
        self._falling_asleep = asyncio.get_running_loop().call_later(_AWAKE_S, self._fall_asleep)

    def _fall_asleep(self) -> None:
        self._queue.sleep_when_free = _REST_S
