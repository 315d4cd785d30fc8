"""Each command in README.md and its companions runs on the demo checkpoint and prints its documented output."""

import re
from pathlib import Path

import pytest

from blip2_serve.config import Settings
from blip2_serve.families import FAMILIES, Family
from support.readme import DOCS, PICTURES, README, REFERENCE, Example, examples, run
from support.serving import Server

STARTED_ELSEWHERE = {
    "make demo\n": "tests/e2e/test_make_demo.py",
    "make test\n": "this very run",
}
CALLS = [example for example in examples(README, REFERENCE, PICTURES) if example.code not in STARTED_ELSEWHERE]
MAX_README_LINES = 150


@pytest.mark.parametrize("example", CALLS, ids=lambda example: example.code.splitlines()[-1][:60])
def test_the_example_prints_what_is_said_there(example: Example, demo: Server) -> None:
    printed = run(example, demo.url).strip()
    assert printed
    if example.prints is not None:
        assert printed == example.prints.strip()


def test_the_two_commands_lead() -> None:
    commands = [example.code for example in examples()]
    assert commands.index("make demo\n") == 0
    assert "localhost:3000/generate" in commands[1]
    assert "make test\n" in commands


def test_the_readme_stays_short() -> None:
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("document", [README, *sorted(DOCS.glob("*.md"))], ids=lambda document: document.name)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", [README, *sorted(DOCS.glob("*.md"))], ids=lambda document: document.name)
def test_every_link_to_a_heading_finds_it(document: Path) -> None:
    for target, heading in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", document.read_text()):
        headings = re.findall(
            r"^#+ (.*)$", (document.parent / target if target else document).read_text(), re.MULTILINE
        )
        assert heading in [_anchor(each) for each in headings], f"{target}#{heading}"


def test_every_document_and_screenshot_is_linked() -> None:
    links = {
        (document.parent / target).resolve()
        for document in [*README.parent.glob("*.md"), *DOCS.glob("*.md")]
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text())
    }
    for_users = set(DOCS.glob("*.md")) - {DOCS / "releasing.md"}
    assert {*for_users, *(DOCS / "screenshots").glob("*.png")} <= links


def test_every_setting_is_documented() -> None:
    text = (DOCS / "settings.md").read_text()
    for name in Settings.model_fields:
        assert f"`BLIP2_{name.upper()}`" in text


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_document_says_each_prompt_and_default(family: Family) -> None:
    text = (DOCS / "families.md").read_text()
    header, *rows = [_cells(line) for line in text.splitlines() if line.startswith("| ")]
    column = header.index({"opt": "OPT", "flan-t5": "Flan-T5"}.get(family.name, "InstructBLIP with Flan-T5"))
    said = {row[0]: row[column] for row in rows if len(row) == len(header)}
    caption = {"max_new_tokens": 30, "repetition_penalty": 1.0} | dict(family.caption_defaults)
    question = {"repetition_penalty": 1.0} | dict(family.vqa_defaults)
    assert said["transformers' class"] == f"`{family.architecture}`"
    assert said["dtype on a GPU"] == f"`{family.gpu_dtype}`"
    assert said["one question"] == f"`{family.question_template}`"
    assert said["earlier turn of a chat"] == f"`{family.turn_template}`"
    assert said["question of a chat"] == f"`{family.chat_template}`"
    assert said["caption"].startswith(f"`{family.caption_prompt}`" if family.caption_prompt else "none")
    for name, value in caption.items():
        assert said[f"captions and chat: `{name}`"] == str(value)
    for name, value in question.items():
        assert said[f"questions: `{name}`"] == str(value)


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]
