"""Prepare pictures and prompts for the engine: fetch, then decode and tokenise off the event loop."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from blip2_serve.clients import current_client
from blip2_serve.config import Settings
from blip2_serve.engine.messages import ImageInput, KnownImage, ReaderName
from blip2_serve.errors import DeadlineExceeded, ImageTooLarge, Part
from blip2_serve.images import ImageId, ImageSource, Upload
from blip2_serve.images.decoder_pool import DecoderPool, Squashed
from blip2_serve.images.pixel_cache import PixelCache
from blip2_serve.images.reading import Reading
from blip2_serve.images.remote.fetch import ImageFetcher
from blip2_serve.images.remote.url_policy import UrlPolicy
from blip2_serve.images.truncated import TruncatedPictures
from blip2_serve.machine import available_cpus
from blip2_serve.tasks.lens import CAPTION, Lens, Look
from blip2_serve.tasks.load.gate import FairGate
from blip2_serve.tasks.prompt import Prompt

MakePrompt = Callable[[], Prompt]
EncodedT = TypeVar("EncodedT")
_TOO_LATE = "The request was not read within the deadline: try again later."


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt and a picture for the engine, due at `deadline` (`time.monotonic()`).

    `images` are the picture as each model wants it. `image_id` is the SHA-256 of its bytes in hex, for asking about it
    again.
    """

    prompt: Prompt
    images: dict[ReaderName, ImageInput | KnownImage]
    image_id: str
    deadline: float
    prepare_s: float


class Preparation:
    """Prepares requests in picture threads, each with a decoder process at hand, in turn between clients."""

    def __init__(self, lenses: Mapping[ReaderName, Lens], settings: Settings) -> None:
        self._lenses = lenses
        self._settings = settings
        # One more than CPUs: a client alone keeps them all at work, and whoever comes next finds a place.
        num_pictures = available_cpus() + 1
        self._gate = FairGate(num_pictures)
        self._threads = ThreadPoolExecutor(num_pictures, thread_name_prefix="picture")
        self._decoders = DecoderPool(num_pictures, settings.max_image_pixels, Reading.of(settings))
        self._truncated = TruncatedPictures()
        # Where the Q-Former reads the prompt, one question's image tokens are useless for the next: keep pixels.
        self._seen_pixels = PixelCache(settings.image_cache_bytes)
        self._fetcher = ImageFetcher(
            UrlPolicy(settings.image_urls), settings.max_request_bytes, user_agent=settings.user_agent
        )

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

    async def prepare(
        self,
        image: ImageSource,
        make_prompt: MakePrompt,
        deadline: float | None = None,
        readers: Collection[ReaderName] = CAPTION,
    ) -> Prepared:
        """Fetch, then decode and tokenise in a thread, for the models that are to read the picture.

        Raises:
            DeadlineExceeded: preparation took too long.
            RequestError: the picture or the text is at fault.
        """
        arrived = time.monotonic()
        deadline = self.deadline() if deadline is None else deadline
        try:
            async with asyncio.timeout(deadline - arrived), self._fetcher.at_hand(image) as picture:
                prepare = partial(self._prepare_now, picture, make_prompt, deadline, readers)
                prompt, images, sha256, is_truncated = await self._in_turn(prepare)
        except TimeoutError:
            raise DeadlineExceeded(_TOO_LATE) from None
        self._truncated.tell(sha256, is_truncated)
        return Prepared(prompt, images, sha256.hex(), deadline, time.monotonic() - arrived)

    async def encode(self, encode: Callable[[], EncodedT], deadline: float) -> EncodedT:
        """Tokenise texts in a thread, in turn with pictures.

        Raises:
            DeadlineExceeded: it took too long.
            RequestError: a text is at fault.
        """
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._in_turn(encode)
        except TimeoutError:
            raise DeadlineExceeded(_TOO_LATE) from None

    async def _in_turn(self, run: Callable[[], EncodedT]) -> EncodedT:
        async with self._gate.place(current_client.get()):
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)

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
        self, image: Upload | ImageId, make_prompt: MakePrompt, deadline: float, readers: Collection[ReaderName]
    ) -> tuple[Prompt, dict[ReaderName, ImageInput | KnownImage], bytes, bool]:
        if time.monotonic() > deadline:
            raise TimeoutError  # asyncio.timeout has told the caller, and nobody waits any more
        prompt = make_prompt()  # first: refusing a long text is cheaper than decoding a picture
        lenses, is_truncated = [self._lenses[reader] for reader in readers], False
        if isinstance(image, ImageId):
            sha256, pixels = image.sha256, self._pixels_seen_before(image, lenses)
        else:
            data = image.release()
            sha256, decoded = hashlib.sha256(data).digest(), self._decode(data, lenses)
            pixels = {look: squashed.pixels for look, squashed in decoded.items()}
            is_truncated = any(squashed.is_truncated for squashed in decoded.values())
            self._keep_pixels(sha256, pixels)
        images = {lens.reader: lens.image(sha256, pixels.get(lens.look), prompt.instruction_ids) for lens in lenses}
        return prompt, images, sha256, is_truncated

    def _decode(self, data: bytes, lenses: Collection[Lens]) -> dict[Look, Squashed]:
        """Pixels for each size that is wanted, mostly a single one."""
        return {look: self._decoders.decode(data, *look) for look in dict.fromkeys(lens.look for lens in lenses)}

    def _pixels_seen_before(self, image: ImageId, lenses: Collection[Lens]) -> dict[Look, bytes]:
        pixels = self._seen_pixels.get(image.sha256)
        return {} if pixels is None else {lens.look: pixels for lens in lenses if lens.reads_instruction}

    def _keep_pixels(self, sha256: bytes, pixels: Mapping[Look, bytes]) -> None:
        for lens in self._lenses.values():
            if lens.reads_instruction and lens.look in pixels:
                self._seen_pixels.put(sha256, pixels[lens.look])
