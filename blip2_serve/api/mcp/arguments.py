"""The arguments of the tools and the shapes of their answers. Models of language read the descriptions."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, field_validator

from blip2_serve.api.native.chat import checked_turns
from blip2_serve.api.native.choose import MAX_CHOICES, different_choices
from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, MAX_TURNS, Fields, whole_characters
from blip2_serve.families import Turn
from blip2_serve.options import MAX_NEW_TOKENS
from blip2_serve.tasks.completion import Answer
from blip2_serve.tasks.scored.choices import Choice

IMAGE = "the picture: an http(s) URL, a data: URI, or the image_id of an earlier answer about it"
_Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS), AfterValidator(whole_characters)]
_Question = Annotated[_Text, AfterValidator(str.strip)]
_Guards = Annotated[bool, Field(description="make an answer again that loops or is empty")]
_MaxNewTokens = Annotated[int | None, Field(ge=1, le=MAX_NEW_TOKENS, description="most tokens to write, 1 to 256")]


class PictureArguments(Fields):
    """A picture; `image` is taken out of the call before the call is read (see `message`)."""

    image: str = Field(description=IMAGE)


class CaptionArguments(PictureArguments):
    """A picture to caption."""

    prefix: _Text = Field("", description="how the caption begins; leave it out for a plain caption")
    max_new_tokens: _MaxNewTokens = None
    guards: _Guards = False


class AskArguments(PictureArguments):
    """A question about a picture."""

    question: _Question = Field(description="a short question about what can be seen")
    max_new_tokens: _MaxNewTokens = None
    guards: _Guards = False


class ChooseArguments(PictureArguments):
    """A question about a picture and the answers to choose from."""

    question: _Question = Field(description="a short question about what can be seen")
    choices: list[str] = Field(
        ["yes", "no"], min_length=2, max_length=MAX_CHOICES, description="2 to 64 different short answers"
    )

    _different = field_validator("choices")(different_choices)


class ChatArguments(AskArguments):
    """The next question of a conversation about a picture."""

    turns: list[Turn] = Field(
        [], max_length=MAX_TURNS, description='earlier questions and answers, [["question", "answer"], ...]'
    )

    _short = field_validator("turns")(checked_turns)


class TextAnswer(BaseModel):
    """A text about a picture; what is not known is left out."""

    text: str
    image_id: str = Field(description="send it as image to ask about the same picture again")
    finish_reason: str = Field(description="length: the text was cut at max_new_tokens")
    confidence: float | None = Field(None, description="of a caption: how often such captions are right")
    dropped_turns: int | None = Field(None, description="oldest turns for which there was no room")
    guards: list[str] | None = Field(None, description="options with which it was made again; where there are any")

    @classmethod
    def of(cls, answer: Answer) -> "TextAnswer":
        """Take over what a verb answers."""
        return cls(
            text=answer.text,
            image_id=answer.image_id,
            finish_reason=answer.finish_reason,
            confidence=answer.confidence,
            dropped_turns=answer.dropped_turns,
            guards=list(answer.guards) or None,
        )


class ChoicesAnswer(BaseModel):
    """The choices, most probable first."""

    choices: list[Choice]
    image_id: str = Field(description="send it as image to ask about the same picture again")
