"""The checkpoints that are known by name, and what their configs do not say: caption prompt and dtype on a GPU."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from blip2_serve.prompts import Family

Dtype = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One published checkpoint.

    Attributes:
        caption_prompt: what the checkpoint was fine-tuned to continue when it captions ("" for the others).
        image_size: side of its square input, in pixels.
        gpu_dtype: half precision it was trained in: fp16 for OPT, bf16 for Flan-T5 (fp16 gives rubbish).
    """

    name: str
    family: Family
    caption_prompt: str
    image_size: int
    gpu_dtype: Dtype


CHECKPOINTS: dict[str, Checkpoint] = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint("Salesforce/blip2-opt-2.7b", "opt", "", 224, "float16"),
        Checkpoint("Salesforce/blip2-opt-6.7b", "opt", "", 224, "float16"),
        Checkpoint("Salesforce/blip2-opt-2.7b-coco", "opt", "a photo of", 364, "float16"),
        Checkpoint("Salesforce/blip2-opt-6.7b-coco", "opt", "a photo of", 364, "float16"),
        Checkpoint("Salesforce/blip2-flan-t5-xl", "t5", "", 224, "bfloat16"),
        Checkpoint("Salesforce/blip2-flan-t5-xl-coco", "t5", "a photo of", 364, "bfloat16"),
        Checkpoint("Salesforce/blip2-flan-t5-xxl", "t5", "", 224, "bfloat16"),
    )
}
MATCHING_CHECKPOINTS = ("Salesforce/blip2-itm-vit-g", "Salesforce/blip2-itm-vit-g-coco")
BUNDLED = ("demo", "demo-t5")


def find_known(model: str, family: Family, image_size: int) -> Checkpoint | None:
    """The known checkpoint of a hub id, or of a folder that carries its name (a copy on a volume).

    A folder may carry the name and hold another model, which its config tells by `family` or `image_size`.
    """
    known = CHECKPOINTS.get(model) or CHECKPOINTS.get(f"Salesforce/{Path(model).name}")
    return known if known and (known.family, known.image_size) == (family, image_size) else None


def is_matching_only(model: str) -> bool:
    """True for the checkpoints without a language model, which score image-text pairs and cannot generate."""
    return f"Salesforce/{Path(model).name}" in MATCHING_CHECKPOINTS


def public_name(model: str) -> str:
    """What the outside may know of a model: a hub id or a bundled name as it is, of a folder only its name.

    It travels in a header, so what is not ASCII is percent-encoded.
    """
    folder = Path(model).expanduser()
    return quote(folder.resolve().name if folder.is_dir() else model, safe="/ ")
