"""Render answers with many log-probabilities as JSON."""

import json

from blip2_serve.api.openai.answers import Usage, tokens_json
from blip2_serve.api.openai.chat.answers import ChatChoice, ChatCompletion, ChatCompletionChunk
from blip2_serve.options import FinishReason
from blip2_serve.tasks.completion import ChosenToken, CompletedRequest


def completion_json(model: str, done: CompletedRequest, *, logprobs: bool) -> str:
    """Render what `ChatCompletion` describes."""
    choices = []
    for index, each in enumerate(done.completions):
        choice = ChatChoice.of(index, each, logprobs=False).model_dump_json()
        told = logprobs_json(each.tokens) if logprobs else "null"
        # Quotes inside of texts are escaped, so that nothing a text says is replaced.
        choices.append(choice.replace('"logprobs":null', f'"logprobs":{told}', 1))
    whole = ChatCompletion(model=model, choices=[], usage=Usage.of(done)).model_dump_json()
    return whole.replace('"choices":[]', f'"choices":[{",".join(choices)}]', 1)


class ChunkHead:
    """Renders the chunks of one stream, which share an id, as events."""

    def __init__(self, model: str) -> None:
        self._head = ChatCompletionChunk(model=model).model_dump_json(exclude={"choices", "usage"})[:-1]

    def event(
        self,
        index: int,
        delta: dict[str, str],
        tokens: tuple[ChosenToken, ...] | None = None,
        finish_reason: FinishReason | None = None,
    ) -> str:
        """Render a piece of answer number `index`; without `tokens` nothing is said of log-probabilities."""
        told = "" if tokens is None else f'"logprobs":{logprobs_json(tokens)},'
        choice = f'{{"index":{index},"delta":{json.dumps(delta)},{told}"finish_reason":{json.dumps(finish_reason)}}}'
        return f'data: {self._head},"choices":[{choice}]}}\n\n'

    def usage_event(self, usage: Usage) -> str:
        """Render the chunk that counts the tokens."""
        return f'data: {self._head},"choices":[],"usage":{usage.model_dump_json()}}}\n\n'


def logprobs_json(tokens: tuple[ChosenToken, ...]) -> str:
    """Render what `Logprobs` describes."""
    return f'{{"content":{tokens_json(tokens)}}}'
