"""What the product does, in a few verbs and plain values: caption, answer, chat."""

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

from PIL import Image

from blip2_serve.completions import Ask, Completions, Piece, StrippedText, Wanted
from blip2_serve.config import Settings, available_cpus
from blip2_serve.engine.build import build_engine
from blip2_serve.engine.request import Delta, Event, Failed, Finished, ImageInput, Request
from blip2_serve.errors import Busy, DeadlineExceeded, PromptTooLong
from blip2_serve.images import PixelBudget, Upload, load_image, squash
from blip2_serve.model.load import LoadedModel
from blip2_serve.options import DecodingOptions, FinishReason
from blip2_serve.prompts import DEFAULT_QUESTION, Family, Turn, fit_chat, vqa_prompt
from blip2_serve.transcript import Transcript

TEXT_ONLY = Wanted()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task gives back.

    Attributes:
        text: stripped; never repeats a question.
        new_tokens: tokens that the model wrote, the end token counted.
        dropped_turns: earlier turns of a chat that did not fit into the context; None where there can be none.
        timings_s: seconds by stage, for people who look for where the time goes.
    """

    text: str
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


@dataclass(frozen=True, slots=True)
class Job:
    """A request that is ready for the engine, with its prompt and the seconds that this took."""

    request: Request
    prompt: Prompt
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

    async def caption(self, image: Upload, prefix: str | None, options: DecodingOptions) -> Answer:
        """A caption; with `prefix`, the caption that begins with it (a Flan-T5 gives what it generates)."""
        return await self._run(image, partial(self._caption_prompt, prefix, options), options)

    async def answer(self, image: Upload, question: str | None, options: DecodingOptions) -> Answer:
        """The answer to one question."""
        prompt = vqa_prompt(question or DEFAULT_QUESTION, self._loaded.family)
        return await self._run(image, partial(self._question_prompt, prompt, options), options)

    async def chat(
        self, image: Upload, question: str | None, turns: Sequence[Turn], options: DecodingOptions
    ) -> Answer:
        """The answer to a question after earlier turns; the oldest are dropped where the context is full."""
        make_prompt = partial(self._chat_prompt, question or DEFAULT_QUESTION, turns, options)
        return await self._run(image, make_prompt, options)

    async def complete(self, image: Upload, ask: Ask, options: DecodingOptions, wanted: Wanted) -> Completions:
        """All `num_return_sequences` answers, with their tokens."""
        job = await self._job(image, self._prompt_maker(ask, options), options, wanted)
        return self._completions(job, await self._generate(job.request))

    async def stream(
        self, image: Upload, ask: Ask, options: DecodingOptions, wanted: Wanted
    ) -> AsyncGenerator[Piece | Completions, None]:
        """The same as it grows: a `Piece` for every token, and at last what `complete` would have given.

        The texts of the pieces join to the text of the completion. Who stops listening closes the generator, which
        takes the request out of the engine.
        """
        job = await self._job(image, self._prompt_maker(ask, options), options, wanted, stream=True)
        texts = [StrippedText(job.prompt.answer_begins) for _ in range(job.request.num_rows)]
        async with aclosing(self._events(job.request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    yield self._completions(job, event)
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

    def _prompt_maker(self, ask: Ask, options: DecodingOptions) -> Callable[[], Prompt]:
        if ask.task == "chat":
            return partial(self._chat_prompt, ask.text or DEFAULT_QUESTION, ask.turns, options)
        if ask.task == "vqa":
            return partial(self._question_prompt, vqa_prompt(ask.text or DEFAULT_QUESTION, self.family), options)
        return partial(self._caption_prompt, ask.text, options)

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
                f" {self._loaded.max_context_tokens}: shorten it or ask for fewer new tokens.",
                param="txt",
            )
        return ids

    def _room(self, options: DecodingOptions) -> int:
        """Tokens that the context leaves for the prompt."""
        return self._loaded.max_context_tokens - self._loaded.num_query_tokens - options.max_new_tokens

    async def _run(self, image: Upload, make_prompt: Callable[[], Prompt], options: DecodingOptions) -> Answer:
        job = await self._job(image, make_prompt, options)
        return self._answer(job, await self._generate(job.request))

    async def _job(
        self,
        image: Upload,
        make_prompt: Callable[[], Prompt],
        options: DecodingOptions,
        wanted: Wanted = TEXT_ONLY,
        stream: bool = False,
    ) -> Job:
        arrived = time.monotonic()
        deadline = arrived + self._settings.deadline_s
        prompt, picture = await self._prepare(image, make_prompt, deadline)
        request = Request(
            next(self._request_ids),
            picture,
            tuple(prompt.ids),
            options,
            stop=wanted.stop,
            stream=stream,
            deadline=deadline,
            top_logprobs=wanted.top_logprobs,
        )
        return Job(request, prompt, time.monotonic() - arrived)

    async def _prepare(
        self, image: Upload, make_prompt: Callable[[], Prompt], deadline: float
    ) -> tuple[Prompt, ImageInput]:
        """Decode and tokenise in a thread; what waits here counts with what waits in the engine."""
        if self._num_preparing + self._engine.stats().num_waiting >= self._settings.max_queue:
            raise Busy(f"{self._settings.max_queue} requests are waiting: try again in a second.", retry_after_s=1.0)
        self._num_preparing += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.get_running_loop().run_in_executor(
                    self._picture_threads, self._prepare_now, image, make_prompt, deadline
                )
        except TimeoutError:
            raise DeadlineExceeded("The picture was not read within the deadline: try again later.") from None
        finally:
            self._num_preparing -= 1

    def _prepare_now(
        self, image: Upload, make_prompt: Callable[[], Prompt], deadline: float
    ) -> tuple[Prompt, ImageInput]:
        if time.monotonic() > deadline:
            raise TimeoutError  # nobody waits any more; asyncio.timeout has told the caller
        prompt = make_prompt()  # first: a text that does not fit is cheaper to refuse than a picture to decode
        with load_image(image.take(), self._settings.max_image_pixels, self._pixel_budget) as picture:
            pixels = squash(picture.image, self._loaded.image_size, self._loaded.image_processor.resample)
        return prompt, ImageInput(hashlib.sha256(picture.sha256 + self._loaded.fingerprint).digest(), pixels)

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

    def _answer(self, job: Job, finished: Finished) -> Answer:
        best, timings = finished.completions[0], finished.timings
        stages = {
            "prepare": job.prepare_s,
            "image": timings.image_s,
            "queue": timings.queue_s,
            "decode": timings.decode_s,
        }
        text = self._transcript.text(job.prompt.answer_begins, best)
        return Answer(text, len(best.ids), best.finish_reason, job.prompt.dropped_turns, stages)

    def _completions(self, job: Job, finished: Finished) -> Completions:
        begins = job.prompt.answer_begins
        return Completions(
            tuple(self._transcript.completed(begins, completion) for completion in finished.completions),
            self._loaded.num_query_tokens + len(job.prompt.ids),
            sum(len(completion.ids) for completion in finished.completions),
            job.prompt.dropped_turns,
        )
