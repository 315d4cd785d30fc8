"""Merge a LoRA adapter into its base model's weights, one layer at a time, with peft's own arithmetic in float32.

peft puts its layers into an empty model, which says what the adapter must hold. A layer gets numbers when its merged
weight is asked for, and loses them after, so memory is that of one layer. The only importer of peft.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors import safe_open

from blip2_serve.errors import StartupError
from blip2_serve.model.adapter.files import Adapter
from blip2_serve.model.adapter.names import AdapterNames, Rename, sort_names

MAX_RANK = 4096
_ADAPTER = "default"  # peft's name for an adapter that has none
# What decides the arithmetic, handed to peft as it is.
_ARITHMETIC = (
    "r", "lora_alpha", "use_rslora", "use_dora", "lora_bias", "rank_pattern", "alpha_pattern", "fan_in_fan_out"
)  # fmt: skip
# What decides training, or which layers are adapted, which the weights say themselves.
_OTHER = (
    "peft_type", "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "bias",
    "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern", "lora_dropout",
    "init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_core",
    "qalora_group_size", "peft_version", "runtime_config",
)  # fmt: skip
# Other ways to begin, such as PiSSA's, change the base model's weights.
_BEGINNINGS = (None, True, False, "gaussian", "orthogonal", "eva")

Read = Callable[[], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Merge:
    """An adapter that fits its base model, ready to be merged.

    Attributes:
        model: the empty base model, with peft's layers in it.
    """

    adapter: Adapter
    names: AdapterNames
    model: Any

    def changed(self) -> set[str]:
        """Names of the weights that the adapter changes or replaces."""
        merged = {f"{layer}.{kind}" for layer in self.names.parts for kind in self._merged_kinds(layer)}
        return merged | self.names.replaced.keys()

    def weight(self, name: str, read: Mapping[str, Read]) -> torch.Tensor:
        """Return a merged weight in float32; `read` reads the base model's weights by name.

        Raises:
            ValueError: the merged weight has numbers that are not finite.
        """
        layer, _, kind = name.rpartition(".")
        if kind not in self._merged_kinds(layer):
            return self._base(name, read)
        # A copy, which is empty and costs nothing, takes its numbers along when it goes.
        lora = copy.deepcopy(self.model.get_submodule(layer))
        own = {f"base_layer.{each}": self._base(f"{layer}.{each}", read) for each in self._merged_kinds(layer)}
        parts = {part: self._of_adapter(key) for part, key in self.names.parts[layer].items()}
        lora.load_state_dict({**own, **parts}, strict=False, assign=True)
        lora.merge(safe_merge=True)
        merged: torch.Tensor = getattr(lora.get_base_layer(), kind).detach()
        return merged

    def _merged_kinds(self, layer: str) -> list[str]:
        """Which of a layer's own weights peft adds to; none if it is not adapted."""
        parts = self.names.parts.get(layer, {})
        return ["weight", "bias"] if "lora_B.default.bias" in parts else ["weight"] if parts else []

    def _base(self, name: str, read: Mapping[str, Read]) -> torch.Tensor:
        if name in self.names.replaced:
            return self._of_adapter(self.names.replaced[name])
        return read[name]().to(torch.float32, copy=True)

    def _of_adapter(self, key: str) -> torch.Tensor:
        with safe_open(self.adapter.weights, framework="pt") as weights:
            tensor: torch.Tensor = weights.get_tensor(key)
        return tensor.float()


def plan_merge(adapter: Adapter, model: Any, rename: Rename) -> Merge:
    """Fit the adapter to `model`, the empty base model (on the meta device), which gets peft's layers.

    `rename` spells an older name of a weight as the model does. Reads no weights.

    Raises:
        StartupError: the adapter cannot be merged, or was not made for this model.
    """
    config = _checked_config(adapter)
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    names = sort_names(adapter.shapes, shapes, rename)
    _refuse(adapter, "fit no layer of it", names.unknown)
    if names.parts:
        _inject(config, model, sorted(names.parts))
    wanted = {key: shapes[name] for name, key in names.replaced.items()}
    for layer, parts in names.parts.items():
        wanted |= _shapes_of_parts(adapter, model.get_submodule(layer), layer, parts)
    _refuse(adapter, "have another shape", [key for key, shape in wanted.items() if adapter.shapes[key] != shape])
    return Merge(adapter, names, model)


def _checked_config(adapter: Adapter) -> dict[str, Any]:
    config = adapter.config
    known = (*_ARITHMETIC, *_OTHER)
    strange = sorted(name for name, value in config.items() if name not in known and value)
    if strange:
        raise StartupError(f"{adapter.spelled} was made with {strange[0][:64]}, which cannot be merged here.")
    if config.get("init_lora_weights", True) not in _BEGINNINGS:
        raise StartupError(
            f"{adapter.spelled} began as {str(config['init_lora_weights'])[:32]!r}, which changes the base model: save"
            " it as plain LoRA with peft's save_pretrained(path_initial_model_for_weight_conversion=...)."
        )
    ranks = [config.get("r", 8), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and 1 <= rank <= MAX_RANK for rank in ranks):
        raise StartupError(f"{adapter.spelled}: adapter_config.json has a rank that is not 1 to {MAX_RANK}.")
    return {name: config[name] for name in _ARITHMETIC if config.get(name) is not None}


def _inject(config: dict[str, Any], model: Any, layers: list[str]) -> None:
    """Put peft's layers into the model, unfilled, at the layers that the adapter's weights name."""
    names = {f"{layer}.lora_A.weight": torch.empty(0) for layer in layers}
    with warnings.catch_warnings(action="ignore"):
        lora = LoraConfig(**config, target_modules=layers)
        inject_adapter_in_model(lora, model, _ADAPTER, low_cpu_mem_usage=True, state_dict=names)


def _shapes_of_parts(adapter: Adapter, lora: Any, layer: str, parts: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes that peft's layer wants, by name in the adapter's file."""
    shapes = {name: tuple(part.shape) for name, part in lora.state_dict().items() if not name.startswith("base_layer.")}
    _refuse(
        adapter, f"of {layer} are not those that adapter_config.json asks for", sorted(shapes.keys() ^ parts.keys())
    )
    return {parts[name]: shape for name, shape in shapes.items()}


def _refuse(adapter: Adapter, what_is_wrong: str, names: list[str]) -> None:
    if names:
        base = adapter.config.get("base_model_name_or_path")
        made_for = f"; it was made for {str(base)[:96]!r}" if base else ""
        raise StartupError(
            f"{adapter.spelled} cannot be merged into BLIP2_MODEL: weights {what_is_wrong} ({len(names)}, the first is"
            f" {names[0][:160]}){made_for}."
        )
