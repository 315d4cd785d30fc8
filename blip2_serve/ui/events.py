"""Options and surroundings shared by all events of the page."""

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
from gradio.context import LocalContext

from blip2_serve.api.errors import public_error
from blip2_serve.clients import NOBODY, current_client
from blip2_serve.ui.door import CLIENT

# Gradio passes raw values, which the endpoints' fields validate, and lists no event in its API.
EVENT = {"preprocess": False, "api_visibility": "private"}


@contextmanager
def answering() -> Iterator[None]:
    """Answer in the name of the visitor who asks; show errors in the words of the endpoints.

    They are escaped, because gradio renders messages as HTML.

    Raises:
        gr.Error: in place of any exception.
    """
    current_client.set(_client())
    try:
        yield
    except Exception as error:
        message = html.escape(public_error(error).message)
        raise gr.Error(message, print_exception=False) from None


def _client() -> str:
    """The client that the door noted: gradio runs an event later than its call, in a context of its own."""
    asked = LocalContext.request.get(None)
    return NOBODY if asked is None or asked.request is None else str(asked.request.scope.get(CLIENT, NOBODY))
