"""The demo checkpoint's picture, and the answers that README.md and docs/api.md print for it: one place to change."""

import json
import re

from support.readme import README, REFERENCE, examples
from support.serving import ROOT

PICTURE = ROOT / "demo.jpeg"


def _printed(command: str) -> tuple[re.Match[str], str]:
    """Find the first example that prints something and whose command matches; returns the match and the output."""
    for example in examples(README, REFERENCE):
        match = re.search(command, example.code)
        if match and example.prints:
            return match, example.prints.strip()
    raise LookupError(f"README.md and docs/api.md have no example like {command}")


_, CAPTION = _printed(r"img=@demo.jpeg localhost:3000/generate")
PREFIX = _printed(r"'txt=(.*)' localhost:3000/generate")[0][1]
QUESTION = "what color is the background?"
_, ANSWER = _printed(re.escape(f"'txt={QUESTION}' localhost:3000/vqa"))
_chat, FOLLOW_UP_ANSWER = _printed(r"'txt=(.*)'[^']*'context=(.*)' localhost:3000/chat")
FOLLOW_UP, TURN = _chat[1], json.loads(_chat[2])[0]
