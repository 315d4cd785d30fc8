"""The product's verbs, in plain values: caption, ask, chat, caption_several, choose, batch, complete, stream."""

import asyncio
import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

from PIL import Image

from blip2_serve.clients import current_client
from blip2_serve.config import Settings
from blip2_serve.engine.backends.absent import NO_WRITER
from blip2_serve.engine.messages import Finished, FinishedRow, ReaderName
from blip2_serve.errors import Blip2Error, InvalidField, UnknownModel
from blip2_serve.families import Family, Turn
from blip2_serve.images import ImageId, ImageSource, Upload
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.retrieval.load import LoadedRetrieval
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.batch import MAX_AT_ONCE, answer_each
from blip2_serve.tasks.completion import Answer, CompletedRequest, OutputOptions
from blip2_serve.tasks.grounding.captions import explain_captions
from blip2_serve.tasks.grounding.explain import EXPLAIN_WORK, Explainer
from blip2_serve.tasks.guards import guarded
from blip2_serve.tasks.lens import CAPTION, MATCHING
from blip2_serve.tasks.load.admission import work_of
from blip2_serve.tasks.prepare import Prepared
from blip2_serve.tasks.prompt import PromptSpec, TaskName
from blip2_serve.tasks.retrieval.captions import match_captions
from blip2_serve.tasks.retrieval.verbs import NO_RETRIEVAL, Retrieval
from blip2_serve.tasks.runtime import TEXT_ONLY, Runtime
from blip2_serve.tasks.scored.captions import RankedCaptions, Reading, score_captions, several, unmeasured
from blip2_serve.tasks.scored.choices import Normalize, RankedChoices, choose
from blip2_serve.tasks.stream import CompletionStream, EngineCall
from blip2_serve.tasks.text import Writer

BatchTask = Literal["caption", "vqa"]
RankBy = Literal["likelihood", "itm"]


