"""Tell one checkpoint from another by its files."""

import hashlib
from pathlib import Path

from blip2_serve.model.calibration import FILE as CONFIDENCE_FILE
from blip2_serve.model.files.headers import weight_files
from blip2_serve.model.files.reading import INSTRUCTION_TOKENIZER

_SAMPLES, _SAMPLE_BYTES = 256, 4096


def fingerprint(folder: Path, name: str, quantize: str = "none") -> bytes:
    """Return 32 bytes that change with the checkpoint's files and with `quantize`, which makes another model of them.

    Covers all of the JSON files; of the weights the size, the modification time and samples from header to end, as an
    image build or a copy may give another file of the same model the same size and time.

    Raises:
        StartupError: the weights' index is damaged.
    """
    digest = hashlib.sha256(b"" if quantize == "none" else quantize.encode())
    described = [path for path in sorted(folder.glob("*.json")) if path.name != CONFIDENCE_FILE]
    for path in [*described, *sorted((folder / INSTRUCTION_TOKENIZER).glob("*.json"))]:
        digest.update(path.name.encode() + path.read_bytes())
    for path in weight_files(folder, name):
        about = path.stat()
        digest.update(f"{path.name} {about.st_size} {about.st_mtime_ns}".encode())
        with path.open("rb") as file:
            for start in range(0, about.st_size, max(_SAMPLE_BYTES, about.st_size // _SAMPLES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()
