"""The names by which a request may ask for a model."""

from collections.abc import Sequence

from blip2_serve.errors import UnknownModel

ALIAS = "blip2"


def check_model(name: str, names: Sequence[str]) -> None:
    """Check a request's `model`: one of the `names` that can answer it, or ALIAS.

    Raises:
        UnknownModel: it is another.
    """
    if name not in (*names, ALIAS):
        known = ", ".join(map(repr, names))
        raise UnknownModel(
            f"There is no model {name[:128]!r} here: ask {known}, or {ALIAS!r} for short.", about="model"
        )
