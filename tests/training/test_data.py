"""Batches: labels lie where the items are, and each text learns exactly what is served."""

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from training.data import batches, normalise
from training.model import NUM_QUERY_TOKENS, TEXT_WIDTH, blip2_config, new_model, opt_config, processor, t5_config
from training.patch_heads import IGNORED, patch_labels
from training.pictures.drawing import Style, draw
from training.pictures.pool import GRID, IMAGE_SIZE, render, squash
from training.pictures.scenes import Item, Scene
from training.query_heads import NO_COLOR, SEVERAL_COLORS, query_labels
from training.rows import read, read_scenes, row_batches
from training.seen import see, seen_batches
from training.texts.language import Turn, caption
from training.texts.opt_texts import CAPTION, CONVERSATION, PADDING, OptPacker
from training.texts.t5_texts import (
    USES,
    T5Loss,
    T5Packer,
    beginning_pair,
    caption_pair,
    conversation_pair,
    follow_up_pair,
    question_pair,
)
from training.texts.tokenizer import opt_tokenizer, t5_tokenizer

TOKENIZER: PreTrainedTokenizerFast = opt_tokenizer()
PACKER = OptPacker(TOKENIZER)
SCENE = Scene(630, 630, "white", (Item("circle", "red", 70, 70, 140), Item("square", "blue", 420, 140, 70)))


def test_pixels_are_those_of_the_image_processor() -> None:
    image = draw(SCENE)
    ours = normalise(squash(image)[None])
    theirs = processor(TOKENIZER)(images=image, return_tensors="pt").pixel_values
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_patch_labels_lie_where_the_items_are() -> None:
    labels = patch_labels([SCENE], [Style()])
    order = labels.order.view(GRID, GRID)
    expected = np.zeros((GRID, GRID), int)
    expected[1:3, 1:3], expected[2, 6] = 1, 2
    assert order.tolist() == expected.tolist()
    silhouette = labels.silhouettes.view(GRID, GRID, 7, 7)
    assert silhouette[2, 6].min() == 1
    assert silhouette[1, 1, 0, 0] == 0
    assert silhouette[1, 1, 6, 6] == 1
    # The square fills patch (2, 6) exactly; the circle reaches half a patch beyond the middle of its corner.
    assert torch.allclose(labels.extents[0].view(GRID, GRID, 4)[2, 6], torch.tensor([-0.5, -0.5, 0.5, 0.5]))
    assert torch.allclose(labels.extents[0].view(GRID, GRID, 4)[1, 1], torch.tensor([-0.5, -0.5, 1.5, 1.5]))
    assert torch.allclose(query_labels([SCENE]).boxes[0, 1], torch.tensor([455 / 630, 175 / 630, 1 / 9, 1 / 9]))


def test_query_labels_name_the_second_item_or_none() -> None:
    single = Scene(630, 630, "white", SCENE.items[:1])
    labels = query_labels([SCENE, single])
    assert labels.classes.tolist() == [[0, 0, 1, 2, 7, 1], [0, 0, 5, 8, 7, 0]]
    assert labels.boxes[1, 1].isnan().all()


def test_query_labels_tell_the_color_of_each_shape() -> None:
    first, second = SCENE.items
    twins = Scene(630, 630, "white", (first, replace(second, shape="circle")))
    colors_of = query_labels([SCENE, twins]).colors_of
    assert colors_of.tolist() == [[0, 2, NO_COLOR, NO_COLOR, NO_COLOR], [SEVERAL_COLORS, *[NO_COLOR] * 4]]


def test_each_answer_is_learned_as_if_it_were_the_last() -> None:
    ids, labels = PACKER.conversation([Turn("what shape is red?", "circle"), Turn("what color is it?", "red")])
    assert (
        TOKENIZER.decode(ids[1:])
        == "Question: what shape is red? Answer: circle. Question: what color is it? Answer: red"
    )
    learned = [TOKENIZER.decode([label]) for label in labels if label != IGNORED]
    assert learned == [" circle", "\n", " red", "\n"]
    assert TOKENIZER.decode([ids[labels.index(PACKER.end)]]) == " circle"


def test_a_packed_conversation_is_tokenised_as_it_is_served() -> None:
    ids, _ = PACKER.conversation([Turn("what shape is red?", "circle"), Turn("what color is it?", "red")])
    assert ids == TOKENIZER(TOKENIZER.decode(ids[1:])).input_ids


def test_texts_of_a_picture_do_not_see_each_other() -> None:
    texts = PACKER.pack([SCENE, SCENE], random.Random(1))
    mask, segments = texts.mask()[:, 0] == 0, texts.segments
    assert mask.shape == (2, segments.shape[1], segments.shape[1])
    for sees, segment in zip(mask, segments, strict=True):
        caption, conversation = segment == CAPTION, segment == CONVERSATION
        assert not sees[conversation][:, caption].any()
        assert sees[conversation][:, :NUM_QUERY_TOKENS].all()
        assert sees[caption][:, caption].tril().equal(sees[caption][:, caption])
        assert (texts.labels[0][texts.segments[0] == PADDING] == IGNORED).all()


