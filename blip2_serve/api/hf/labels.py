"""Zero-shot classification: labels as answers to choose from."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

from blip2_serve.api.native.choose import MAX_CHOICES
from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, texts_of, whole_characters
from blip2_serve.tasks.scored.choices import Choice, Normalize


class Labels(BaseModel):
    """The labels, and how each is put into words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    candidate_labels: list[str] = Field(
        min_length=1, max_length=MAX_CHOICES, description="1 to 64 labels; equal ones count once"
    )
    hypothesis_template: str = Field(
        "{}", max_length=256, description="an answer, with {} for the label; default the label alone"
    )
    question: str | None = Field(
        None, max_length=MAX_TEXT_CHARACTERS, description="what the answers answer; default: What is this a picture of?"
    )
    normalize: Normalize = Field("sum", description="compare log-likelihoods as sums over tokens, or as means (length)")

    @field_validator("candidate_labels", mode="before")
    @classmethod
    def _labels_may_be_one_text(cls, labels: object) -> object:
        """Take "cat, dog", as transformers' pipeline does, and a JSON list in a text."""
        labels = texts_of(labels)
        return labels.split(",", MAX_CHOICES) if isinstance(labels, str) else labels

    @field_validator("candidate_labels")
    @classmethod
    def _labels_are_texts(cls, labels: list[str]) -> list[str]:
        if not all(whole_characters(label).strip() for label in labels):
            raise ValueError("a label is empty: give each a text")
        if sum(map(len, labels)) > MAX_TEXT_CHARACTERS:
            raise ValueError(f"the labels have more than {MAX_TEXT_CHARACTERS} characters: shorten them")
        return labels

    @field_validator("question")
    @classmethod
    def _question_is_text(cls, question: str | None) -> str | None:
        return None if question is None else whole_characters(question)

    @field_validator("hypothesis_template")
    @classmethod
    def _template_has_a_place(cls, template: str) -> str:
        if "{}" not in whole_characters(template):
            raise ValueError("the template has no {} for the label")
        return template

    def by_answer(self) -> dict[str, str]:
        """The labels by the answers that they are put into."""
        template = self.hypothesis_template
        return {template.replace("{}", label.strip(), 1).strip(): label.strip() for label in self.candidate_labels}


class TaskLabel(BaseModel):
    """A label and its probability among the labels."""

    label: str
    score: float


def labelled(choices: Sequence[Choice], labels: dict[str, str]) -> list[TaskLabel]:
    """The labels of the chosen answers, most probable first."""
    return [TaskLabel(label=labels[choice.text], score=choice.probability) for choice in choices]
