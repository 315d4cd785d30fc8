"""Captions that are too doubtful are left out, in every shape of answer."""

import pytest

from blip2_serve.api.native.batch import BatchAnswer
from blip2_serve.api.native.caption import CaptionFields, check_measured, needs_review
from blip2_serve.api.native.caption_several import Captioned
from blip2_serve.errors import InvalidField
from blip2_serve.tasks.completion import Answer
from blip2_serve.tasks.grounding.explain import WordSupport
from blip2_serve.tasks.scored.captions import ScoredCaption


@pytest.mark.parametrize(
    ("confidence", "least", "doubtful"),
    [(0.5, None, False), (None, None, False), (0.5, 0.5, False), (0.49, 0.5, True), (0.0, 0.0, False)],
)
def test_a_caption_below_the_least_confidence_needs_review(
    confidence: float | None, least: float | None, doubtful: bool
) -> None:
    assert needs_review(confidence, least) is doubtful


def test_a_model_that_is_not_calibrated_says_so() -> None:
    check_measured(0.1, measured=True)
    check_measured(None, measured=False)
    with pytest.raises(InvalidField, match="blip2-serve calibrate") as caught:
        check_measured(0.1, measured=False)
    assert caught.value.about == "min_confidence"


def test_a_doubtful_caption_has_no_text_and_no_words() -> None:
    words = [WordSupport("a", 1.0)]
    caption = ScoredCaption("a", -1.0, 0.37, 2, "stop", confidence=0.2, words=words, unsupported=[])
    told, kept_back = (Captioned.of(caption, CaptionFields(min_confidence=least)) for least in (0.1, 0.3))
    assert (told.text, told.needs_review, told.words) == ("a", False, words)
    assert (kept_back.text, kept_back.needs_review, kept_back.words) == (None, True, None)
    assert kept_back.confidence == 0.2


def test_a_doubtful_caption_of_a_batch_has_no_text() -> None:
    answers = [Answer("a", "id", 2, "stop", confidence=confidence) for confidence in (0.2, 0.9)]
    doubtful, sure = BatchAnswer.of(answers, 0.5).model_dump()["results"]
    assert (doubtful["text"], doubtful["needs_review"]) == (None, True)
    assert (sure["text"], sure["needs_review"]) == ("a", False)
