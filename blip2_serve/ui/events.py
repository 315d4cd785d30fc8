"""Common to all events of the page: their options, and errors as messages."""

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from blip2_serve.api.errors import public_error

# The endpoints' fields check the values, not gradio; nothing appears in gradio's API.
EVENT = {"preprocess": False, "api_visibility": "private"}


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show the message that a caller of the endpoints would get, escaped: gradio takes it for HTML."""
    try:
        yield
    except Exception as error:
        message = html.escape(public_error(error).message)
        raise gr.Error(message, print_exception=False) from None
