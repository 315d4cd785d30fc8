"""The engine and what stands before it, shared by all verbs."""

import itertools
from collections.abc import Mapping
from contextlib import closing

from blip2_serve.clients import current_client
from blip2_serve.config import Settings
from blip2_serve.engine.build import build_engine
from blip2_serve.engine.messages import Finished, ReaderName, Request, RetrievalRequest, Retrieved
from blip2_serve.images.reading import Reading
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.retrieval.load import LoadedRetrieval
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.batch import places
from blip2_serve.tasks.completion import OutputOptions
from blip2_serve.tasks.lens import Lens, lenses_of
from blip2_serve.tasks.load.admission import Admission
from blip2_serve.tasks.prepare import Preparation, Prepared
from blip2_serve.tasks.stream import EngineCall

TEXT_ONLY = OutputOptions()


class Runtime:
    """The engine and all that stands before it, for the loaded models; `engine.start` is due.

    `request_ids` are new for each request; `places` bound the pictures of batches in progress.
    """

    def __init__(self, loaded: LoadedModel | None, settings: Settings, retrieval: LoadedRetrieval | None) -> None:
        self.lenses: Mapping[ReaderName, Lens] = lenses_of(loaded, retrieval, Reading.of(settings))
        self.engine = build_engine(loaded, settings, retrieval)
        self.preparation = Preparation(self.lenses, settings)
        max_queue_s = min(settings.max_queue_s, settings.deadline_s)
        self.admission = Admission(settings.max_queue, max_queue_s, lambda: self.engine.stats().num_running)
        self.request_ids = itertools.count()
        self.places = places(settings.max_queue)

    def request(
        self,
        prepared: Prepared,
        options: DecodingOptions,
        output: OutputOptions = TEXT_ONLY,
        *,
        stream: bool = False,
        continuations: tuple[tuple[int, ...], ...] = (),
    ) -> Request:
        """Build the engine's request for a prepared picture and prompt, in the name of the running request's client."""
        return Request(
            next(self.request_ids),
            prepared.images["caption"],
            prepared.prompt.ids,
            options,
            stop=output.stop,
            stream=stream,
            deadline=prepared.deadline,
            top_logprobs=output.top_logprobs,
            continuations=continuations,
            answer_begins=prepared.prompt.answer_begins,
            client=current_client.get(),
        )

    async def run(self, request: Request) -> Finished:
        """Run a request that does not stream.

        Raises:
            Blip2Error: it was refused, or failed.
        """
        with closing(EngineCall(self.engine, request)) as call:
            event = await call.next()
        assert isinstance(event, Finished), "only a streaming request is told its tokens"
        return event

    async def retrieve(self, request: RetrievalRequest) -> Retrieved:
        """Run a request to the retrieval heads.

        Raises:
            Blip2Error: it was refused, or failed.
        """
        with closing(EngineCall(self.engine, request)) as call:
            event = await call.next()
        assert isinstance(event, Retrieved), "a retrieval request has one answer"
        return event

    def close(self) -> None:
        """Stop the engine; requests that still wait fail with EngineDead."""
        self.preparation.close()
        self.engine.stop()
