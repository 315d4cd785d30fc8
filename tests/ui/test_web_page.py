"""The page's folder is tidied as long as the page is open."""

import asyncio
from typing import cast

import pytest

from blip2_serve.ui import web_page
from blip2_serve.ui.uploads import Uploads


class Untidy:
    """A folder that can be tidied only at the third try."""

    def __init__(self) -> None:
        self.tries = 0
        self.tidied = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def tidy(self) -> None:
        self.tries += 1
        if self.tries < 3:
            raise PermissionError("not now")
        self._loop.call_soon_threadsafe(self.tidied.set)


def test_tidying_goes_on_after_it_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_page, "_TIDY_EVERY_S", 0.01)

    async def run() -> int:
        uploads = Untidy()
        tidying = asyncio.create_task(web_page._tidy(cast(Uploads, uploads)))
        await asyncio.wait_for(uploads.tidied.wait(), 10)
        tidying.cancel()
        return uploads.tries

    assert asyncio.run(run()) >= 3