class Tasks:
    """The verbs on the loaded models. Pictures are decoded in threads, the engine runs in its own.

    `model_names` are public names, that of the model that writes text first. Every verb raises a Blip2Error for a
    request that is refused or fails, one that no loaded model can answer included.
    """

    def __init__(
        self, loaded: LoadedModel | None, settings: Settings, retrieval: LoadedRetrieval | None = None
    ) -> None:
        self.settings = settings
        self._writing = None if loaded is None else Writer(loaded)
        self.model_names = [each.name for each in (loaded, retrieval) if each is not None]
        self._runtime = Runtime(loaded, settings, retrieval)
        self._admission, self._preparation = self._runtime.admission, self._runtime.preparation
        self._explainer = Explainer(loaded, self._writing.prompts, self._runtime) if loaded and self._writing else None
        self._retrieval = Retrieval(retrieval, self._runtime) if retrieval else None
        self._runtime.engine.start()

    @property
    def model_name(self) -> str:
        """Public name of the model that writes text, or else of the one that matches."""
        return self.model_names[0]

    @property
    def family(self) -> Family:
        """Templates and defaults; raises UnknownModel if no model writes text."""
        return self._writer.family

    @property
    def retrieval(self) -> Retrieval:
        """The verbs of the matching model; raises UnknownModel if there is none."""
        if self._retrieval is None:
            raise UnknownModel(NO_RETRIEVAL)
        return self._retrieval

    @property
    def explainer(self) -> Explainer:
        """Tells what a picture says of words; raises UnknownModel if no model writes text."""
        if self._explainer is None:
            raise UnknownModel(NO_WRITER)
        return self._explainer

    @property
    def matches(self) -> bool:
        """True if a model matches pictures with texts."""
        return self._retrieval is not None

    @property
    def writes_text(self) -> bool:
        """True if a model captions and answers."""
        return self._writing is not None

    @property
    def is_calibrated(self) -> bool:
        """True if it was measured how often captions without a prefix are right."""
        return self._writer.transcript.is_calibrated

    @property
    def _writer(self) -> Writer:
        if self._writing is None:
            raise UnknownModel(NO_WRITER)
        return self._writing

    @property
    def is_alive(self) -> bool:
        """False once the engine's loop has stopped or hangs: nothing will be answered any more."""
        return self._runtime.engine.is_alive

    def check_room(self) -> None:
        """Raise Busy where there is no room for one more of the running request's client, which is not read yet."""
        self._admission.check_unread(current_client.get())

    async def caption(
        self, image: ImageSource, prefix: str | None, options: DecodingOptions, output: OutputOptions = TEXT_ONLY
    ) -> Answer:
        """Caption a picture, beginning with `prefix` if given (a Flan-T5 returns only what it generates)."""
        with self._admitted(image, options):
            return await self._answer(image, PromptSpec("prefix", prefix, echoes=output.echoes), options, output)

    async def ask(
        self, image: ImageSource, question: str | None, options: DecodingOptions, output: OutputOptions = TEXT_ONLY
    ) -> Answer:
        """Answer one question."""
        with self._admitted(image, options):
            return await self._answer(image, PromptSpec("vqa", question), options, output)

    async def chat(
        self,
        image: ImageSource,
        question: str | None,
        turns: Sequence[Turn],
        options: DecodingOptions,
        output: OutputOptions = TEXT_ONLY,
    ) -> Answer:
        """Answer a question after earlier turns; the oldest are dropped if the context is full."""
        with self._admitted(image, options):
            return await self._answer(image, PromptSpec("chat", question, turns), options, output)

    async def caption_several(
        self,
        image: ImageSource,
        prefix: str | None,
        num_captions: int,
        options: DecodingOptions,
        rank_by: RankBy = "likelihood",
        *,
        explains: bool = False,
        guards: bool = True,
    ) -> RankedCaptions:
        """Return at most `num_captions` different captions, best first; see `scored.captions.score_captions`.

        With a matching model each is compared with the picture, which may also rank them. Where it `explains`, what
        the picture says of each word is told.
        """
        if rank_by == "itm" and self._retrieval is None:
            raise InvalidField(f"rank_by=itm needs a matching model. {NO_RETRIEVAL}", about="rank_by")
        options = several(options, num_captions)
        with self._admitted(image, options, EXPLAIN_WORK * num_captions * explains):
            readers = CAPTION + MATCHING if self._retrieval else CAPTION
            prepared = await self._prepare(image, PromptSpec("prefix", prefix), options, readers=readers)

            async def generate(options: DecodingOptions) -> tuple[FinishedRow, ...]:
                return (await self._runtime.run(self._runtime.request(prepared, options))).rows

            transcript = self._writer.transcript
            reading = Reading(
                partial(transcript.text, prepared.prompt.answer_begins),
                partial(transcript.text, ""),
                transcript.confidence if not prefix else unmeasured,
            )
            captions = await score_captions(generate, reading, options, guards=guards)
            if self._retrieval:
                captions = await match_captions(captions, prepared, self._retrieval, by_match=rank_by == "itm")
            if explains:
                captions = await explain_captions(captions, prepared, self.explainer)
            return RankedCaptions(captions, prepared.image_id)

    async def choose(
        self, image: ImageSource, question: str | None, choices: Sequence[str], normalize: Normalize = "sum"
    ) -> RankedChoices:
        """Rank `choices` as answers to the question, most probable first."""
        return await choose(image, question, choices, normalize, self._writer, self._runtime)

    async def batch(
        self,
        images: Sequence[ImageSource | Blip2Error],
        texts: Sequence[str | None],
        task: BatchTask,
        options: DecodingOptions,
        output: OutputOptions = TEXT_ONLY,
    ) -> list[Answer | Blip2Error]:
        """Caption or answer each picture with its text; a picture that fails gives its error instead."""
        deadline = self._preparation.deadline()
        kind: TaskName = "prefix" if task == "caption" else "vqa"

        async def ask_one(pair: tuple[ImageSource | Blip2Error, str | None]) -> Answer:
            image, text = pair
            if isinstance(image, Blip2Error):
                raise image
            self._preparation.check_bytes(image)
            asked = PromptSpec(kind, text, echoes=output.echoes)
            return await self._answer(image, asked, options, output, deadline)

        work = len(images) * work_of(options, has_picture=True)
        with self._admission.admitted(current_client.get(), work, min(len(images), MAX_AT_ONCE)):
            return await answer_each(list(zip(images, texts, strict=True)), ask_one, self._runtime.places)

    async def complete(
        self, image: ImageSource, asked: PromptSpec, options: DecodingOptions, output: OutputOptions
    ) -> CompletedRequest:
        """Return all `num_return_sequences` answers, with their tokens."""
        with self._admitted(image, options):
            prepared = await self._prepare(image, asked, options)
            finished, guards = await self._run(prepared, options, output)
            return await self._complete(prepared, guards, finished)

    async def stream(
        self, image: ImageSource, asked: PromptSpec, options: DecodingOptions, output: OutputOptions
    ) -> CompletionStream:
        """Stream the answers as they grow; returns once the first token is there."""
        work = work_of(options, has_picture=not isinstance(image, ImageId))
        place = self._admission.enter(current_client.get(), work)
        try:
            prepared = await self._prepare(image, asked, options)
            call = EngineCall(self._runtime.engine, self._runtime.request(prepared, options, output, stream=True))
            stream = CompletionStream(
                prepared.image_id,
                prepared.prompt.dropped_turns,
                call,
                self._writer.transcript,
                partial(self._complete, prepared, ()),
                place,
            )
            return await stream.start()
        except BaseException:
            place.leave()
            raise

    async def warm_up(self) -> None:
        """Caption a grey picture, greedily and with beams, and match it: the first caller must not pay for laziness."""
        self._preparation.start_decoders()
        grey = io.BytesIO()
        Image.new("RGB", (8, 8), "grey").save(grey, "PNG")
        if self._retrieval:
            await self._retrieval.match(Upload(grey.getvalue()), ["grey"])
        for num_beams in (1, 5) if self.writes_text else ():
            await self.caption(Upload(grey.getvalue()), None, DecodingOptions(max_new_tokens=2, num_beams=num_beams))

    def close(self) -> None:
        """Stop the engine; requests that still wait fail with EngineDead."""
        self._runtime.close()

    def _admitted(
        self, image: ImageSource, options: DecodingOptions, more_work: int = 0
    ) -> AbstractContextManager[None]:
        work = work_of(options, has_picture=not isinstance(image, ImageId)) + more_work
        return self._admission.admitted(current_client.get(), work)

    async def _answer(
        self,
        image: ImageSource,
        asked: PromptSpec,
        options: DecodingOptions,
        output: OutputOptions,
        deadline: float | None = None,
    ) -> Answer:
        prepared = await self._prepare(image, asked, options, deadline)
        finished, guarded_by = await self._run(prepared, options, output)
        is_caption = asked.task == "prefix" and not asked.text
        return self._writer.transcript.answer(prepared, finished, is_caption=is_caption, guards=guarded_by)

    async def _run(
        self, prepared: Prepared, options: DecodingOptions, output: OutputOptions
    ) -> tuple[Finished, tuple[str, ...]]:
        """Generate, guarded if asked for; returns the names of the guards that were needed, too."""

        async def generate(options: DecodingOptions) -> Finished:
            return await self._runtime.run(self._runtime.request(prepared, options, output))

        if not output.guards:
            return await generate(options), ()
        return await guarded(generate, self._writer.transcript.is_empty, options)

    async def _prepare(
        self,
        image: ImageSource,
        asked: PromptSpec,
        options: DecodingOptions,
        deadline: float | None = None,
        readers: Sequence[ReaderName] = CAPTION,
    ) -> Prepared:
        make_prompt = partial(self._writer.prompts.prompt, asked, options)
        return await self._preparation.prepare(image, make_prompt, deadline, readers)

    async def _complete(self, prepared: Prepared, guards: tuple[str, ...], finished: Finished) -> CompletedRequest:
        # Takes 0.3 s for 16 answers of 256 tokens with 20 likely ones each: keep it off the event loop.
        return await asyncio.to_thread(self._writer.transcript.completed_request, prepared, guards, finished)
