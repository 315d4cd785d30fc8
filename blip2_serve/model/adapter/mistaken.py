"""Refuse an adapter where a whole checkpoint is wanted."""

from pathlib import Path

from blip2_serve.errors import StartupError

CONFIG = "adapter_config.json"


def refuse_adapter(folder: Path, name: str, instead: str) -> None:
    """Raise StartupError if `folder`, named by the setting `name`, holds an adapter; `instead` says what to set.

    transformers would load an adapter that lies beside a checkpoint, and our decoders would not see it.
    """
    if not (folder / CONFIG).is_file():
        return
    if (folder / "config.json").is_file():
        raise StartupError(
            f"{name} holds an adapter beside the checkpoint: {instead}; or remove its {CONFIG}, if it is merged in."
        )
    raise StartupError(f"{name} is an adapter and no whole checkpoint: {instead}.")
