"""What all events of the page have in common."""

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from blip2_serve.api.errors import public_error

# Values come as they were sent and are judged by the fields of the endpoints; nothing appears in gradio's API.
EVENT = {"preprocess": False, "api_visibility": "private"}


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show what a caller of the endpoints would be told; gradio takes the message for HTML."""
    try:
        yield
    except Exception as error:
        message = html.escape(public_error(error).message)
        raise gr.Error(message, print_exception=False) from None
