"""The checkpoints' tokenizers: byte-level BPE in which every word of the language is one token.

All mirror the tokenizers of the large checkpoints, so that the same code loads them: OPT's begins a text with `</s>`
(id 2) and pads with id 1, Flan-T5's ends a text with `</s>` (id 1) and pads with id 0; the matching heads' is BERT's,
which ignores case, stands a text between `[CLS]` and `[SEP]` and pads with id 0.
"""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AddedToken, PreTrainedTokenizerFast

from training.texts.language import corpus

IMAGE_TOKEN = "<image>"
END_OF_ANSWER = "\n"  # ends what OPT writes, as in the large checkpoints
MAX_CONTEXT = 512


def opt_tokenizer() -> PreTrainedTokenizerFast:
    """Build OPT's: `</s>` once before the text, none after it."""
    tokenizer = _trained(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = _template(tokenizer, "</s> $A", "</s>")
    return _wrapped(tokenizer, bos_token="</s>", eos_token="</s>")


def t5_tokenizer() -> PreTrainedTokenizerFast:
    """Build Flan-T5's: `</s>` once after the text."""
    tokenizer = _trained(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = _template(tokenizer, "$A </s>", "</s>")
    return _wrapped(tokenizer, eos_token="</s>")


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """Build that of the matching heads: `[CLS]` before the text and `[SEP]` after it, case ignored."""
    tokenizer = _trained(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.post_processor = _template(tokenizer, "[CLS] $A [SEP]", "[CLS]", "[SEP]")
    return _wrapped(tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]")


def _trained(special_tokens: list[str]) -> Tokenizer:
    """Train a BPE that merges until every form of every word is one token, then runs out of pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2_000,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def _template(tokenizer: Tokenizer, single: str, *marks: str) -> processors.TemplateProcessing:
    tokens = [(mark, tokenizer.token_to_id(mark)) for mark in marks]
    return processors.TemplateProcessing(single=single, special_tokens=tokens)


def _wrapped(tokenizer: Tokenizer, **tokens: str) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_CONTEXT,
        clean_up_tokenization_spaces=False,
        **{"unk_token": "<unk>", "pad_token": "<pad>", **tokens},
    )
    wrapped.add_tokens([AddedToken(IMAGE_TOKEN, normalized=False, special=True)], special_tokens=True)
    return wrapped
