"""LAVIS's names, as its `load_model(name, model_type)` takes them, and the same models' ids on the hub.

The names are those of LAVIS at commit 506965b, in `PRETRAINED_MODEL_CONFIG_DICT` of `lavis/models/blip2_models/*.py`.
"""

_MATCHING = ("blip2", "blip2_feature_extractor", "blip2_image_text_matching")
_INSTEAD_OF_VICUNA = "has a Vicuna, which is not served; use Salesforce/instructblip-flan-t5-xl"
_INSTEAD_OF_VIT_L = "has a ViT-L and was never converted for the hub; use {}"

# By LAVIS's classes: model type -> hub id.
_HUB_IDS: dict[tuple[str, ...], dict[str, str]] = {
    ("blip2_opt",): {
        "pretrain_opt2.7b": "Salesforce/blip2-opt-2.7b",
        "pretrain_opt6.7b": "Salesforce/blip2-opt-6.7b",
        "caption_coco_opt2.7b": "Salesforce/blip2-opt-2.7b-coco",
        "caption_coco_opt6.7b": "Salesforce/blip2-opt-6.7b-coco",
    },
    ("blip2_t5",): {
        "pretrain_flant5xl": "Salesforce/blip2-flan-t5-xl",
        "caption_coco_flant5xl": "Salesforce/blip2-flan-t5-xl-coco",
        "pretrain_flant5xxl": "Salesforce/blip2-flan-t5-xxl",
    },
    ("blip2_t5_instruct",): {
        "flant5xl": "Salesforce/instructblip-flan-t5-xl",
        "flant5xxl": "Salesforce/instructblip-flan-t5-xxl",
    },
    _MATCHING: {"pretrain": "Salesforce/blip2-itm-vit-g", "coco": "Salesforce/blip2-itm-vit-g-coco"},
}
# Models that nobody can have here, and why.
_REFUSED: dict[tuple[str, ...], dict[str, str]] = {
    ("blip2_t5",): {"pretrain_flant5xl_vitL": _INSTEAD_OF_VIT_L.format("pretrain_flant5xl")},
    _MATCHING: {"pretrain_vitL": _INSTEAD_OF_VIT_L.format("blip2/pretrain")},
    ("blip2_vicuna_instruct",): {"vicuna7b": _INSTEAD_OF_VICUNA, "vicuna13b": _INSTEAD_OF_VICUNA},
    ("Salesforce",): {
        "instructblip-vicuna-7b": _INSTEAD_OF_VICUNA,
        "instructblip-vicuna-13b": _INSTEAD_OF_VICUNA,
    },
}


def _spelled(table: dict[tuple[str, ...], dict[str, str]]) -> dict[str, str]:
    """With each class before the model type, and without any."""
    return {
        f"{prefix}{model_type}": value
        for classes, types in table.items()
        for model_type, value in types.items()
        for prefix in ("", *(f"{name}/" for name in classes))
    }


HUB_IDS = _spelled(_HUB_IDS)
WITHOUT_COUNTERPART = _spelled(_REFUSED)
