"""The names by which a request may ask for a model."""

from blip2_serve.errors import UnknownModel
from blip2_serve.tasks.verbs import Tasks

ALIAS = "blip2"


def check_model(name: str, model: str, tasks: Tasks) -> None:
    """Check a request's `name` for the served `model`: the model's own, ALIAS or one of BLIP2_MODEL_ALIASES.

    Raises:
        UnknownModel: it is another, and BLIP2_ANY_MODEL_NAME is off.
    """
    settings = tasks.settings
    if name in (model, ALIAS, *settings.aliases) or settings.any_model_name == "on":
        return
    known = ", ".join(map(repr, (model, *settings.aliases)))
    raise UnknownModel(f"There is no model {name[:128]!r} here: ask {known}, or {ALIAS!r} for short.", about="model")


def listed_models(tasks: Tasks) -> list[str]:
    """List the names of the loaded models, the one that writes text first, then the aliases."""
    return [*dict.fromkeys((*tasks.model_names, *tasks.settings.aliases))]
