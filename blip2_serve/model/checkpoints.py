"""The checkpoints known by name, and their caption prompts, which their configs leave out."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from blip2_serve.families import FLAN_T5, OPT, Family
from blip2_serve.model.foreign.lavis import HUB_IDS


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One published checkpoint.

    Attributes:
        caption_prompt: the prompt that the checkpoint was fine-tuned to continue with a caption ("" for the others).
        image_size: side of its square input, in pixels.
    """

    name: str
    family: Family
    caption_prompt: str
    image_size: int


CHECKPOINTS: dict[str, Checkpoint] = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint("Salesforce/blip2-opt-2.7b", OPT, "", 224),
        Checkpoint("Salesforce/blip2-opt-6.7b", OPT, "", 224),
        Checkpoint("Salesforce/blip2-opt-2.7b-coco", OPT, "a photo of", 364),
        Checkpoint("Salesforce/blip2-opt-6.7b-coco", OPT, "a photo of", 364),
        Checkpoint("Salesforce/blip2-flan-t5-xl", FLAN_T5, "", 224),
        Checkpoint("Salesforce/blip2-flan-t5-xl-coco", FLAN_T5, "a photo of", 364),
        Checkpoint("Salesforce/blip2-flan-t5-xxl", FLAN_T5, "", 224),
    )
}
MATCHING_CHECKPOINTS = ("Salesforce/blip2-itm-vit-g", "Salesforce/blip2-itm-vit-g-coco")
BUNDLED = ("demo", "demo-t5")
BUNDLED_MATCHING = ("demo-itm",)


def hub_id(model: str) -> str:
    """Return the hub id of a name of LAVIS's; any other name, and that of a folder that is there, as it is."""
    return model if Path(model).is_dir() else HUB_IDS.get(model, model)


def find_known(model: str, family: Family, image_size: int) -> Checkpoint | None:
    """Find the known checkpoint of a hub id, or of a folder that carries its name (a copy on a volume).

    A folder may carry the name and hold another model, so `family` and `image_size` from its config must match.
    """
    known = CHECKPOINTS.get(hub_id(model)) or CHECKPOINTS.get(f"Salesforce/{Path(model).name}")
    return known if known and known.family is family and known.image_size == image_size else None


def is_matching_only(model: str) -> bool:
    """True for the checkpoints without a language model, which score image-text pairs and cannot generate."""
    return model in BUNDLED_MATCHING or f"Salesforce/{Path(hub_id(model)).name}" in MATCHING_CHECKPOINTS


def public_name(model: str) -> str:
    """Return a model's public name: a hub id or a bundled name as it is, LAVIS's as a hub id, a folder without path.

    The name travels in a header, so non-ASCII characters are percent-encoded.
    """
    folder = Path(model).expanduser()
    return quote(folder.resolve().name if folder.is_dir() else hub_id(model), safe="/ ")
