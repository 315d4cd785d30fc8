"""The models that the settings ask for: one that writes text, one that matches pictures with texts, or both."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.model.device import Placement
from blip2_serve.model.files.headers import count_parameters
from blip2_serve.model.load import LoadedModel, check_model, load_model, one_line
from blip2_serve.model.locate import locate_checkpoint, locate_retrieval_checkpoint
from blip2_serve.model.retrieval.load import LoadedRetrieval, check_retrieval_model, load_retrieval_model


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """At least one of the two."""

    caption: LoadedModel | None
    retrieval: LoadedRetrieval | None

    @property
    def num_parameters(self) -> int:
        """Parameters of the larger one."""
        return max(int(each.model.num_parameters()) for each in (self.caption, self.retrieval) if each is not None)


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that can be served: its name, where it would be placed, its parameters, and its adapter's name."""

    name: str
    placement: Placement
    num_parameters: int
    adapter: str | None = None


def find_models(settings: Settings) -> list[FoundModel]:
    """Find the models without reading their weights, the one that writes text first.

    Raises:
        StartupError: one cannot be served.
    """
    found = []
    if settings.writes_text:
        folder = locate_checkpoint(settings)
        parts, num_parameters = check_model(settings, folder), count_parameters(folder, settings.spelled("model"))
        adapter = parts.adapter.name if parts.adapter else None
        found.append(FoundModel(settings.model, parts.placement, num_parameters, adapter))
    if settings.retrieves:
        folder, name = locate_retrieval_checkpoint(settings), settings.spelled("retrieval_model")
        placement = check_retrieval_model(settings, folder).placement
        found.append(FoundModel(settings.retrieval_model, placement, count_parameters(folder, name)))
    return found


def check_start(settings: Settings) -> None:
    """Check without reading weights that the server could start.

    Raises:
        StartupError: it could not; the message is one line.
    """
    if settings.writes_text:
        with one_line(f"{settings.spelled('model')} cannot be checked"):
            check_model(settings, locate_checkpoint(settings))
    if settings.retrieves:
        with one_line(f"{settings.spelled('retrieval_model')} cannot be checked"):
            check_retrieval_model(settings, locate_retrieval_checkpoint(settings))
    check_cache_folder(settings.image_cache_dir)


def load_models(settings: Settings) -> LoadedModels:
    """Read the weights onto the device.

    Raises:
        StartupError: the settings do not fit a checkpoint or the machine, or parts of one are missing or damaged.
    """
    caption = load_model(settings, locate_checkpoint(settings)) if settings.writes_text else None
    if not settings.retrieves:
        return LoadedModels(caption, None)
    folder = locate_retrieval_checkpoint(settings)
    return LoadedModels(caption, load_retrieval_model(settings, folder, caption))


def check_cache_folder(folder: str | None) -> None:
    """Make the folder for image tokens and write to it, as the server will do.

    Raises:
        StartupError: the folder cannot be made or written to.
    """
    if folder is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"rows")
    except OSError as error:
        raise StartupError(
            f"BLIP2_IMAGE_CACHE_DIR={folder!r} cannot be written to ({error.strerror}): set a folder that can, or none."
        ) from None
