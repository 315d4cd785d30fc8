"""Choose device and dtype from what the machine has, and give the reason in words."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.families import Architecture
from blip2_serve.machine import available_cpus, available_memory_bytes

# Below this many parameters a forward pass is bound by overheads, and bfloat16 gains nothing on a CPU.
_SMALL_MODEL = 50e6


@dataclass(frozen=True, slots=True)
class Placement:
    """The chosen device and dtype, and the reason for the log; `quantize` and `device_map` repeat the settings.

    With a `device_map`, `device` is the first of several.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str
    quantize: str = "none"
    device_map: str = "off"


def choose_placement(settings: Settings, family: Architecture, num_parameters: float) -> Placement:
    """Take what the settings ask for, else the fastest choice that suits the family.

    Raises:
        StartupError: the device is missing, there is none to spread layers over, or the dtype cannot serve this
            family (Flan-T5 in float16).
    """
    device, device_reason = _choose_device(settings.device)
    if settings.device_map == "auto":
        _check_device_map(device)
        device_reason += "; layers spread over all of them: set by BLIP2_DEVICE_MAP"
    dtype, dtype_reason = _choose_dtype(settings, device, family, num_parameters)
    if family.overflows_in_float16 and dtype is torch.float16:
        raise StartupError(
            "BLIP2_DTYPE='float16' overflows in Flan-T5 and gives rubbish: use bfloat16 or float32 instead."
        )
    return Placement(device, dtype, f"{device_reason}; {dtype_reason}", settings.quantize, settings.device_map)


def use_available_threads(settings: Settings, num_parameters: float) -> int:
    """Give torch `BLIP2_THREADS` threads, or as many as the cgroup's CPU quota; returns the number.

    A small model gets one: its products finish before a second thread wakes up, and other CPUs stay free to decode
    pictures and read requests.
    """
    threads = settings.threads or (1 if num_parameters < _SMALL_MODEL else available_cpus())
    torch.set_num_threads(threads)
    return threads


def free_memory_bytes(device: torch.device) -> int:
    """Return the free memory where the model computes: the GPU's, or the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory_bytes()


def _choose_device(wanted: str) -> tuple[torch.device, str]:
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    if wanted == "auto":
        name = "cuda" if available["cuda"] else "cpu"
        return torch.device(name), f"{name}: {'a CUDA device was found' if name == 'cuda' else 'no CUDA device'}"
    device = torch.device(wanted)
    if not available[device.type] or (device.index or 0) >= max(1, torch.cuda.device_count()):
        raise StartupError(
            f"BLIP2_DEVICE={wanted!r} is not available: torch {torch.__version__} sees"
            f" {torch.cuda.device_count()} CUDA devices; use auto or cpu, or install a torch built for the device."
        )
    return device, f"{wanted}: set by BLIP2_DEVICE"


def _check_device_map(device: torch.device) -> None:
    name = "BLIP2_DEVICE_MAP='auto'"
    if device.type != "cuda" or device.index is not None:
        raise StartupError(f"{name} spreads layers over all CUDA devices, and not over {device}: use off instead.")
    if find_spec("accelerate") is None:
        raise StartupError(f"{name} needs accelerate: run `pip install -r requirements-quantize.txt`, or use off.")


def _choose_dtype(
    settings: Settings, device: torch.device, family: Architecture, num_parameters: float
) -> tuple[torch.dtype, str]:
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype), f"{settings.dtype}: set by BLIP2_DTYPE"
    if device.type == "cuda":
        return getattr(torch, family.gpu_dtype), f"{family.gpu_dtype}: what the checkpoint was trained in, on CUDA"
    if settings.quantize != "none":
        return torch.bfloat16, f"bfloat16: half precision beside layers in {settings.quantize}"
    if num_parameters >= _SMALL_MODEL and cpu_has_fast_bfloat16():
        return torch.bfloat16, "bfloat16: this CPU multiplies it in hardware"
    return torch.float32, "float32: no gain from half precision on this CPU for this model"


def cpu_has_fast_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """True if the CPU has bfloat16 matrix or vector products (AMX, AVX-512 BF16, Arm BF16)."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & set(flags))
