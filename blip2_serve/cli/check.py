"""`blip2-serve check`: tell if the server would start here, and the memory it needs. Reads no weights."""

import math

import click

from blip2_serve.cli.settings import placement_options
from blip2_serve.config import Settings, variables_with
from blip2_serve.errors import StartupError


@click.command()
@click.argument("model", required=False)
@placement_options
def check(model: str | None, **placement: str | None) -> None:
    """Say if MODEL can be served here: device, dtype and why, memory.

    MODEL is demo, demo-t5, a hub id or a folder; without it, what BLIP2_MODEL names. A hub id is downloaded first.
    """
    settings = Settings.from_env(variables_with(model=model, **placement))
    from blip2_serve.model.device import free_memory_bytes
    from blip2_serve.model.load import check_model
    from blip2_serve.model.locate import locate_checkpoint, read_headers
    from blip2_serve.model.models import check_start

    check_start(settings)
    folder = locate_checkpoint(settings)
    chosen = check_model(settings, folder).placement
    shapes = read_headers(folder, settings.spelled("model")).values()
    weights_bytes = sum(math.prod(shape) for shape in shapes) * chosen.dtype.itemsize
    free_bytes = free_memory_bytes(chosen.device)
    if chosen.quantize == "none" and chosen.device_map == "off":
        _check_memory(settings.model, weights_bytes, free_bytes)
    click.echo(f"{settings.model} can be served here.")
    for reason in chosen.reason.split("; "):
        click.echo(f"  {reason}")
    packed = "" if chosen.quantize == "none" else f" before its layers are packed in {chosen.quantize}"
    click.echo(f"  weights: {_size(weights_bytes)}{packed}")
    click.echo(f"  free memory: {_size(free_bytes)} on {chosen.device}")


def _check_memory(model: str, weights_bytes: int, free_bytes: int) -> None:
    if weights_bytes > free_bytes:
        raise StartupError(
            f"{model} does not fit: its weights take {_size(weights_bytes)} and {_size(free_bytes)} are free;"
            " use BLIP2_QUANTIZE=int8 or int4, a smaller checkpoint or a larger machine."
        )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
