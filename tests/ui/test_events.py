"""Errors reach the page in the endpoints' words, and reveal nothing else."""

import gradio as gr
import pytest

from blip2_serve.errors import Busy, InvalidField
from blip2_serve.ui.events import answering


def shown(error: Exception) -> str:
    """Return the message that the page shows for `error`."""
    with pytest.raises(gr.Error) as raised, answering():
        raise error
    return str(raised.value.message)


def test_a_full_queue_is_said() -> None:
    message = "1024 requests are waiting: try again in 3 seconds."
    assert shown(Busy(message, retry_after_s=3.0)) == message


def test_what_a_visitor_typed_is_no_html() -> None:
    assert shown(InvalidField("there is no <img src=x onerror=alert(1)>")) == (
        "there is no &lt;img src=x onerror=alert(1)&gt;"
    )


def test_a_plain_bug_stays_in_the_log() -> None:
    assert "secret" not in shown(KeyError("secret"))
