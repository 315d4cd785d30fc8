"""LoRA adapters with wide random weights, made by peft, and peft's own ways to use them: the oracle."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file

from blip2_serve.config import Settings
from blip2_serve.model.load import LoadedModel, load_model
from blip2_serve.model.locate import locate_checkpoint


def transformers_model(base: Path) -> Any:
    """The base model as transformers loads it, in float32."""
    architecture = json.loads((base / "config.json").read_text())["architectures"][0]
    return getattr(transformers, architecture).from_pretrained(base)


def save_adapter(folder: Path, base: Path, config: PeftConfig | None = None, **lora: Any) -> Path:
    """Write a random adapter for `base` to `folder`, as peft does; `lora` are arguments of its LoraConfig."""
    with warnings.catch_warnings(action="ignore"), torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(transformers_model(base), config or LoraConfig(**lora))
        for weight in model.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.3)
        model.save_pretrained(folder)
    return folder


def peft_model(base: Path, adapter: Path) -> Any:
    """The base model with peft's layers in it, not merged."""
    with warnings.catch_warnings(action="ignore"):
        return PeftModel.from_pretrained(transformers_model(base), adapter)


def merged_by_peft(base: Path, adapter: Path) -> Any:
    """The model that peft's `merge_and_unload` makes, in float32."""
    with warnings.catch_warnings(action="ignore"):
        return peft_model(base, adapter).merge_and_unload()


def settings_with(base: Path | str, adapter: Path | str, **settings: Any) -> Settings:
    """Settings that serve `base` with `adapter` on a CPU."""
    return Settings(model=str(base), adapter=str(adapter), device="cpu", **settings)


def load_with(base: Path | str, adapter: Path | str, **settings: Any) -> LoadedModel:
    """Load `base` with `adapter` as the server does."""
    chosen = settings_with(base, adapter, **settings)
    return load_model(chosen, locate_checkpoint(chosen))


def unmerged(loaded: LoadedModel, base: Path, adapter: Path) -> LoadedModel:
    """`loaded` with a model whose adapter runs beside the weights, as in training, for `Reference`."""
    return replace(loaded, model=peft_model(base, adapter).get_base_model().eval())


def rewrite(adapter: Path, change: dict[str, torch.Tensor | None]) -> None:
    """Replace weights of an adapter, or remove those given as None."""
    file = adapter / "adapter_model.safetensors"
    kept = {name: weight for name, weight in (load_file(file) | change).items() if weight is not None}
    save_file(kept, file, metadata={"format": "pt"})


def reconfigure(adapter: Path, **change: Any) -> None:
    """Change what adapter_config.json says."""
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def train_adapter(folder: Path, base: Path, picture: Image.Image, caption: str, num_steps: int = 40) -> Path:
    """Teach an OPT one caption for one picture, through a LoRA of its attention, and write the adapter to `folder`."""
    processor = transformers.AutoProcessor.from_pretrained(base)
    with warnings.catch_warnings(action="ignore"), torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(transformers_model(base), LoraConfig(target_modules=["q_proj", "v_proj", "fc2"]))
        inputs = processor(images=picture, text=f"{caption}\n", return_tensors="pt")
        labels = inputs["input_ids"].where(inputs["input_ids"] != model.config.image_token_index, -100)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=1e-2)
        for _ in range(num_steps):
            model(**inputs, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.save_pretrained(folder)
    return folder
