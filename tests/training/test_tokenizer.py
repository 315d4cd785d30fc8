"""The checkpoints' tokenizers: one token per word, any text, and the special tokens of the large ones."""

import pytest
from transformers import PreTrainedTokenizerFast

from training.pictures.scenes import rng_for, sample_scene
from training.texts.language import caption, words
from training.texts.tokenizer import END_OF_ANSWER, IMAGE_TOKEN, opt_tokenizer, t5_tokenizer

OPT, T5 = opt_tokenizer(), t5_tokenizer()
BOTH = pytest.mark.parametrize("tokenizer", [OPT, T5], ids=["opt", "t5"])


def pieces(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return [tokenizer.decode([token]) for token in ids]


@BOTH
@pytest.mark.parametrize("word", words())
def test_a_word_is_one_token_in_every_form(tokenizer: PreTrainedTokenizerFast, word: str) -> None:
    for form in (word, word.capitalize(), f" {word}", f" {word.capitalize()}"):
        assert pieces(tokenizer, form) == [form]


@BOTH
def test_every_caption_is_made_of_words(tokenizer: PreTrainedTokenizerFast) -> None:
    for index in range(100):
        text = caption(sample_scene(rng_for("test", index), 640, 480))
        assert len(pieces(tokenizer, text)) == len(text.split())


@BOTH
@pytest.mark.parametrize("text", ["", "unicorn at sunset", "Grüße, 你好 🎉", "a\n\n b\t", "\x00", "</s><image>"])
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert (
        "".join(pieces(tokenizer, text)) == text
        or tokenizer.decode(tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids) == text
    )


def test_special_tokens_are_where_the_large_checkpoints_have_them() -> None:
    assert (OPT.pad_token_id, OPT.bos_token_id, OPT.eos_token_id) == (1, 2, 2)
    assert (T5.pad_token_id, T5.eos_token_id) == (0, 1)
    assert OPT("a red circle").input_ids[0] == OPT.bos_token_id
    assert T5("a red circle").input_ids[-1] == T5.eos_token_id
    assert pieces(OPT, END_OF_ANSWER) == [END_OF_ANSWER]


@BOTH
def test_the_image_token_is_one_token_unless_it_is_plain_text(tokenizer: PreTrainedTokenizerFast) -> None:
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    assert tokenizer(IMAGE_TOKEN, add_special_tokens=False).input_ids == [image_token]
    assert image_token not in tokenizer(IMAGE_TOKEN, split_special_tokens=True).input_ids
