"""What the product does, in a few verbs and plain values: caption, answer, chat."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from PIL import Image

from blip2_serve.config import Settings, available_cpus
from blip2_serve.errors import Busy, DeadlineExceeded, PromptTooLong
from blip2_serve.images import Picture, load_image
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.reference import FinishReason, Generated, Reference
from blip2_serve.options import DecodingOptions
from blip2_serve.prompts import DEFAULT_QUESTION, Turn, fit_chat, vqa_prompt


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task gives back.

    Attributes:
        text: stripped; never repeats a question.
        new_tokens: tokens that the model wrote, the end token counted.
        dropped_turns: earlier turns of a chat that did not fit into the context.
        timings_s: seconds by stage, for people who look for where the time goes.
    """

    text: str
    new_tokens: int
    finish_reason: FinishReason
    dropped_turns: int = 0
    timings_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text for the model, and how its answer begins (a caption's prefix, else "")."""

    ids: list[int]
    answer_begins: str = ""
    dropped_turns: int = 0


class Tasks:
    """The verbs on one loaded model. Pictures are decoded and the model runs off the event loop."""

    def __init__(self, loaded: LoadedModel, settings: Settings) -> None:
        self._loaded = loaded
        self._settings = settings
        self._reference = Reference(loaded)
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._picture_threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="picture")
        self._in_flight = 0

    @property
    def model_name(self) -> str:
        """What the outside may know the model by."""
        return self._loaded.name

    async def caption(self, image: bytes, prefix: str | None, options: DecodingOptions) -> Answer:
        """A caption; with `prefix`, the caption that begins with it (a Flan-T5 gives what it generates)."""
        return await self._run(image, partial(self._caption_prompt, prefix, options), options)

    async def answer(self, image: bytes, question: str | None, options: DecodingOptions) -> Answer:
        """The answer to one question."""
        prompt = vqa_prompt(question or DEFAULT_QUESTION, self._loaded.family)
        return await self._run(image, partial(self._question_prompt, prompt, options), options)

    async def chat(self, image: bytes, question: str | None, turns: Sequence[Turn], options: DecodingOptions) -> Answer:
        """The answer to a question after earlier turns; the oldest are dropped where the context is full."""
        make_prompt = partial(self._chat_prompt, question or DEFAULT_QUESTION, turns, options)
        return await self._run(image, make_prompt, options)

    def warm_up(self) -> None:
        """Caption a grey picture, so that the first caller does not pay for lazy initialisation."""
        options = DecodingOptions(max_new_tokens=2)
        grey = Image.new("RGB", (self._loaded.image_size, self._loaded.image_size), "grey")
        self._reference.generate(grey, self._loaded.encode_text(""), options)

    def close(self) -> None:
        """Finish what runs, forget what waits."""
        self._picture_threads.shutdown(cancel_futures=True)
        self._model_thread.shutdown(cancel_futures=True)

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

    async def _run(self, image: bytes, make_prompt: Callable[[], Prompt], options: DecodingOptions) -> Answer:
        if self._in_flight >= self._settings.max_queue:
            raise Busy(f"{self._in_flight} requests are waiting: try again in a second.", retry_after_s=1.0)
        self._in_flight += 1
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                return await self._answer(image, make_prompt, options)
        except TimeoutError:
            raise DeadlineExceeded(
                f"The answer took longer than {self._settings.deadline_s:g} s: ask for fewer max_new_tokens,"
                " or try again when the server is less busy."
            ) from None
        finally:
            self._in_flight -= 1

    async def _answer(self, image: bytes, make_prompt: Callable[[], Prompt], options: DecodingOptions) -> Answer:
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        picture, prompt = await loop.run_in_executor(self._picture_threads, self._prepare, image, make_prompt)
        prepared = time.perf_counter()
        generated = await loop.run_in_executor(
            self._model_thread, self._reference.generate, picture.image, prompt.ids, options
        )
        timings = {"prepare": prepared - began, "model": time.perf_counter() - prepared}
        return self._finished(prompt, generated, timings)

    def _prepare(self, image: bytes, make_prompt: Callable[[], Prompt]) -> tuple[Picture, Prompt]:
        prompt = make_prompt()  # first: a text that does not fit is cheaper to refuse than a picture to decode
        return load_image(image, self._settings.max_image_pixels), prompt

    def _finished(self, prompt: Prompt, generated: Generated, timings: dict[str, float]) -> Answer:
        text = prompt.answer_begins + self._loaded.decode_text(generated.ids)
        return Answer(text.strip(), len(generated.ids), generated.finish_reason, prompt.dropped_turns, timings)
