"""From the names in an adapter's file to layers and weights of the model that is served.

peft names weights after the modules of the trained model: `base_model.model.language_model...q_proj.lora_A.weight`.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

_PREFIX = "base_model.model."
# Between a layer's name and the end: the part of the adapter, and in files not written by peft itself its name.
_LORA = re.compile(
    r"(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(\.default)?(?P<kind>\.weight|\.bias)?"
)
_WRAPPED = re.compile(r"\.(base_layer|modules_to_save\.default)(?=\.)")
# With biases that were trained, peft writes those of a module that is saved whole two times more; it reads neither.
_UNUSED = re.compile(r"\.(original_module|modules_to_save)\.bias$")
# Whoever wraps the language model alone trains with names that begin inside it.
_INSIDE = ("", "language_model.")

Rename = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class AdapterNames:
    """An adapter's weights, sorted.

    Attributes:
        parts: by layer, the names in the file by their names in peft's layer (`lora_A.default.weight`).
        replaced: the names in the file of whole weights, by the weight that they take the place of.
        unknown: names in the file that fit nothing.
    """

    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def sort_names(names: Collection[str], weights: Collection[str], rename: Rename) -> AdapterNames:
    """Find the layer or weight that each of the adapter's `names` is about.

    `weights` are the names of the model's own; `rename` spells a weight's older name as the model does.
    """
    found = AdapterNames()
    for name in names:
        bare = name.removeprefix(_PREFIX)
        if _UNUSED.search(bare):
            continue
        lora = _LORA.fullmatch(bare)
        weight = _find(f"{lora['layer']}.weight" if lora else _WRAPPED.sub("", bare), weights, rename)
        if weight is None:
            found.unknown.append(name)
            continue
        place = found.parts.setdefault(weight.removesuffix(".weight"), {}) if lora else found.replaced
        if place.setdefault(_in_layer(lora) if lora else weight, name) != name:
            found.unknown.append(name)
    return found


def _find(name: str, weights: Collection[str], rename: Rename) -> str | None:
    spellings = [spell(prefix + name) for prefix in _INSIDE for spell in (str, rename)]
    return next((spelling for spelling in spellings if spelling in weights), None)


def _in_layer(lora: re.Match[str]) -> str:
    """The name of a part in peft's layer; embeddings are parameters there, all others modules with a weight."""
    if lora["part"].startswith("lora_embedding"):
        return f"{lora['part']}.default"
    return f"{lora['part']}.default{lora['kind'] or '.weight'}"
