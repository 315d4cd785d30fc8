"""What is asked of a picture, as the ids that the model is given."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from blip2_serve.errors import PromptTooLong
from blip2_serve.model.load import LoadedModel
from blip2_serve.options import MAX_NEW_TOKENS, DecodingOptions
from blip2_serve.prompts import DEFAULT_QUESTION, Turn, fit_chat, vqa_prompt
from blip2_serve.tasks.choose import Ids, encode_choice

_FEWER = "ask for fewer new tokens"
TaskName = Literal["caption", "prefix", "vqa", "chat"]


@dataclass(frozen=True, slots=True)
class Ask:
    """What to ask of a picture.

    A caption has no text; a prefix is how the caption begins; vqa is one question in the family's own template; chat
    is a question after earlier `turns`, in the template that both families share.
    """

    task: TaskName
    text: str | None = None
    turns: Sequence[Turn] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text for the model, and how its answer begins (a caption's prefix, else ""), or the answers that are given."""

    ids: list[int]
    answer_begins: str = ""
    dropped_turns: int | None = None
    continuations: tuple[Ids, ...] = ()


class PromptEncoder:
    """Prompts for one model; tokenising takes its time, so not on the event loop."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def prompt(self, ask: Ask, options: DecodingOptions) -> Prompt:
        """The prompt of a caption, an answer or a chat.

        Raises:
            PromptTooLong: with `max_new_tokens` it does not fit into the model's context.
        """
        if ask.task == "chat":
            return self._chat(ask.text or DEFAULT_QUESTION, ask.turns, options)
        if ask.task == "vqa":
            return self._question(ask.text, options.max_new_tokens)
        return self._caption(ask.text, options)

    def choices(self, question: str | None, texts: Sequence[str]) -> Prompt:
        """A question with the ids of the answers to choose from.

        Raises:
            PromptTooLong: the longest choice does not fit, alone or with the question.
        """
        continuations = tuple(encode_choice(self._loaded, text) for text in texts)
        longest = max(map(len, continuations))
        if longest > MAX_NEW_TOKENS:
            raise PromptTooLong(
                f"The longest choice takes {longest} tokens, more than {MAX_NEW_TOKENS}: shorten it.", param="choices"
            )
        return replace(self._question(question, longest, "the choices"), continuations=continuations)

    def _caption(self, prefix: str | None, options: DecodingOptions) -> Prompt:
        ids = self._encode(prefix or self._loaded.caption_prompt, options.max_new_tokens)
        echoed = prefix if prefix and self._loaded.family == "opt" else ""
        return Prompt(ids, answer_begins=echoed)

    def _question(self, question: str | None, max_new_tokens: int, or_else: str = _FEWER) -> Prompt:
        prompt = vqa_prompt(question or DEFAULT_QUESTION, self._loaded.family)
        return Prompt(self._encode(prompt, max_new_tokens, or_else))

    def _chat(self, question: str, turns: Sequence[Turn], options: DecodingOptions) -> Prompt:
        room = self._room(options.max_new_tokens)
        text, dropped = fit_chat(turns, question, lambda prompt: len(self._loaded.encode_text(prompt)) <= room)
        return Prompt(self._encode(text, options.max_new_tokens), dropped_turns=dropped)

    def _encode(self, text: str, max_new_tokens: int, or_else: str = _FEWER) -> list[int]:
        ids = self._loaded.encode_text(text)
        room = self._room(max_new_tokens)
        if len(ids) > room:
            raise PromptTooLong(
                f"The text takes {len(ids)} tokens and {room} are left of the context of"
                f" {self._loaded.max_context_tokens}: shorten it or {or_else}.",
                param="txt",
            )
        return ids

    def _room(self, max_new_tokens: int) -> int:
        """Tokens that the context leaves for the prompt."""
        return self._loaded.max_context_tokens - self._loaded.num_query_tokens - max_new_tokens
