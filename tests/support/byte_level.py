"""A tokenizer with one token per byte, for checkpoints with random weights."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def make_byte_tokenizer(tokens: Sequence[str], template: str, **named: str) -> PreTrainedTokenizerFast:
    """`tokens` by id, ALPHABET among them, and `<image>` after the last; `template` places `</s>` about a text `$A`.

    `named` are special tokens by the name that transformers gives them, `unk_token` for one.
    """
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special_tokens = [("</s>", vocabulary["</s>"])]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special_tokens)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="</s>", eos_token="</s>", **named
    )
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    return tokenizer
