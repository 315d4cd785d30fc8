"""Read a file of JSON from a checkpoint's folder, or say in one line what is wrong with it."""

import json
from pathlib import Path
from typing import Any

from blip2_serve.errors import StartupError

# transformers' folder for the tokenizer of a Q-Former that reads the prompt.
INSTRUCTION_TOKENIZER = "qformer_tokenizer"


def read_json(path: Path, name: str) -> dict[str, Any]:
    """Read a JSON object; `name` is the setting that names the checkpoint, for messages.

    Raises:
        StartupError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise incomplete(name, path.name) from None
    except (OSError, ValueError) as error:
        raise StartupError(f"{name}: {path.name} cannot be read ({error}).") from None
    if not isinstance(content, dict):
        raise StartupError(f"{name}: {path.name} holds no JSON object.")
    return content


def incomplete(name: str, missing: str, suggestion: str = "", hint: str = "") -> StartupError:
    """Build the error about a file that is not there."""
    instead = f", or {suggestion}" if suggestion else ""
    return StartupError(f"{name} is incomplete: {missing} is missing{hint}; download it again{instead}.")
