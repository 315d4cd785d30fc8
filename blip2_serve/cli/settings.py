"""Settings that several subcommands take as options, each named like its `BLIP2_*` variable."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from blip2_serve.config import Settings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_OPTIONS = ("adapter", "device", "dtype", "quantize")


def placement_options(command: CommandT) -> CommandT:
    """Add --adapter, --device, --dtype and --quantize; `Settings` checks their values."""
    for name in reversed(_OPTIONS):
        command = click.option(f"--{name}", help=_help(name))(command)
    return command


def _help(name: str) -> str:
    field = Settings.model_fields[name]
    return f"{field.description}  [default: BLIP2_{name.upper()}, or {field.default or 'none'}]"
