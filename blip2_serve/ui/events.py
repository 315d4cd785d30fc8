"""Options and error handling shared by all events of the page."""

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from blip2_serve.api.errors import public_error

# Gradio passes raw values, which the endpoints' fields validate, and lists no event in its API.
EVENT = {"preprocess": False, "api_visibility": "private"}


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show errors in the words of the endpoints, escaped, because gradio renders messages as HTML.

    Raises:
        gr.Error: in place of any exception.
    """
    try:
        yield
    except Exception as error:
        message = html.escape(public_error(error).message)
        raise gr.Error(message, print_exception=False) from None
