"""What the product does, in a few verbs and plain values: caption, answer, chat."""

import asyncio
import hashlib
import io
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from PIL import Image

from blip2_serve.config import Settings, available_cpus
from blip2_serve.engine.build import build_engine
from blip2_serve.engine.request import Event, Failed, Finished, ImageInput, KnownImage, Request
from blip2_serve.errors import Busy, DeadlineExceeded, PromptTooLong
from blip2_serve.images import ImageId, ImageSource, PixelBudget, Upload, load_image, squash
from blip2_serve.images.fetch import ImageFetcher
from blip2_serve.images.url_policy import UrlPolicy
from blip2_serve.model.load import LoadedModel
from blip2_serve.options import DecodingOptions, FinishReason
from blip2_serve.prompts import DEFAULT_QUESTION, Turn, fit_chat, vqa_prompt


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task gives back.

    Attributes:
        text: stripped; never repeats a question.
        image_id: SHA-256 of the picture's bytes in hex, by which it can be asked about again.
        new_tokens: tokens that the model wrote, the end token counted.
        dropped_turns: earlier turns of a chat that did not fit into the context; None where there can be none.
        timings_s: seconds by stage, for people who look for where the time goes.
    """

    text: str
    image_id: str
    new_tokens: int
    finish_reason: FinishReason
    dropped_turns: int | None = None
    timings_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text for the model, and how its answer begins (a caption's prefix, else "")."""

    ids: list[int]
    answer_begins: str = ""
    dropped_turns: int | None = None


