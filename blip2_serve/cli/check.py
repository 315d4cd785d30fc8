"""`blip2-serve check`: tell if the server would start here, and the memory it needs. Reads no weights."""

import click

from blip2_serve.cli.settings import placement_options
from blip2_serve.config import Settings, variables_with
from blip2_serve.errors import StartupError


@click.command()
@click.argument("model", required=False)
@placement_options
def check(model: str | None, **placement: str | None) -> None:
    """Say if MODEL can be served here: device, dtype and why, memory.

    MODEL is demo, demo-t5, a hub id or a folder; without it, what BLIP2_MODEL names. A hub id is downloaded first. What
    BLIP2_RETRIEVAL_MODEL names is checked as well.
    """
    settings = Settings.from_env(variables_with(model=model, **placement))
    from blip2_serve.model.device import free_memory_bytes
    from blip2_serve.model.models import check_start, find_models

    check_start(settings)
    found = find_models(settings)
    chosen = found[0].placement
    weights_bytes = sum(each.num_parameters * each.placement.dtype.itemsize for each in found)
    free_bytes = free_memory_bytes(chosen.device)
    if chosen.quantize == "none" and chosen.device_map == "off":
        _check_memory(" and ".join(each.name for each in found), weights_bytes, free_bytes)
    for each in found:
        click.echo(f"{each.name} can be served here.")
        if each.adapter is not None:
            click.echo(f"  adapter: {each.adapter}, merged into it")
        for reason in each.placement.reason.split("; "):
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
