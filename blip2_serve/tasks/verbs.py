"""What the product does, in a few verbs and plain values: caption, answer, chat, captions, choose, batch, complete."""

import asyncio
import io
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from PIL import Image

from blip2_serve.config import Settings
from blip2_serve.engine.build import build_engine
from blip2_serve.engine.messages import Event, Failed, Finished, FinishedRow, Request, TokenEvent
from blip2_serve.errors import Blip2Error
from blip2_serve.families import Family, Turn
from blip2_serve.images import ImageSource, Upload
from blip2_serve.model.load import LoadedModel
from blip2_serve.options import DecodingOptions, FinishReason
from blip2_serve.tasks.batch import answer_each, places, together
from blip2_serve.tasks.caption import Captions, scored_captions, several
from blip2_serve.tasks.choose import Choices, Normalize, in_order, in_rounds, rank
from blip2_serve.tasks.completion import CompletedRequest, CompletionPiece, CompletionStream, OutputOptions
from blip2_serve.tasks.prepare import Preparation, Prepared
from blip2_serve.tasks.prompt import Ask, PromptEncoder
from blip2_serve.tasks.text import Transcript

BatchTask = Literal["caption", "vqa"]
TEXT_ONLY = OutputOptions()


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


class Tasks:
    """The verbs on one loaded model. Pictures are decoded in threads, the engine runs in its own."""

    def __init__(self, loaded: LoadedModel, settings: Settings) -> None:
        self._loaded = loaded
        self._request_ids = itertools.count()
        self._batch_places = places(settings.max_queue)
        self._transcript = Transcript(loaded)
        self._prompts = PromptEncoder(loaded)
        self._engine = build_engine(loaded, settings)
        self._preparation = Preparation(loaded, settings, self._engine.check_room)
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
        self, image: ImageSource, prefix: str | None, options: DecodingOptions, deadline: float | None = None
    ) -> Answer:
        """A caption; with `prefix`, the caption that begins with it (a Flan-T5 gives what it generates)."""
        return await self._answer_to(image, Ask("prefix", prefix), options, deadline)

    async def answer(
        self, image: ImageSource, question: str | None, options: DecodingOptions, deadline: float | None = None
    ) -> Answer:
        """The answer to one question."""
        return await self._answer_to(image, Ask("vqa", question), options, deadline)

    async def chat(
        self, image: ImageSource, question: str | None, turns: Sequence[Turn], options: DecodingOptions
    ) -> Answer:
        """The answer to a question after earlier turns; the oldest are dropped where the context is full."""
        return await self._answer_to(image, Ask("chat", question, turns), options)

    async def captions(
        self, image: ImageSource, prefix: str | None, num_captions: int, options: DecodingOptions
    ) -> Captions:
        """At most `num_captions` different captions, best first; see `captions.scored_captions`."""
        options = several(options, num_captions)
        prepared = await self._prepare(image, Ask("prefix", prefix), options)
        read = partial(self._transcript.text, prepared.prompt.answer_begins)

        async def generate(options: DecodingOptions) -> tuple[FinishedRow, ...]:
            return (await self._generate(self._request(prepared, options))).rows

        return Captions(await scored_captions(generate, read, options), prepared.image_id)

    async def choose(
        self, image: ImageSource, question: str | None, choices: Sequence[str], normalize: Normalize = "sum"
    ) -> Choices:
        """How likely each of `choices` is as the answer to the question, most probable first."""
        texts = in_order(choices)
        prepared = await self._preparation.prepare(image, partial(self._prompts.choices, question, texts))
        requests = []
        for continuations in in_rounds(prepared.prompt.continuations):
            options = DecodingOptions(max_new_tokens=max(map(len, continuations)), num_beams=1)
            requests.append(self._request(prepared, options, continuations=continuations))
        finished = await together([self._generate(request) for request in requests])
        scored = [row for each in finished for row in each.rows]
        return Choices(rank(texts, scored, normalize), prepared.image_id)

    async def batch(
        self,
        images: Sequence[ImageSource | Blip2Error],
        texts: Sequence[str | None],
        task: BatchTask,
        options: DecodingOptions,
    ) -> list[Answer | Blip2Error]:
        """A caption or an answer for each picture with its text, or what is wrong with that picture."""
        deadline = self._preparation.deadline()
        verb = {"caption": self.caption, "vqa": self.answer}[task]

        async def ask(pair: tuple[ImageSource | Blip2Error, str | None]) -> Answer:
            image, text = pair
            if isinstance(image, Blip2Error):
                raise image
            self._preparation.check_bytes(image)
            return await verb(image, text, options, deadline)

        return await answer_each(list(zip(images, texts, strict=True)), ask, self._batch_places)

    async def complete(
        self, image: ImageSource, ask: Ask, options: DecodingOptions, wanted: OutputOptions
    ) -> CompletedRequest:
        """All `num_return_sequences` answers, with their tokens."""
        prepared = await self._prepare(image, ask, options)
        finished = await self._generate(self._request(prepared, options, wanted))
        return await asyncio.to_thread(self._completions, prepared, finished)

    async def stream(
        self, image: ImageSource, ask: Ask, options: DecodingOptions, wanted: OutputOptions
    ) -> CompletionStream:
        """The same as it grows; nothing is computed before its pieces are listened to."""
        prepared = await self._prepare(image, ask, options)
        request = self._request(prepared, options, wanted, stream=True)
        return CompletionStream(prepared.image_id, prepared.prompt.dropped_turns, self._pieces(prepared, request))

    async def warm_up(self) -> None:
        """Caption a grey picture greedily and with beams: the first caller must not pay for lazy initialisation."""
        grey = io.BytesIO()
        Image.new("RGB", (8, 8), "grey").save(grey, "PNG")
        for num_beams in (1, 5):
            await self.caption(Upload(grey.getvalue()), None, DecodingOptions(max_new_tokens=2, num_beams=num_beams))

    def close(self) -> None:
        """Stop the engine; whoever still waits is told so."""
        self._preparation.close()
        self._engine.stop()

    async def _answer_to(
        self, image: ImageSource, ask: Ask, options: DecodingOptions, deadline: float | None = None
    ) -> Answer:
        prepared = await self._prepare(image, ask, options, deadline)
        return self._answer(prepared, await self._generate(self._request(prepared, options)))

    async def _prepare(
        self, image: ImageSource, ask: Ask, options: DecodingOptions, deadline: float | None = None
    ) -> Prepared:
        return await self._preparation.prepare(image, partial(self._prompts.prompt, ask, options), deadline)

    def _request(
        self,
        prepared: Prepared,
        options: DecodingOptions,
        wanted: OutputOptions = TEXT_ONLY,
        *,
        stream: bool = False,
        continuations: tuple[tuple[int, ...], ...] = (),
    ) -> Request:
        return Request(
            next(self._request_ids),
            prepared.image,
            prepared.prompt.ids,
            options,
            stop=wanted.stop,
            stream=stream,
            deadline=prepared.deadline,
            top_logprobs=wanted.top_logprobs,
            continuations=continuations,
            answer_begins=prepared.prompt.answer_begins,
        )

    async def _pieces(
        self, prepared: Prepared, request: Request
    ) -> AsyncGenerator[CompletionPiece | CompletedRequest, None]:
        async with aclosing(self._events(request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    yield await asyncio.to_thread(self._completions, prepared, event)
                else:
                    yield CompletionPiece(event.row, event.text, self._transcript.token(event))

    async def _generate(self, request: Request) -> Finished:
        """What a request that does not stream ends with."""
        async with aclosing(self._events(request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event
        raise AssertionError("a request ends with Finished or with an error")

    async def _events(self, request: Request) -> AsyncGenerator[TokenEvent | Finished, None]:
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
                has_ended = not isinstance(event, TokenEvent)
                if isinstance(event, Failed):
                    raise event.error
                yield event
        finally:
            if not has_ended:
                self._engine.cancel(request.request_id)

    def _answer(self, prepared: Prepared, finished: Finished) -> Answer:
        best, prompt, timings = finished.rows[0], prepared.prompt, finished.timings
        stages = {
            "prepare": prepared.prepare_s,
            "image": timings.image_s,
            "queue": timings.queue_s,
            "decode": timings.decode_s,
        }
        text = self._transcript.text(prompt.answer_begins, best)
        return Answer(text, prepared.image_id, len(best.ids), best.finish_reason, prompt.dropped_turns, stages)

    def _completions(self, prepared: Prepared, finished: Finished) -> CompletedRequest:
        """Takes 0.3 s for 16 answers of 256 tokens with 20 likely ones each: not on the event loop."""
        prompt = prepared.prompt
        return CompletedRequest(
            tuple(self._transcript.completed(prompt.answer_begins, row) for row in finished.rows),
            self._loaded.num_query_tokens + len(prompt.ids),
            sum(len(row.ids) for row in finished.rows),
            prepared.image_id,
            prompt.dropped_turns,
        )