def test_a_batch_depends_on_its_number_alone() -> None:
    images = np.stack([np.asarray(Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), (index, 0, 0))) for index in range(8)])
    stream = batches(images, PACKER, batch_size=4, num_texts=2)
    next(stream)
    second, again = next(stream), next(batches(images, PACKER, batch_size=4, num_texts=2, start=1))
    assert len(second.texts.ids) == 2
    assert second.texts.ids.equal(again.texts.ids)
    assert second.pixels.equal(again.pixels)


def test_a_seen_batch_has_the_scenes_as_they_were_seen() -> None:
    images = np.zeros((8, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    patches = see(lambda pixel_values: SimpleNamespace(last_hidden_state=pixel_values[:, 0]), images)
    assert len(patches) == 8
    first, again = (next(seen_batches(patches, PACKER, batch_size=4)) for _ in range(2))
    assert first.texts.ids.equal(again.texts.ids)
    assert len(first.patches) == len(first.query_labels.boxes) == len(first.texts.ids) == 4


def test_flan_t5_learns_the_prompts_that_are_served() -> None:
    rng = random.Random(0)
    assert caption_pair(SCENE, rng) == ("", caption(SCENE))
    beginnings = [beginning_pair(SCENE, rng) for _ in range(200)]
    assert {" ".join(pair) for pair in beginnings} == {caption(SCENE)}
    assert {len(prompt.split()) for prompt, _ in beginnings} == set(range(1, len(caption(SCENE).split())))
    assert all(question_pair(SCENE, rng)[0].endswith("? Short answer:") for _ in range(10))
    assert all(conversation_pair(SCENE, rng)[0].endswith("? Answer:") for _ in range(10))
    assert all(follow_up_pair(SCENE, rng)[0].lower().endswith(" is it? answer:") for _ in range(10))


def test_flan_t5_reads_image_tokens_first_and_says_the_answer_to_its_end() -> None:
    tokenizer = t5_tokenizer()
    groups = T5Packer(tokenizer).pack([SCENE, SCENE], random.Random(0))
    assert sorted(torch.cat([texts.pictures for texts in groups]).tolist()) == [0] * len(USES) + [1] * len(USES)
    for texts in groups:
        assert (texts.attention_mask[:, :NUM_QUERY_TOKENS] == 1).all()
        for row, mask, labels in zip(texts.ids, texts.attention_mask[:, NUM_QUERY_TOKENS:], texts.labels, strict=True):
            assert row[mask == 1][-1] == tokenizer.eos_token_id
            assert labels[labels != IGNORED][-1] == tokenizer.eos_token_id


def test_flan_t5_texts_are_tokenised_as_they_are_served() -> None:
    tokenizer, rng = t5_tokenizer(), random.Random(0)
    packer = T5Packer(tokenizer)
    for text in (text for _ in range(50) for use in USES for text in use(SCENE, rng)):
        assert list(packer.encode(text)) == tokenizer(text).input_ids


def test_a_text_in_its_group_weighs_what_it_weighs_alone() -> None:
    tokenizer, rng = t5_tokenizer(), random.Random(0)
    model = new_model(blip2_config(t5_config(tokenizer), tokenizer), seed=0)
    groups = T5Packer(tokenizer).pack([SCENE], rng)
    rows, loss = torch.randn(1, NUM_QUERY_TOKENS, TEXT_WIDTH), T5Loss(compiled=False)
    with torch.no_grad():
        together = loss(model, rows, groups)
        alone = [loss(model, rows, [group]) * len(group.ids) for group in groups]
    assert together.item() == pytest.approx(torch.stack(alone).sum().item() / len(USES), rel=1e-5)


def test_rows_are_those_of_the_pictures_and_then_of_the_flipped_ones() -> None:
    images = np.stack([render(index) for index in range(2)])
    model = new_model(blip2_config(opt_config(TOKENIZER), TOKENIZER), seed=0)
    rows, flipped = read(model, images), read(model, images[:, :, ::-1].copy())
    assert rows.shape == (4, NUM_QUERY_TOKENS, TEXT_WIDTH)
    assert rows[2:].equal(flipped[:2])
    assert [scene.mirrored() for scene in read_scenes(2)[:2]] == read_scenes(2)[2:]
    first, again = (next(row_batches(rows, read_scenes(2), PACKER, batch_size=3)) for _ in range(2))
    assert first.rows.equal(again.rows)
    assert first.texts.ids.equal(again.texts.ids)
