"""Single tokens as text and bytes, for both kinds of tokenizer."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from blip2_serve.model.vocabulary import TokenText, Vocabulary
from support.serving import ROOT
from support.tiny import byte_tokenizer


def test_the_bytes_of_byte_level_tokens_join_to_the_text() -> None:
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "blip2_serve/checkpoints/demo")
    vocabulary = Vocabulary(tokenizer)
    text = " a yellow star, naïve 🦊\n"
    tokens = [vocabulary[token_id] for token_id in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert b"".join(token.data for token in tokens).decode() == text
    assert " yellow" in [token.text for token in tokens]


def test_a_part_of_a_character_is_no_text_but_bytes() -> None:
    tokenizer = byte_tokenizer("opt")
    halves = [Vocabulary(tokenizer)[token_id] for token_id in tokenizer("ä", add_special_tokens=False)["input_ids"]]
    assert halves == [TokenText("\ufffd", b"\xc3"), TokenText("\ufffd", b"\xa4")]


@pytest.mark.parametrize(("token_id", "text"), [(1, " the"), (2, "s"), (0, "</s>"), (99, "")])
def test_tokens_of_a_sentencepiece_keep_their_space(token_id: int, text: str) -> None:
    pieces = Tokenizer(models.Unigram([("</s>", 0.0), ("▁the", -1.0), ("s", -2.0)], unk_id=0))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="</s>")
    assert Vocabulary(tokenizer)[token_id] == TokenText(text, text.encode())


@pytest.mark.parametrize("name", ["demo", "demo-t5"])
def test_added_tokens_are_spelled_as_they_were_added(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "blip2_serve/checkpoints" / name)
    tokenizer.add_tokens(["<a new word>", "ä ö"])
    vocabulary = Vocabulary(tokenizer)
    for token in ("<a new word>", "ä ö"):
        known = vocabulary[tokenizer.convert_tokens_to_ids(token)]
        assert (known.text, known.data) == (token, token.encode())


def test_a_token_outside_the_byte_alphabet_is_what_the_tokenizer_decodes() -> None:
    pieces = Tokenizer(models.BPE({"<a filler>": 0, "Ġa": 1}, []))
    pieces.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces)
    for token_id in (0, 1):
        assert Vocabulary(tokenizer)[token_id].text == tokenizer.decode([token_id])
