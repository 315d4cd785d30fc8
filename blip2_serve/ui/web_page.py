"""The page's lifetime: opened once the model is loaded, closed with the service; absent without gradio."""

import asyncio
import contextlib
import logging

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from blip2_serve.config import Settings, keep_gradio_files_in
from blip2_serve.tasks.verbs import Tasks
from blip2_serve.ui.calls import Calls
from blip2_serve.ui.door import Door
from blip2_serve.ui.uploads import Uploads

logger = logging.getLogger(__name__)

# Visitors' pictures may fill this many times BLIP2_MAX_REQUEST_BYTES.
_MAX_LARGEST_UPLOADS = 10
_TIDY_EVERY_S = 600.0


class WebPage:
    """An ASGI application that serves the page while open, and answers 404 otherwise."""

    def __init__(self) -> None:
        self._app: ASGIApp = PlainTextResponse(status_code=404)
        self._closing = contextlib.AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the page, if it is open."""
        await self._app(scope, receive, send)

    async def open(self, tasks: Tasks, settings: Settings) -> None:
        """Serve the page if the settings ask for it; log a warning where gradio is missing. Takes two seconds."""
        if settings.ui == "off":
            return
        if not tasks.writes_text:
            logger.info("No page at /ui: it shows captions and answers, and no model writes text here.")
            return
        try:
            await self._open(tasks, settings)
        except ImportError as error:
            logger.warning("No page at /ui: %s. To have it: pip install -r requirements-ui.txt", error)
        except OSError as error:
            logger.warning("No page at /ui: there is no temporary folder to write to (%s).", error)

    async def _open(self, tasks: Tasks, settings: Settings) -> None:
        uploads = Uploads(_MAX_LARGEST_UPLOADS * settings.max_request_bytes)
        self._closing.callback(uploads.remove)
        keep_gradio_files_in(uploads.folder)
        from blip2_serve.ui.layout import gradio_page  # needs gradio

        page = gradio_page(tasks, settings, [uploads.keep_copy(file) for file in settings.examples])
        await self._closing.enter_async_context(page.app.router.lifespan_context(page.app))
        tidying = asyncio.create_task(_tidy(uploads))
        self._closing.callback(tidying.cancel)
        self._app = Door(page.app, uploads, Calls(page.inputs, uploads), page.rest.disturb, settings.frame_policy)

    async def close(self) -> None:
        """Stop gradio's queue and delete visitors' pictures."""
        self._app = PlainTextResponse(status_code=404)
        await self._closing.aclose()


async def _tidy(uploads: Uploads) -> None:
    while True:
        try:
            await asyncio.to_thread(uploads.tidy)
        except OSError as error:  # a full disk or another process tidying: may have passed by the next try
            logger.warning("The pictures of visitors were not tidied: %s", error)
        await asyncio.sleep(_TIDY_EVERY_S)
