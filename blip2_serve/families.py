"""The families of BLIP-2: one object each, with all that differs between them. Needs no torch, no transformers.

Other modules ask the object and never compare families. A family names its backend and its model class by keys that
`engine.backends` and `model.weights` look up. docs/families.md gives the source of each number.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Dtype = Literal["float32", "float16", "bfloat16"]
Turn = tuple[str, str]

# A question as the papers' and model cards' code writes it, template included.
_PROMPT = re.compile(r"Question:.*\b(Short )?Answer:", re.IGNORECASE | re.DOTALL)
DEFAULT_QUESTION = "What is this a picture of?"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Architecture:
    """A class of transformers, the reference implementation, and how its weights are kept.

    Attributes:
        architecture: name of the class.
        gpu_dtype: half precision the published checkpoints were trained in.
        overflows_in_float16: activations leave float16's range, and answers become rubbish.
        unpacked_layers: linear layers of the language model that must not be quantised.
    """

    architecture: str
    gpu_dtype: Dtype
    overflows_in_float16: bool = False
    unpacked_layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Family(Architecture):
    """Everything specific to one family of models that write text.

    Attributes:
        model_type, text_model_type: the types in config.json and its text_config that identify a checkpoint's family.
        backend: key of the decoder in `engine.backends`.
        reads_instruction: the Q-Former reads the prompt, so image tokens depend on picture and text.
        decoder_only: the answer continues the prompt in one sequence, so transformers' `generate` returns both.
        question_template: prompt for one question.
        turn_template, chat_template: one earlier turn of a conversation, and the question after all turns.
        turn_separator: text between turns.
        caption_prompt: prompt for a caption, unless the checkpoint's name implies another.
        caption_defaults, vqa_defaults: the reference's decoding options, where they differ from `DecodingOptions`.
        choice_template: a given answer as the model would write it.
        packed_widths: names in text_config; the product of each tuple is an input width of quantised layers.
    """

    name: str
    model_type: str
    text_model_type: str
    backend: str
    decoder_only: bool
    question_template: str
    packed_widths: tuple[tuple[str, ...], ...]
    reads_instruction: bool = False
    turn_template: str = "Question: {} Answer: {}"
    chat_template: str = "Question: {} Answer:"
    turn_separator: str = " "
    choice_template: str = "{}"
    caption_prompt: str = ""
    caption_defaults: Mapping[str, Any] = field(default_factory=dict)
    vqa_defaults: Mapping[str, Any] = field(default_factory=dict)

    def question_prompt(self, question: str) -> str:
        """Build the prompt for one question; one that is written as a prompt already stays as it is."""
        return question if _PROMPT.fullmatch(question) else self.question_template.format(question)

    def chat_prompt(self, turns: Sequence[Turn], question: str) -> str:
        """Join the earlier (question, answer) turns, each answer ended by a full stop, and the question."""
        earlier = [self._turn(asked.strip(), _closed(answer.strip())) for asked, answer in turns]
        asks = question if _PROMPT.fullmatch(question) else self.chat_template.format(question)
        return self.turn_separator.join([*earlier, asks])

    def _turn(self, asked: str, answer: str) -> str:
        return f"{asked} {answer}" if _PROMPT.fullmatch(asked) else self.turn_template.format(asked, answer)

    def spell_choice(self, text: str) -> str:
        """Spell a given answer as the model would write it."""
        return self.choice_template.format(text)

    def echoed_prefix(self, prefix: str | None) -> str:
        """Return the text to put before a continuation of `prefix`: `prefix` for decoder-only models, else ""."""
        return prefix or "" if self.decoder_only else ""

    def reference_inputs(self, instruction_ids: Sequence[int]) -> dict[str, list[int]]:
        """Build the extra inputs of transformers' model for a Q-Former that reads the prompt; else an empty dict."""
        if not self.reads_instruction:
            return {}
        return {"qformer_input_ids": list(instruction_ids), "qformer_attention_mask": [1] * len(instruction_ids)}


OPT = Family(
    name="opt",
    model_type="blip-2",
    text_model_type="opt",
    architecture="Blip2ForConditionalGeneration",
    backend="opt",
    gpu_dtype="float16",
    decoder_only=True,
    question_template="Question: {} Answer:",
    choice_template=" {}",
    vqa_defaults={"max_new_tokens": 10, "length_penalty": 0.0},
    packed_widths=(("hidden_size",), ("ffn_dim",)),
)
FLAN_T5 = Family(
    name="flan-t5",
    model_type="blip-2",
    text_model_type="t5",
    architecture="Blip2ForConditionalGeneration",
    backend="t5",
    gpu_dtype="bfloat16",
    overflows_in_float16=True,
    decoder_only=False,
    question_template="Question: {} Short answer:",
    vqa_defaults={"max_new_tokens": 10, "length_penalty": -1.0},
    packed_widths=(("d_model",), ("num_heads", "d_kv")),
    # `wo` gets inputs beyond float16, in which int8 layers multiply; transformers' T5 feeds bytes to a 4-bit `wo`.
    unpacked_layers=("wo",),
)
INSTRUCTBLIP_FLAN_T5 = replace(
    FLAN_T5,
    name="instructblip-flan-t5",
    model_type="instructblip",
    architecture="InstructBlipForConditionalGeneration",
    reads_instruction=True,
    caption_prompt="A short image description:",
    caption_defaults={"max_new_tokens": 256, "repetition_penalty": 1.5},
    vqa_defaults={"max_new_tokens": 10, "length_penalty": -1.0, "repetition_penalty": 1.5},
)
FAMILIES = (OPT, FLAN_T5, INSTRUCTBLIP_FLAN_T5)
# The first stage's heads, which match pictures with texts and write none.
RETRIEVAL = Architecture(architecture="Blip2ForImageTextRetrieval", gpu_dtype="float16")


def find_family(model_type: object, text_model_type: object) -> Family | None:
    """Find a checkpoint's family by the types in its config.json; None for an unsupported model."""
    kinds = {(family.model_type, family.text_model_type): family for family in FAMILIES}
    return kinds.get((str(model_type), str(text_model_type)))


def _closed(answer: str) -> str:
    return answer if answer.endswith(".") else f"{answer}."
