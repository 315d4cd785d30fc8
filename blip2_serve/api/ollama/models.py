"""The models as Ollama lists and shows them; a name with the tag ":latest" means the same without it."""

import hashlib
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from blip2_serve.api.models import ALIAS, check_model
from blip2_serve.api.ollama.answers import timestamp
from blip2_serve.errors import UnknownModel
from blip2_serve.tasks.verbs import Tasks

_TAG = ":latest"
# Nothing is ever unloaded; clients want a time.
_NEVER = "2318-01-01T00:00:00Z"


class OllamaDetails(BaseModel):
    """Family, format and precision of a model."""

    parent_model: str = ""
    format: str = "safetensors"
    family: str
    families: list[str]
    parameter_size: str = ""
    quantization_level: str


class OllamaModel(BaseModel):
    """A model in the list."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaDetails
    capabilities: list[str]


class OllamaModels(BaseModel):
    """Answer of /api/tags."""

    models: list[OllamaModel]


class RunningOllamaModel(OllamaModel):
    """A model in memory."""

    expires_at: str
    size_vram: int


class RunningOllamaModels(BaseModel):
    """Answer of /api/ps."""

    models: list[RunningOllamaModel]


class ShownOllamaModel(BaseModel):
    """Answer of /api/show."""

    details: OllamaDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str
    modelfile: str
    parameters: str
    template: str


def check_name(name: str, tasks: Tasks) -> None:
    """Check the name by which a request asks for the model that writes text.

    Raises:
        UnknownModel: it is another's, or no model writes text.
    """
    _ = tasks.family  # first: a server that writes no text says so, whatever model is named
    known = {_untagged(each) for each in (tasks.model_name, ALIAS, *tasks.settings.aliases)}
    if _untagged(name) not in known:
        check_model(name, tasks.model_name, tasks)


def listed(tasks: Tasks, since: datetime) -> list[OllamaModel]:
    """List the model that writes text, under its name and the aliases; none if there is none."""
    names = dict.fromkeys((tasks.model_name, *tasks.settings.aliases)) if tasks.writes_text else {}
    return [_listed(name, tasks, since) for name in names]


def running(tasks: Tasks, since: datetime) -> list[RunningOllamaModel]:
    """List the same, all in memory."""
    return [RunningOllamaModel(**each.model_dump(), expires_at=_NEVER, size_vram=0) for each in listed(tasks, since)]


def shown(values: dict[str, object], tasks: Tasks, since: datetime) -> ShownOllamaModel:
    """Show the model that a body names, as `model` or as `name`, which older clients send.

    Raises:
        UnknownModel: there is no such model.
    """
    name = values.get("model") or values.get("name")
    if not isinstance(name, str):
        raise UnknownModel('Say which model: {"model": "blip2"}.', about="model")
    check_name(name, tasks)
    family, listed = tasks.family, _listed(name, tasks, since)
    return ShownOllamaModel(
        details=listed.details,
        model_info={"general.architecture": family.model_type, "general.basename": tasks.model_name},
        capabilities=listed.capabilities,
        modified_at=listed.modified_at,
        modelfile=f"FROM {tasks.model_name}",
        parameters=f"num_predict {family.caption_defaults.get('max_new_tokens', 30)}",
        template=family.chat_template.format("{{ .Prompt }}"),
    )


def _listed(name: str, tasks: Tasks, since: datetime) -> OllamaModel:
    tagged, family = f"{_untagged(name)}{_TAG}", tasks.family.text_model_type
    if ":" in _untagged(name):
        tagged = name
    details = OllamaDetails(family=family, families=[family], quantization_level=tasks.settings.quantize)
    digest = hashlib.sha256(tasks.model_name.encode()).hexdigest()
    return OllamaModel(
        name=tagged,
        model=tagged,
        modified_at=timestamp(since),
        size=0,
        digest=digest,
        details=details,
        capabilities=["completion", "vision"],
    )


def _untagged(name: str) -> str:
    return name.removesuffix(_TAG)
