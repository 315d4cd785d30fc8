"""Turn the engine's answers, ids and numbers, into text and tokens."""

from blip2_serve.engine.messages import Finished, FinishedRow, LikelyToken, TokenEvent
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.reference import end_ids_of
from blip2_serve.model.vocabulary import Vocabulary
from blip2_serve.tasks.completion import Answer, ChosenToken, CompletedRequest, Completion, Token
from blip2_serve.tasks.prepare import Prepared
from blip2_serve.tasks.prompt import PromptEncoder


class Writer:
    """A model that writes text, around the engine: prompts and answers; `family` gives templates and defaults."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.family = loaded.family
        self.prompts = PromptEncoder(loaded)
        self.transcript = Transcript(loaded)


class Transcript:
    """Turns ids into text and tokens with one model's tokenizer."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._vocabulary = Vocabulary(loaded.tokenizer)
        self._end_ids = frozenset(end_ids_of(loaded.model.language_model))

    def text(self, begins: str, row: FinishedRow) -> str:
        """Return `begins` and the generated text, stripped."""
        if row.text is not None:  # may be cut at a stop string, which the ids are not
            return row.text
        return (begins + self._loaded.decode_text(list(row.ids))).strip()

    def is_empty(self, row: FinishedRow) -> bool:
        """True if the model wrote nothing that is text."""
        return not self._loaded.decode_text(list(row.ids)).strip()

    @property
    def is_calibrated(self) -> bool:
        return self._loaded.calibration is not None

    def confidence(self, row: FinishedRow) -> float | None:
        """Return the probability that a caption is right; None where nobody has measured."""
        calibration = self._loaded.calibration
        return None if calibration is None else calibration.confidence(sum(row.logprobs))

    def answer(
        self, prepared: Prepared, finished: Finished, *, is_caption: bool, guards: tuple[str, ...] = ()
    ) -> Answer:
        """Return the best text, with the seconds that each stage took."""
        best, prompt = finished.rows[0], prepared.prompt
        text = self.text(prompt.answer_begins, best)
        about = prepared.image_id, len(best.ids), best.finish_reason, prompt.dropped_turns, _stages(prepared, finished)
        return Answer(text, *about, self.confidence(best) if is_caption else None, guards)

    def completed_request(self, prepared: Prepared, guards: tuple[str, ...], finished: Finished) -> CompletedRequest:
        """Return all texts with their tokens."""
        prompt = prepared.prompt
        return CompletedRequest(
            tuple(self.completed(prompt.answer_begins, row) for row in finished.rows),
            self._loaded.num_query_tokens + len(prompt.ids),
            sum(len(row.ids) for row in finished.rows),
            prepared.image_id,
            prompt.dropped_turns,
            guards,
            _stages(prepared, finished),
        )

    def completed(self, begins: str, row: FinishedRow) -> Completion:
        """Return the text of one row with its tokens."""
        likely = row.likely or ((),) * len(row.ids)
        tokens = map(self._chosen, row.ids, row.logprobs, likely)
        told = tuple(token for token in tokens if token is not None)
        return Completion(self.text(begins, row), told, row.finish_reason, sum(row.logprobs))

    def token(self, event: TokenEvent) -> ChosenToken | None:
        """Return the token of a streamed event; None for an end token, which is no part of the text."""
        return self._chosen(event.token_id, event.logprob, event.likely)

    def _chosen(self, token_id: int, logprob: float, likely: tuple[LikelyToken, ...]) -> ChosenToken | None:
        if token_id in self._end_ids:
            return None
        known = self._vocabulary[token_id]
        return ChosenToken(known.text, known.data, logprob, tuple(map(self._token, likely)))

    def _token(self, likely: LikelyToken) -> Token:
        known = self._vocabulary[likely.token_id]
        return Token(known.text, known.data, likely.logprob)


def _stages(prepared: Prepared, finished: Finished) -> dict[str, float]:
    """Seconds by stage."""
    timings = finished.timings
    return {
        "prepare": prepared.prepare_s,
        "image": timings.image_s,
        "queue": timings.queue_s,
        "decode": timings.decode_s,
    }
