"""Render answers with many log-probabilities as JSON; what is said of a token is remembered.

Through pydantic and json, 20 log-probabilities a token cost half a millisecond: with 50 streams, more than the model.
"""

import json
from functools import lru_cache

from blip2_serve.api.openai.responses import ChatChoice, ChatCompletion, ChatCompletionChunk, Usage
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
    return f'{{"content":[{",".join(map(_chosen_json, tokens))}]}}'


def _chosen_json(token: ChosenToken) -> str:
    likely = ",".join([f"{{{_token_json(each.text, each.data)}{each.logprob!r}}}" for each in token.likely])
    return f'{{{_token_json(token.text, token.data)}{token.logprob!r},"top_logprobs":[{likely}]}}'


@lru_cache(maxsize=65_536)
def _token_json(text: str, data: bytes) -> str:
    return f'"token":{json.dumps(text)},"bytes":{json.dumps(list(data))},"logprob":'
