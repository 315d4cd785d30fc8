"""Picture and prompt made ready for the engine: fetched, decoded and tokenised, beside the event loop."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from blip2_serve.config import Settings, available_cpus
from blip2_serve.engine.messages import ImageInput, KnownImage
from blip2_serve.errors import DeadlineExceeded, ImageTooLarge, Part
from blip2_serve.images import ImageId, ImageSource, PixelBudget, Upload, load_image, squash
from blip2_serve.images.fetch import ImageFetcher
from blip2_serve.images.pixel_cache import PixelCache
from blip2_serve.images.url_policy import UrlPolicy
from blip2_serve.model.load import LoadedModel
from blip2_serve.tasks.prompt import Prompt

MakePrompt = Callable[[], Prompt]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the engine is to be asked, when it is due (`time.monotonic()`), and the seconds that this took.

    `image_id` is the SHA-256 of the picture's bytes in hex, by which it can be asked about again.
    """

    prompt: Prompt
    image: ImageInput | KnownImage
    image_id: str
    deadline: float
    prepare_s: float


class Preparation:
    """Makes requests ready in picture threads, one a CPU.

    `check_room` raises Busy if the engine has no room for one more request beside so many that are being prepared.
    """

    def __init__(self, loaded: LoadedModel, settings: Settings, check_room: Callable[[int], None]) -> None:
        self._loaded = loaded
        self._settings = settings
        self._check_room = check_room
        self._num_preparing = 0
        self._threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="picture")
        self._pixel_budget = PixelBudget()
        # Where the Q-Former reads the prompt, the image tokens of one question are no use for the next.
        self._seen_pixels = PixelCache(settings.image_cache_bytes)
        self._fetcher = ImageFetcher(UrlPolicy(settings.image_urls), settings.max_request_bytes)

    def close(self) -> None:
        """Let go of the threads; what they have not begun is given up."""
        self._fetcher.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def deadline(self) -> float:
        """When a request that arrives now must have been answered, as `time.monotonic()` tells it."""
        return time.monotonic() + self._settings.deadline_s

    async def prepare(self, image: ImageSource, make_prompt: MakePrompt, deadline: float | None = None) -> Prepared:
        """Fetch, then decode and tokenise in a thread; what waits here counts with what waits in the engine.

        Raises:
            Busy: too many wait.
            DeadlineExceeded: it took too long.
            RequestError: the picture or the text is at fault.
        """
        arrived = time.monotonic()
        deadline = self.deadline() if deadline is None else deadline
        self._check_room(self._num_preparing)
        self._num_preparing += 1
        try:
            async with asyncio.timeout(deadline - arrived), self._fetcher.at_hand(image) as picture:
                made = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._prepare_now, picture, make_prompt, deadline
                )
        except TimeoutError:
            raise DeadlineExceeded("The picture was not read within the deadline: try again later.") from None
        finally:
            self._num_preparing -= 1
        return Prepared(*made, deadline, time.monotonic() - arrived)

    def check_bytes(self, image: ImageSource) -> None:
        """What a picture that is sent alone may not exceed, one among others may not either (nor one that is fetched).

        Raises:
            ImageTooLarge: it does.
        """
        most = self._settings.max_request_bytes
        if isinstance(image, Upload) and image.num_bytes > most:
            raise ImageTooLarge(
                f"The picture has {image.num_bytes} bytes, more than the {most} that are taken: send a smaller one.",
                about=Part.IMAGE,
            )

    def _prepare_now(
        self, image: Upload | ImageId, make_prompt: MakePrompt, deadline: float
    ) -> tuple[Prompt, ImageInput | KnownImage, str]:
        if time.monotonic() > deadline:
            raise TimeoutError  # nobody waits any more; asyncio.timeout has told the caller
        prompt = make_prompt()  # first: a text that does not fit is cheaper to refuse than a picture to decode
        instruction_ids = prompt.instruction_ids
        sha256, pixels = self._pixels_of(image)
        # All that the image tokens depend on: the picture, the checkpoint, and what the Q-Former reads of the prompt.
        read = np.array(instruction_ids, dtype=np.int64).tobytes()
        key = hashlib.sha256(sha256 + self._loaded.fingerprint + read).digest()
        if pixels is None:
            return prompt, KnownImage(key), sha256.hex()
        return prompt, ImageInput(key, pixels, instruction_ids), sha256.hex()

    def _pixels_of(self, image: Upload | ImageId) -> tuple[bytes, bytes | None]:
        """The digest of a picture's bytes, and the picture at the model's size; None where only the id is there."""
        if isinstance(image, ImageId):
            return image.sha256, self._seen_pixels.get(image.sha256)
        with load_image(image.release(), self._settings.max_image_pixels, self._pixel_budget) as picture:
            pixels = squash(picture.image, self._loaded.image_size, self._loaded.image_processor.resample)
        if self._loaded.family.reads_instruction:
            self._seen_pixels.put(picture.sha256, pixels)
        return picture.sha256, pixels