class Tasks:
    """The verbs on one loaded model. Pictures are decoded in threads, the engine runs in its own."""

    def __init__(self, loaded: LoadedModel, settings: Settings) -> None:
        self._loaded = loaded
        self._settings = settings
        self._picture_threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="picture")
        self._pixel_budget = PixelBudget()
        self._fetcher = ImageFetcher(UrlPolicy(settings.image_urls), settings.max_request_bytes)
        self._request_ids = itertools.count()
        self._num_preparing = 0
        self._engine = build_engine(loaded, settings)
        self._engine.start()

    @property
    def is_alive(self) -> bool:
        """False once the engine's loop has stopped or hangs: nothing will be answered any more."""
        return self._engine.is_alive

    @property
    def model_name(self) -> str:
        """What the outside may know the model by."""
        return self._loaded.name

    async def caption(self, image: ImageSource, prefix: str | None, options: DecodingOptions) -> Answer:
        """A caption; with `prefix`, the caption that begins with it (a Flan-T5 gives what it generates)."""
        return await self._run(image, partial(self._caption_prompt, prefix, options), options)

    async def answer(self, image: ImageSource, question: str | None, options: DecodingOptions) -> Answer:
        """The answer to one question."""
        prompt = vqa_prompt(question or DEFAULT_QUESTION, self._loaded.family)
        return await self._run(image, partial(self._question_prompt, prompt, options), options)

    async def chat(
        self, image: ImageSource, question: str | None, turns: Sequence[Turn], options: DecodingOptions
    ) -> Answer:
        """The answer to a question after earlier turns; the oldest are dropped where the context is full."""
        make_prompt = partial(self._chat_prompt, question or DEFAULT_QUESTION, turns, options)
        return await self._run(image, make_prompt, options)

    async def warm_up(self) -> None:
        """Caption a grey picture greedily and with beams: the first caller must not pay for lazy initialisation."""
        grey = io.BytesIO()
        Image.new("RGB", (8, 8), "grey").save(grey, "PNG")
        for num_beams in (1, 5):
            await self.caption(Upload(grey.getvalue()), None, DecodingOptions(max_new_tokens=2, num_beams=num_beams))

    def close(self) -> None:
        """Stop the engine; whoever still waits is told so."""
        self._fetcher.close()
        self._picture_threads.shutdown(wait=False, cancel_futures=True)
        self._engine.stop()

    def _caption_prompt(self, prefix: str | None, options: DecodingOptions) -> Prompt:
        ids = self._encode(prefix or self._loaded.caption_prompt, options)
        echoed = prefix if prefix and self._loaded.family == "opt" else ""
        return Prompt(ids, answer_begins=echoed)

    def _question_prompt(self, prompt: str, options: DecodingOptions) -> Prompt:
        return Prompt(self._encode(prompt, options))

    def _chat_prompt(self, question: str, turns: Sequence[Turn], options: DecodingOptions) -> Prompt:
        room = self._room(options)
        text, dropped = fit_chat(turns, question, lambda prompt: len(self._loaded.encode_text(prompt)) <= room)
        return Prompt(self._encode(text, options), dropped_turns=dropped)

    def _encode(self, text: str, options: DecodingOptions) -> list[int]:
        ids = self._loaded.encode_text(text)
        room = self._room(options)
        if len(ids) > room:
            raise PromptTooLong(
                f"The text takes {len(ids)} tokens and {room} are left of the context of"
                f" {self._loaded.max_context_tokens}: shorten txt or ask for fewer max_new_tokens.",
                param="txt",
            )
        return ids

    def _room(self, options: DecodingOptions) -> int:
        """Tokens that the context leaves for the prompt."""
        return self._loaded.max_context_tokens - self._loaded.num_query_tokens - options.max_new_tokens

    async def _run(self, image: ImageSource, make_prompt: Callable[[], Prompt], options: DecodingOptions) -> Answer:
        arrived = time.monotonic()
        deadline = arrived + self._settings.deadline_s
        prompt, picture, image_id = await self._prepare(image, make_prompt, deadline)
        prepare_s = time.monotonic() - arrived
        request = Request(next(self._request_ids), picture, tuple(prompt.ids), options, deadline=deadline)
        return self._answer(prompt, image_id, await self._generate(request), prepare_s)

    async def _prepare(
        self, image: ImageSource, make_prompt: Callable[[], Prompt], deadline: float
    ) -> tuple[Prompt, ImageInput | KnownImage, str]:
        """Fetch, then decode and tokenise in a thread; what waits here counts with what waits in the engine."""
        if self._num_preparing + self._engine.stats().num_waiting >= self._settings.max_queue:
            raise Busy(f"{self._settings.max_queue} requests are waiting: try again in a second.", retry_after_s=1.0)
        self._num_preparing += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()), self._fetcher.at_hand(image) as picture:
                return await asyncio.get_running_loop().run_in_executor(
                    self._picture_threads, self._prepare_now, picture, make_prompt, deadline
                )
        except TimeoutError:
            raise DeadlineExceeded("The picture was not read within the deadline: try again later.") from None
        finally:
            self._num_preparing -= 1

    def _prepare_now(
        self, image: Upload | ImageId, make_prompt: Callable[[], Prompt], deadline: float
    ) -> tuple[Prompt, ImageInput | KnownImage, str]:
        if time.monotonic() > deadline:
            raise TimeoutError  # nobody waits any more; asyncio.timeout has told the caller
        prompt = make_prompt()  # first: a text that does not fit is cheaper to refuse than a picture to decode
        if isinstance(image, ImageId):
            return prompt, KnownImage(self._image_key(image.sha256)), image.sha256.hex()
        with load_image(image.take(), self._settings.max_image_pixels, self._pixel_budget) as picture:
            pixels = squash(picture.image, self._loaded.image_size, self._loaded.image_processor.resample)
        return prompt, ImageInput(self._image_key(picture.sha256), pixels), picture.sha256.hex()

    def _image_key(self, sha256: bytes) -> bytes:
        return hashlib.sha256(sha256 + self._loaded.fingerprint).digest()

    async def _generate(self, request: Request) -> Finished:
        """Hand a request to the engine's thread and wait; a caller that is cancelled takes its request along."""
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[Finished] = loop.create_future()

        def deliver(event: Event) -> None:
            loop.call_soon_threadsafe(_settle, finished, event)

        self._engine.submit(request, deliver)
        try:
            return await finished
        except asyncio.CancelledError:
            self._engine.cancel(request.request_id)
            raise

    def _answer(self, prompt: Prompt, image_id: str, finished: Finished, prepare_s: float) -> Answer:
        best, timings = finished.completions[0], finished.timings
        text = prompt.answer_begins + self._loaded.decode_text(list(best.ids))
        stages = {
            "prepare": prepare_s,
            "image": timings.image_s,
            "queue": timings.queue_s,
            "decode": timings.decode_s,
        }
        return Answer(text.strip(), image_id, len(best.ids), best.finish_reason, prompt.dropped_turns, stages)


def _settle(finished: asyncio.Future[Finished], event: Event) -> None:
    if finished.done():
        return
    if isinstance(event, Failed):
        finished.set_exception(event.error)
    elif isinstance(event, Finished):
        finished.set_result(event)
