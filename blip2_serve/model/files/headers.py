"""The files of weights: which there are, and the names and shapes in their headers.

safetensors only: other weight formats run code when they are read.
"""

import math
import shlex
from pathlib import Path

from safetensors import SafetensorError, safe_open

from blip2_serve.errors import StartupError
from blip2_serve.model.files.reading import incomplete, read_json

Shape = tuple[int, ...]

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED, _PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_LFS_POINTER = b"version https://git-lfs"


def weight_files(folder: Path, name: str) -> list[Path]:
    """Return the files that hold the checkpoint's weights, which need not exist.

    Raises:
        StartupError: the weights' index is damaged.
    """
    return _indexed(folder, INDEX, name) or [folder / WEIGHTS]


def pickled_files(folder: Path, name: str) -> list[Path]:
    """Return the files of weights in the format that is not read here; empty if there are none.

    Raises:
        StartupError: their index is damaged or names a file that is not there.
    """
    indexed = _indexed(folder, _PICKLED_INDEX, name)
    for path in indexed:
        if not path.is_file():
            raise incomplete(name, path.name)
    return indexed or [path for path in [folder / _PICKLED] if path.is_file()]


def _indexed(folder: Path, index: str, name: str) -> list[Path]:
    """Return the files that an index names; empty without one."""
    if not (folder / index).is_file():
        return []
    weight_map = read_json(folder / index, name).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not all(isinstance(file, str) for file in weight_map.values())
        or not weight_map
    ):
        raise StartupError(f"{name}: {index} names no weights; download it again.")
    return [folder / Path(str(file)).name for file in sorted(set(weight_map.values()))]


def read_headers(folder: Path, name: str) -> dict[str, Shape]:
    """Return the names and shapes of all weights, reading only the files' headers.

    Raises:
        StartupError: a file is missing, cut short or damaged.
    """
    _refuse_other_formats(folder, name)
    shapes: dict[str, Shape] = {}
    for path in weight_files(folder, name):
        shapes |= _read_header(path, name)
    return shapes


def count_parameters(folder: Path, name: str) -> int:
    """Count the numbers in the checkpoint's weights, as `read_headers` finds them."""
    return sum(math.prod(shape) for shape in read_headers(folder, name).values())


def _refuse_other_formats(folder: Path, name: str) -> None:
    """Raise StartupError if the folder holds weights in other formats alone."""
    if any((folder / file).is_file() for file in (WEIGHTS, INDEX)):
        return
    if any((folder / file).is_file() for file in (_PICKLED, _PICKLED_INDEX)):
        raise StartupError(
            f"{name} has its weights in {_PICKLED}, a format that can run code when it is read: write them as"
            f" safetensors with `blip2-serve convert {shlex.quote(str(folder))}`."
        )


def _read_header(path: Path, name: str) -> dict[str, Shape]:
    if not path.is_file():
        raise incomplete(name, path.name, "", " (only safetensors are read)")
    if _is_lfs_pointer(path):
        raise StartupError(f"{name}: {path.name} is a pointer of git-lfs, not the weights; run `git lfs pull` there.")
    try:
        with safe_open(path, framework="pt") as weights:  # opening it compares the header with the file's length
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StartupError(f"{name}: {path.name} is cut short or damaged ({error}); download it again.") from None


def _is_lfs_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER
