"""What the product does, in a few verbs and plain values: caption, answer, chat, captions, choose, batch, complete."""

import asyncio
import hashlib
import io
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from PIL import Image

from blip2_serve.batches import answer_each, places, together
from blip2_serve.captions import ScoredCaption, scored_captions, several
from blip2_serve.choices import Choice, Ids, Normalize, encode_choice, in_order, in_rounds, rank
from blip2_serve.completions import Ask, Completions, Piece, StrippedText, Wanted
from blip2_serve.config import Settings, available_cpus
from blip2_serve.engine.build import build_engine
from blip2_serve.engine.request import Completion, Delta, Event, Failed, Finished, ImageInput, Request
from blip2_serve.errors import Blip2Error, Busy, DeadlineExceeded, ImageTooLarge, PromptTooLong
from blip2_serve.images import PixelBudget, Upload, load_image, squash
from blip2_serve.model.load import LoadedModel
from blip2_serve.options import MAX_NEW_TOKENS, DecodingOptions, FinishReason
from blip2_serve.prompts import DEFAULT_QUESTION, Family, Turn, fit_chat, vqa_prompt
from blip2_serve.transcript import Transcript

BatchTask = Literal["caption", "vqa"]
TEXT_ONLY = Wanted()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task gives back.

    Attributes:
        text: stripped; never repeats a question.
        image_id: SHA-256 of the uploaded bytes, in hexadecimal.
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
    """Text for the model, and how its answer begins (a caption's prefix, else ""), or the answers that are given."""

    ids: list[int]
    answer_begins: str = ""
    dropped_turns: int | None = None
    continuations: tuple[Ids, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Prompt and picture, ready for the engine, the `time.monotonic()` they are due, and the seconds this took."""

    prompt: Prompt
    image: ImageInput
    image_id: str
    deadline: float
    prepare_s: float


class Tasks:
    """The verbs on one loaded model. Pictures are decoded in threads, the engine runs in its own."""

    def __init__(self, loaded: LoadedModel, settings: Settings) -> None:
        self._loaded = loaded
        self._settings = settings
        self._picture_threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="picture")
        self._pixel_budget = PixelBudget()
        self._request_ids = itertools.count()
        self._num_preparing = 0
        self._batch_places = places(settings.max_queue)
        self._transcript = Transcript(loaded)
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

    @property
    def family(self) -> Family:
        """Which language model answers: templates and some defaults differ."""
        return self._loaded.family

    async def caption(
        self, image: Upload, prefix: str | None, options: DecodingOptions, deadline: float | None = None
    ) -> Answer:
        """A caption; with `prefix`, the caption that begins with it (a Flan-T5 gives what it generates)."""
        return await self._ask(image, Ask("prefix", prefix), options, deadline)

    async def answer(
        self, image: Upload, question: str | None, options: DecodingOptions, deadline: float | None = None
    ) -> Answer:
        """The answer to one question."""
        return await self._ask(image, Ask("vqa", question), options, deadline)

    async def chat(
        self, image: Upload, question: str | None, turns: Sequence[Turn], options: DecodingOptions
    ) -> Answer:
        """The answer to a question after earlier turns; the oldest are dropped where the context is full."""
        return await self._ask(image, Ask("chat", question, turns), options)

    async def captions(
        self, image: Upload, prefix: str | None, num_captions: int, options: DecodingOptions
    ) -> list[ScoredCaption]:
        """At most `num_captions` different captions, best first; see `captions.scored_captions`."""
        options = several(options, num_captions)
        prepared = await self._prepare(image, partial(self._caption_prompt, prefix, options))

        async def ask(options: DecodingOptions) -> tuple[Completion, ...]:
            return (await self._generate(self._request(prepared, options))).completions

        return await scored_captions(ask, partial(self._transcript.text, prepared.prompt.answer_begins), options)

    async def choose(
        self, image: Upload, question: str | None, choices: Sequence[str], normalize: Normalize = "sum"
    ) -> list[Choice]:
        """How likely each of `choices` is as the answer to the question, most probable first."""
        texts = in_order(choices)
        prepared = await self._prepare(image, partial(self._choices_prompt, question, texts))
        requests = []
        for continuations in in_rounds(prepared.prompt.continuations):
            options = DecodingOptions(max_new_tokens=max(map(len, continuations)), num_beams=1)
            requests.append(self._request(prepared, options, continuations=continuations))
        finished = await together([self._generate(request) for request in requests])
        return rank(texts, [completion for each in finished for completion in each.completions], normalize)

    async def batch(
        self,
        images: Sequence[Upload | Blip2Error],
        texts: Sequence[str | None],
        task: BatchTask,
        options: DecodingOptions,
    ) -> list[Answer | Blip2Error]:
        """A caption or an answer for each picture with its text, or what is wrong with that picture."""
        deadline = self._deadline()
        verb = {"caption": self.caption, "vqa": self.answer}[task]

        async def ask(pair: tuple[Upload | Blip2Error, str | None]) -> Answer:
            image, text = pair
            if isinstance(image, Blip2Error):
                raise image
            self._check_bytes(image)
            return await verb(image, text, options, deadline)

        return await answer_each(list(zip(images, texts, strict=True)), ask, self._batch_places)

    async def complete(self, image: Upload, ask: Ask, options: DecodingOptions, wanted: Wanted) -> Completions:
        """All `num_return_sequences` answers, with their tokens."""
        prepared = await self._prepare(image, partial(self._prompt, ask, options))
        return self._completions(prepared, await self._generate(self._request(prepared, options, wanted)))

    async def stream(
        self, image: Upload, ask: Ask, options: DecodingOptions, wanted: Wanted
    ) -> AsyncGenerator[Piece | Completions, None]:
        """The same as it grows: a `Piece` for every token, and at last what `complete` would have given.

        The texts of the pieces join to the text of the completion. Who stops listening closes the generator, which
        takes the request out of the engine.
        """
        prepared = await self._prepare(image, partial(self._prompt, ask, options))
        request = self._request(prepared, options, wanted, stream=True)
        texts = [StrippedText(prepared.prompt.answer_begins) for _ in range(request.num_rows)]
        async with aclosing(self._events(request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    yield self._completions(prepared, event)
                else:
                    text = texts[event.row].push(event.text)
                    yield Piece(event.row, text, self._transcript.token(event))

    async def warm_up(self) -> None:
        """Caption a grey picture greedily and with beams: the first caller must not pay for lazy initialisation."""
        grey = io.BytesIO()
        Image.new("RGB", (8, 8), "grey").save(grey, "PNG")
        for num_beams in (1, 5):
            await self.caption(Upload(grey.getvalue()), None, DecodingOptions(max_new_tokens=2, num_beams=num_beams))

    def close(self) -> None:
        """Stop the engine; whoever still waits is told so."""
        self._picture_threads.shutdown(wait=False, cancel_futures=True)
        self._engine.stop()

    def _prompt(self, ask: Ask, options: DecodingOptions) -> Prompt:
        if ask.task == "chat":
            return self._chat_prompt(ask.text or DEFAULT_QUESTION, ask.turns, options)
        if ask.task == "vqa":
            return self._question_prompt(vqa_prompt(ask.text or DEFAULT_QUESTION, self.family), options)
        return self._caption_prompt(ask.text, options)

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

    def _choices_prompt(self, question: str | None, texts: Sequence[str]) -> Prompt:
        continuations = tuple(encode_choice(self._loaded, text) for text in texts)
        longest = max(map(len, continuations))
        if longest > MAX_NEW_TOKENS:
            raise PromptTooLong(
                f"The longest choice takes {longest} tokens, more than {MAX_NEW_TOKENS}: shorten it.", param="choices"
            )
        prompt = vqa_prompt(question or DEFAULT_QUESTION, self._loaded.family)
        ids = self._encode(prompt, DecodingOptions(max_new_tokens=longest), "the choices")
        return Prompt(ids, continuations=continuations)

    def _encode(self, text: str, options: DecodingOptions, or_else: str = "ask for fewer max_new_tokens") -> list[int]:
        ids = self._loaded.encode_text(text)
        room = self._room(options)
        if len(ids) > room:
            raise PromptTooLong(
                f"The text takes {len(ids)} tokens and {room} are left of the context of"
                f" {self._loaded.max_context_tokens}: shorten txt or {or_else}.",
                param="txt",
            )
        return ids

    def _room(self, options: DecodingOptions) -> int:
        """Tokens that the context leaves for the prompt."""
        return self._loaded.max_context_tokens - self._loaded.num_query_tokens - options.max_new_tokens

    def _deadline(self) -> float:
        """When a request that arrives now must have been answered, as `time.monotonic()` tells it."""
        return time.monotonic() + self._settings.deadline_s

    def _check_bytes(self, image: Upload) -> None:
        """What a picture that is sent alone may not exceed, one in a batch may not either."""
        most = self._settings.max_request_bytes
        if image.num_bytes > most:
            raise ImageTooLarge(
                f"The picture has {image.num_bytes} bytes, more than the {most} that are taken: send a smaller one.",
                param="img",
            )

    async def _ask(self, image: Upload, ask: Ask, options: DecodingOptions, deadline: float | None = None) -> Answer:
        prepared = await self._prepare(image, partial(self._prompt, ask, options), deadline)
        return self._answer(prepared, await self._generate(self._request(prepared, options)))

    def _request(
        self,
        prepared: Prepared,
        options: DecodingOptions,
        wanted: Wanted = TEXT_ONLY,
        *,
        stream: bool = False,
        continuations: tuple[Ids, ...] = (),
    ) -> Request:
        return Request(
            next(self._request_ids),
            prepared.image,
            tuple(prepared.prompt.ids),
            options,
            stop=wanted.stop,
            stream=stream,
            deadline=prepared.deadline,
            top_logprobs=wanted.top_logprobs,
            continuations=continuations,
        )

    async def _prepare(
        self, image: Upload, make_prompt: Callable[[], Prompt], deadline: float | None = None
    ) -> Prepared:
        """Decode and tokenise in a thread; what waits here counts with what waits in the engine."""
        arrived = time.monotonic()
        deadline = self._deadline() if deadline is None else deadline
        if self._num_preparing + self._engine.stats().num_waiting >= self._settings.max_queue:
            raise Busy(f"{self._settings.max_queue} requests are waiting: try again in a second.", retry_after_s=1.0)
        self._num_preparing += 1
        try:
            async with asyncio.timeout(deadline - arrived):
                prompt, picture, image_id = await asyncio.get_running_loop().run_in_executor(
                    self._picture_threads, self._prepare_now, image, make_prompt, deadline
                )
        except TimeoutError:
            raise DeadlineExceeded("The picture was not read within the deadline: try again later.") from None
        finally:
            self._num_preparing -= 1
        return Prepared(prompt, picture, image_id, deadline, time.monotonic() - arrived)

    def _prepare_now(
        self, image: Upload, make_prompt: Callable[[], Prompt], deadline: float
    ) -> tuple[Prompt, ImageInput, str]:
        if time.monotonic() > deadline:
            raise TimeoutError  # nobody waits any more; asyncio.timeout has told the caller
        prompt = make_prompt()  # first: a text that does not fit is cheaper to refuse than a picture to decode
        with load_image(image.take(), self._settings.max_image_pixels, self._pixel_budget) as picture:
            pixels = squash(picture.image, self._loaded.image_size, self._loaded.image_processor.resample)
        key = hashlib.sha256(picture.sha256 + self._loaded.fingerprint).digest()
        return prompt, ImageInput(key, pixels), picture.sha256.hex()

    async def _generate(self, request: Request) -> Finished:
        """What a request that does not stream ends with."""
        async with aclosing(self._events(request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event
        raise AssertionError("a request ends with Finished or with an error")

    async def _events(self, request: Request) -> AsyncGenerator[Delta | Finished, None]:
        """Hand a request to the engine's thread and listen; who stops listening takes the request along."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()

        def deliver(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        self._engine.submit(request, deliver)
        has_ended = False
        try:
            while not has_ended:
                event = await events.get()
                has_ended = not isinstance(event, Delta)
                if isinstance(event, Failed):
                    raise event.error
                yield event
        finally:
            if not has_ended:
                self._engine.cancel(request.request_id)

    def _answer(self, prepared: Prepared, finished: Finished) -> Answer:
        best, prompt, timings = finished.completions[0], prepared.prompt, finished.timings
        stages = {
            "prepare": prepared.prepare_s,
            "image": timings.image_s,
            "queue": timings.queue_s,
            "decode": timings.decode_s,
        }
        text = self._transcript.text(prompt.answer_begins, best)
        return Answer(text, prepared.image_id, len(best.ids), best.finish_reason, prompt.dropped_turns, stages)

    def _completions(self, prepared: Prepared, finished: Finished) -> Completions:
        prompt = prepared.prompt
        return Completions(
            tuple(self._transcript.completed(prompt.answer_begins, each) for each in finished.completions),
            self._loaded.num_query_tokens + len(prompt.ids),
            sum(len(completion.ids) for completion in finished.completions),
            prompt.dropped_turns,
        )
