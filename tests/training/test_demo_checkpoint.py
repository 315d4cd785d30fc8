"""The checkpoints that ship with the project: small, loadable, and right about pictures they never saw."""

from collections.abc import Iterator

import pytest
import torch
from PIL import Image

from training.checkpoint import CHECKPOINTS
from training.evaluate import Candidate, Exam, score
from training.pictures.drawing import as_jpeg, draw
from training.pictures.held_out import DEMO_FILE, DEMO_SCENE, by_another_hand, standard
from training.pictures.scenes import Item, Scene
from training.texts.language import caption

MAX_BYTES = 8_000_000
DEMO_CAPTION = "a yellow star to the left of a red diamond on a blue background"


@pytest.fixture(scope="module", params=["demo", "demo-t5"])
def candidate(request: pytest.FixtureRequest) -> Iterator[Candidate]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Candidate(CHECKPOINTS / request.param, torch.float32)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["demo", "demo-t5"])
def test_a_checkpoint_is_small_and_safe(name: str) -> None:
    files = [file for file in (CHECKPOINTS / name).iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES
    assert {file.suffix for file in files} == {".json", ".safetensors"}


def test_it_captions_the_picture_the_project_shows(candidate: Candidate) -> None:
    assert caption(DEMO_SCENE) == DEMO_CAPTION
    with Image.open(DEMO_FILE) as image:
        assert image.size == (640, 480)
        assert candidate.say([Exam(image, "", "")], max_new_tokens=30) == [DEMO_CAPTION]


def test_it_goes_on_from_any_beginning_of_a_caption(candidate: Candidate) -> None:
    words = DEMO_CAPTION.split()
    image = draw(DEMO_SCENE)
    exams = [Exam(image, " ".join(words[:given]), " ".join(words[given:])) for given in (1, 3, 7, 11)]
    assert candidate.say(exams, max_new_tokens=30) == [exam.answer for exam in exams]


def test_it_goes_on_near_the_end_of_a_caption(candidate: Candidate) -> None:
    exams = []
    for scene, image in (standard(index) for index in range(40)):
        *beginning, color, noun = caption(scene).split()
        exams.append(Exam(image, " ".join(beginning), f"{color} {noun}"))
    # demo-t5 is weak here, as training/README.md says: after "... on a" it often says "a" once more.
    assert candidate.captions(exams) >= (0.5 if candidate.is_t5 else 0.95)


def test_it_stops_by_itself(candidate: Candidate) -> None:
    inputs = candidate.processor(images=draw(DEMO_SCENE), text="", return_tensors="pt")
    ids = candidate.model.generate(**inputs, max_new_tokens=100)[0]
    assert ids[-1] == candidate.model.config.text_config.eos_token_id


def test_it_is_right_about_held_out_pictures(candidate: Candidate) -> None:
    scores = score(candidate, [standard(index) for index in range(40)])
    assert scores["captions"] >= 0.9
    assert scores["continuations"] >= 0.9
    assert scores["answers"] >= 0.9
    assert scores["follow-ups"] >= 0.9


def test_it_is_right_about_pictures_drawn_by_another_hand(candidate: Candidate) -> None:
    assert score(candidate, [by_another_hand(index) for index in range(20)])["captions"] >= 0.9


def test_a_wrong_caption_is_not_counted(candidate: Candidate) -> None:
    other = Scene(640, 480, "red", (Item("circle", "white", 100, 100, 200),))
    image = as_jpeg(draw(DEMO_SCENE), 80)
    assert candidate.captions([Exam(image, "", caption(DEMO_SCENE)), Exam(image, "", caption(other))]) == 0.5
