"""Lists of texts in a form: the field repeated, or one JSON list."""

import json


def texts_of(value: object) -> object:
    """What pydantic is to check: a text that is a JSON list of strings as that list, all else as it came."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, list) and all(isinstance(each, str) for each in parsed) else value
