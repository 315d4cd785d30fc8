"""Prepare pictures and prompts for the engine: fetch, then decode and tokenise off the event loop."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from blip2_serve.clients import current_client
from blip2_serve.config import Settings, available_cpus
from blip2_serve.engine.messages import ImageInput, KnownImage
from blip2_serve.errors import DeadlineExceeded, ImageTooLarge, Part
from blip2_serve.images import ImageId, ImageSource, Upload
from blip2_serve.images.decoder_pool import DecoderPool
from blip2_serve.images.fetch import ImageFetcher
from blip2_serve.images.pixel_cache import PixelCache
from blip2_serve.images.url_policy import UrlPolicy
from blip2_serve.model.load import LoadedModel
from blip2_serve.tasks.gate import FairGate
from blip2_serve.tasks.prompt import Prompt

MakePrompt = Callable[[], Prompt]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt and picture for the engine, due at `deadline` (`time.monotonic()`).

    `image_id` is the SHA-256 of the picture's bytes in hex, for asking about it again.
    """

    prompt: Prompt
    image: ImageInput | KnownImage
    image_id: str
    deadline: float
    prepare_s: float


class Preparation:
    """Prepares requests in picture threads, each with a decoder process at hand, in turn between clients."""

    def __init__(self, loaded: LoadedModel, settings: Settings) -> None:
        self._loaded = loaded
        self._settings = settings
        # One more than CPUs: a client alone keeps them all at work, and whoever comes next finds a place.
        num_pictures = available_cpus() + 1
        self._gate = FairGate(num_pictures)
        self._threads = ThreadPoolExecutor(num_pictures, thread_name_prefix="picture")
        self._decoders = DecoderPool(num_pictures, settings.max_image_pixels)
        # Where the Q-Former reads the prompt, one question's image tokens are useless for the next: keep pixels.
        self._seen_pixels = PixelCache(settings.image_cache_bytes)
        self._fetcher = ImageFetcher(UrlPolicy(settings.image_urls), settings.max_request_bytes)

    def start_decoders(self) -> None:
        """Start the processes that decode pictures, which would otherwise start with the first of them."""
        self._decoders.start()

    def close(self) -> None:
        """Release threads and processes; work that has not begun is dropped."""
        self._fetcher.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._decoders.close()

    def deadline(self) -> float:
        """The deadline of a request that arrives now, a `time.monotonic()` instant."""
        return time.monotonic() + self._settings.deadline_s

    async def prepare(self, image: ImageSource, make_prompt: MakePrompt, deadline: float | None = None) -> Prepared:
        """Fetch, then decode and tokenise in a thread.

        Raises:
            DeadlineExceeded: preparation took too long.
            RequestError: the picture or the text is at fault.
        """
        arrived = time.monotonic()
        deadline = self.deadline() if deadline is None else deadline
        try:
            async with (
                asyncio.timeout(deadline - arrived),
                self._fetcher.at_hand(image) as picture,
                self._gate.place(current_client.get()),
            ):
                made = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._prepare_now, picture, make_prompt, deadline
                )
        except TimeoutError:
            raise DeadlineExceeded("The picture was not read within the deadline: try again later.") from None
        return Prepared(*made, deadline, time.monotonic() - arrived)

    def check_bytes(self, image: ImageSource) -> None:
        """Hold one picture among others to the limit for a picture sent alone, as `ImageFetcher` does.

        Raises:
            ImageTooLarge: the picture has more bytes.
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
            raise TimeoutError  # asyncio.timeout has told the caller, and nobody waits any more
        prompt = make_prompt()  # first: refusing a long text is cheaper than decoding a picture
        instruction_ids = prompt.instruction_ids
        sha256, pixels = self._pixels_of(image)
        # Everything the image tokens depend on: the picture, the checkpoint, and the Q-Former's share of the prompt.
        read = np.array(instruction_ids, dtype=np.int64).tobytes()
        key = hashlib.sha256(sha256 + self._loaded.fingerprint + read).digest()
        if pixels is None:
            return prompt, KnownImage(key), sha256.hex()
        return prompt, ImageInput(key, pixels, instruction_ids), sha256.hex()

    def _pixels_of(self, image: Upload | ImageId) -> tuple[bytes, bytes | None]:
        """The digest of a picture's bytes, and its pixels at the model's size (None if only the id is known)."""
        if isinstance(image, ImageId):
            return image.sha256, self._seen_pixels.get(image.sha256)
        data = image.release()
        pixels = self._decoders.decode(data, self._loaded.image_size, self._loaded.image_processor.resample)
        sha256 = hashlib.sha256(data).digest()
        if self._loaded.family.reads_instruction:
            self._seen_pixels.put(sha256, pixels)
        return sha256, pixels
