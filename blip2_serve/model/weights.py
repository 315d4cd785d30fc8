"""Compare a checkpoint's weights with its config, by name and shape, and read them onto the device."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import GenerationConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import rename_source_key

from blip2_serve.errors import StartupError
from blip2_serve.families import Architecture
from blip2_serve.memory import give_back_free_memory
from blip2_serve.model.adapter.files import Adapter
from blip2_serve.model.device import Placement
from blip2_serve.model.files.headers import Shape, weight_files
from blip2_serve.model.quantization import quantization_config

if TYPE_CHECKING:
    from blip2_serve.model.adapter.merge import Merge


def model_class(family: Architecture) -> Any:
    """Return transformers' class for these models."""
    return getattr(transformers, family.architecture)


def empty_model(family: Architecture, config: Any) -> Any:
    """Build the model without numbers."""
    with torch.device("meta"):
        return model_class(family)(config)


def check_weights(name: str, empty: Any, headers: dict[str, Shape]) -> None:
    """Compare names and shapes with those of an `empty_model`: transformers would draw missing weights at random.

    Raises:
        StartupError: weights are missing or have another shape.
    """
    wanted = {name: tuple(weight.shape) for name, weight in empty.state_dict().items()}
    found = _as_loaded(empty, headers)
    tied: dict[str, str] = empty.all_tied_weights_keys
    sources = {tied.get(name, name) for name in found}  # a file may hold any one of tied weights
    _refuse(name, "are missing", [name for name in wanted if tied.get(name, name) not in sources])
    _refuse(
        name,
        "have another shape than config.json says",
        [name for name in wanted if found.get(name, wanted[name]) != wanted[name]],
    )


def _as_loaded(empty: Any, headers: dict[str, Shape]) -> dict[str, Shape]:
    """Rename weights as transformers does when it loads them; it knows some older spellings."""
    spell = spelling_of(empty)
    return {spell(name): shape for name, shape in headers.items()}


def spelling_of(empty: Any) -> Callable[[str], str]:
    """Return a function that spells a weight's name in a file as the model does."""
    renamings = get_model_conversion_mapping(empty)
    return lambda name: str(rename_source_key(name, renamings, [])[0])


def _refuse(name: str, what_is_wrong: str, names: list[str]) -> None:
    if names:
        raise StartupError(
            f"{name} cannot be served: weights {what_is_wrong} ({len(names)}, the first is {names[0]});"
            " download it again."
        )


def load_weights(folder: Path, placement: Placement, family: Architecture, adapter: Adapter | None = None) -> Any:
    """Load the model onto its device, in evaluation mode, without gradients.

    An adapter is merged in float32, before weights take their dtype or are packed.

    Raises:
        StartupError: the files cannot be read or do not fit on the device.
    """
    placed = _placing(placement, family)
    try:
        with ExitStack() as opened:
            model, report = model_class(family).from_pretrained(
                **_source(folder, family, adapter, opened),
                dtype=placement.dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **placed,
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise StartupError(f"the checkpoint in {folder.name!r} cannot be loaded: {error}") from error
    # `check_weights` has compared names already; here transformers reports weights that it made up.
    _refuse(f"the checkpoint in {folder.name!r}", "are missing", sorted(report["missing_keys"]))
    if placement.device_map == "auto":
        _check_spread(folder.name, getattr(model, "hf_device_map", {"": model.device}))
    if adapter is not None:
        give_back_free_memory()  # merging leaves a hole the size of each merged layer
    # Weights placed by `device_map` must not be moved, packed ones least of all.
    model = model if placed else model.to(placement.device)
    return model.eval().requires_grad_(False)


def _source(folder: Path, family: Architecture, adapter: Adapter | None, opened: ExitStack) -> dict[str, Any]:
    """Arguments that tell `from_pretrained` what to load: a folder, or weights that are merged as they are read."""
    if adapter is None:
        return {"pretrained_model_name_or_path": folder}
    from blip2_serve.model.adapter.weights import open_merged

    config = model_class(family).config_class.from_pretrained(folder)
    generation = GenerationConfig.from_pretrained(folder) if (folder / "generation_config.json").is_file() else None
    empty = empty_model(family, config)
    merge, rename = plan_adapter(adapter, empty), spelling_of(empty)
    return {
        "pretrained_model_name_or_path": None,
        "config": config,
        "generation_config": generation,
        "state_dict": open_merged(merge, weight_files(folder, folder.name), rename, opened),
    }


def plan_adapter(adapter: Adapter, empty: Any) -> "Merge":
    """Fit an adapter to the empty base model, which is used up.

    Raises:
        StartupError: it cannot be merged.
    """
    from blip2_serve.model.adapter.merge import plan_merge  # peft is imported for adapters alone

    return plan_merge(adapter, empty, spelling_of(empty))


def _placing(placement: Placement, family: Architecture) -> dict[str, Any]:
    """Arguments with which `from_pretrained` places weights itself; none if they are moved afterwards."""
    spread = placement.device_map == "auto"
    device_map = {"device_map": "auto" if spread else {"": placement.device}}
    if placement.quantize == "none":
        return device_map if spread else {}
    return {"quantization_config": quantization_config(placement.quantize, family, placement.dtype), **device_map}


def _check_spread(model: str, places: Mapping[str, int | str | torch.device]) -> None:
    """Refuse weights off the GPUs: our decoders read them in place, without accelerate's hooks that fetch them."""
    left = [name for name, place in places.items() if str(place) in ("cpu", "disk")]
    if left:
        raise StartupError(
            f"the checkpoint in {model!r} does not fit on the CUDA devices (parts that are left over: {len(left)}, the"
            f" first is {left[0] or 'all of it'}): use more or larger ones, or BLIP2_QUANTIZE=int8 or int4."
        )
    if len({str(place) for name, place in places.items() if not name.startswith("language_model")}) > 1:
        raise StartupError(
            f"the checkpoint in {model!r} would have its vision tower and Q-Former on several devices, and they stay"
            " together: use larger devices, or BLIP2_QUANTIZE=int8 or int4."
        )
