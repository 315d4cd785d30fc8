"""The matching checkpoint that ships with the project: small, on the tower of `demo`, right about unseen pictures."""

from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import load_file

from training.checkpoint import CHECKPOINTS
from training.pictures.held_out import standard
from training.pictures.scenes import rng_for
from training.retrieval.batches import encode
from training.retrieval.evaluate import Candidate
from training.retrieval.model import NAME
from training.retrieval.statements import part, swapped, whole
from training.texts.tokenizer import bert_tokenizer

MAX_BYTES = 6_000_000
LAST_NORM = "vision_model.post_layernorm."


@pytest.fixture(scope="module")
def candidate() -> Iterator[Candidate]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Candidate(CHECKPOINTS / NAME)
    torch.set_num_threads(threads)


def test_it_is_small_and_safe() -> None:
    files = [file for file in (CHECKPOINTS / NAME).iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES
    assert {file.suffix for file in files} == {".json", ".safetensors"}


def test_its_tower_is_that_of_demo_bit_by_bit_but_for_the_last_norm() -> None:
    ours, demo = (load_file(CHECKPOINTS / name / "model.safetensors") for name in (NAME, "demo"))
    tower = [name for name in demo if name.startswith("vision_model.")]
    differing = {name for name in tower if not torch.equal(ours[name], demo[name])}
    assert differing == {f"{LAST_NORM}weight", f"{LAST_NORM}bias"}
    assert {weight.dtype for weight in ours.values()} == {torch.bfloat16}


def test_of_a_hundred_pictures_and_captions_partners_find_each_other(candidate: Candidate) -> None:
    scores = candidate.score([standard(index) for index in range(70_000, 70_100)])
    for of_captions in (False, True):
        assert scores.recall("matching", of_captions=of_captions) >= 0.9
        assert scores.recall("cosine", of_captions=of_captions) >= 0.8


def test_a_swapped_attribute_is_noticed(candidate: Candidate) -> None:
    assert candidate.tells_apart([standard(index) for index in range(70_100, 70_200)]) >= 0.95


@pytest.mark.parametrize("text", ["a red circle above a blue square on an orange background", "A RED CIRCLE", ""])
def test_texts_are_read_as_bert_does(text: str) -> None:
    tokenizer = bert_tokenizer()
    ids = encode([text], tokenizer).ids[0].tolist()
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text.lower()
    assert tokenizer.pad_token_id == 0


@pytest.mark.parametrize("index", range(40))
def test_true_statements_hold_and_swapped_ones_do_not(index: int) -> None:
    scene, _ = standard(index)
    rng = rng_for("statements", index)
    for true in (whole(scene), part(scene, rng)):
        false = swapped(true, scene, rng)
        assert true.holds(scene)
        assert not false.holds(scene)
        assert false.text != true.text
