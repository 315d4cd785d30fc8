"""Prompts as the token ids that the model reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from blip2_serve.errors import InvalidField, Part, PromptTooLong
from blip2_serve.families import DEFAULT_QUESTION, Family, Turn
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.reference import end_ids_of
from blip2_serve.options import MAX_NEW_TOKENS, DecodingOptions
from blip2_serve.tasks.grounding.words import SpelledText, spelled

_FEWER = "ask for fewer new tokens"
TaskName = Literal["caption", "prefix", "vqa", "chat"]


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """A task and its text.

    "caption" has no text; for "prefix" it begins the caption; for "vqa" it is one question, put into the family's own
    template; for "chat" it is a question after earlier `turns`. Where it `echoes`, the answer of a decoder-only model
    begins with the prefix.
    """

    task: TaskName
    text: str | None = None
    turns: Sequence[Turn] = ()
    echoes: bool = True


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as ids.

    Attributes:
        ids: read by the language model after the image tokens.
        instruction_ids: the prompt in the tokens of a Q-Former that reads it; empty for any other Q-Former.
        answer_begins: the beginning of the answer (a caption's prefix, else "").
        dropped_turns: earlier chat turns that did not fit; None for other tasks.
        continuations: ids of the answers to choose from.
    """

    ids: tuple[int, ...]
    instruction_ids: tuple[int, ...] = ()
    answer_begins: str = ""
    dropped_turns: int | None = None
    continuations: tuple[tuple[int, ...], ...] = ()


class PromptEncoder:
    """Encodes prompts for one model; tokenising takes time, so keep it off the event loop."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._family = loaded.family
        self._end_ids = end_ids_of(loaded.model.language_model)

    def prompt(self, ask: PromptSpec, options: DecodingOptions) -> Prompt:
        """Encode the prompt of a caption, an answer or a chat.

        Raises:
            PromptTooLong: the prompt and `max_new_tokens` do not fit into the model's context.
        """
        question, num_new = _question(ask.text), options.max_new_tokens
        match ask.task:
            case "chat":
                room = self._room(num_new)
                text, dropped = fit_chat(
                    self._family, ask.turns, question, lambda text: len(self._loaded.encode_text(text)) <= room
                )
                return replace(self._encode(text, num_new), dropped_turns=dropped)
            case "vqa":
                return self._encode(self._family.question_prompt(question), num_new)
            case _:
                prompt = self._encode(ask.text or self._loaded.caption_prompt, num_new)
                return replace(prompt, answer_begins=self._family.echoed_prefix(ask.text if ask.echoes else None))

    def choices(self, question: str | None, texts: Sequence[str]) -> Prompt:
        """Encode a question and the answers to choose from.

        Raises:
            PromptTooLong: the longest choice does not fit, alone or with the question.
        """
        continuations = tuple(self._encode_choice(text) for text in texts)
        longest = max(map(len, continuations))
        if longest > MAX_NEW_TOKENS:
            raise PromptTooLong(
                f"The longest choice takes {longest} tokens, more than {MAX_NEW_TOKENS}: shorten it.",
                about=Part.CHOICES,
            )
        prompt = self._encode(self._family.question_prompt(_question(question)), longest, "the choices")
        return replace(prompt, continuations=continuations)

    def captions(
        self, texts: Sequence[str], max_tokens: int = MAX_NEW_TOKENS
    ) -> tuple[tuple[int, ...], list[SpelledText]]:
        """Encode the prompt for a caption, and texts as the model would write them after it.

        Raises:
            PromptTooLong: the longest text does not fit, or has more than `max_tokens`.
        """
        begins = self._loaded.caption_prompt
        prompt_ids = tuple(self._loaded.encode_text(begins))
        room = min(max_tokens, self._room(0) - len(prompt_ids))
        return prompt_ids, [self._spell_caption(text, room, continues=bool(begins)) for text in texts]

    def _spell_caption(self, text: str, room: int, *, continues: bool) -> SpelledText:
        written = self._family.spell_choice(text.strip()) if continues else text.strip()
        encoded = self._loaded.tokenizer(
            written, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        ids = encoded["input_ids"]
        if len(ids) > room:
            raise PromptTooLong(
                f"The longest text takes {len(ids)} tokens, and {room} can be explained: shorten it.", about=Part.TEXTS
            )
        if not ids:
            raise InvalidField("A text has nothing that the model can spell: give it words.", about=Part.TEXTS)
        return spelled(written, ids, encoded["offset_mapping"])

    def _encode_choice(self, text: str) -> tuple[int, ...]:
        """Ids with which the model would give this answer: no BOS, then the end token.

        The end token is the one that ends `generate`, a newline for the published OPTs; the first if there are several.
        """
        spelled = self._family.spell_choice(text)
        ids = self._loaded.tokenizer(spelled, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return (*ids, *self._end_ids[:1])

    def _encode(self, text: str, max_new_tokens: int, or_else: str = _FEWER) -> Prompt:
        ids = self._loaded.encode_text(text)
        room = self._room(max_new_tokens)
        if len(ids) > room:
            raise PromptTooLong(
                f"The text takes {len(ids)} tokens and {room} are left of the context of"
                f" {self._loaded.max_context_tokens}: shorten it or {or_else}.",
                about=Part.PROMPT,
            )
        return Prompt(tuple(ids), self._loaded.encode_instruction(text))

    def _room(self, max_new_tokens: int) -> int:
        """Tokens left for the prompt in the context."""
        return self._loaded.max_context_tokens - self._loaded.num_query_tokens - max_new_tokens


def _question(text: str | None) -> str:
    return (text or "").strip() or DEFAULT_QUESTION


def fit_chat(family: Family, turns: Sequence[Turn], question: str, fits: Callable[[str], bool]) -> tuple[str, int]:
    """Build the longest chat prompt that fits, dropping whole turns, oldest first.

    Returns the prompt and the number of dropped turns. The question alone is returned even if it does not fit; the
    caller refuses it.
    """
    prompt = family.chat_prompt([], question)
    for kept in range(1, len(turns) + 1):
        longer = family.chat_prompt(turns[-kept:], question)
        if not fits(longer):
            return prompt, len(turns) - kept + 1
        prompt = longer
    return prompt, 0
