"""`blip2-serve serve`: run BentoML's server as a child process, with the options as its settings."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

import click

from blip2_serve.cli.settings import placement_options
from blip2_serve.config import Settings, variables_with

TARGET = "blip2_serve.service:Blip2"
_FORWARDED = (signal.SIGINT, signal.SIGTERM)


@click.command()
@click.argument("model", required=False)
@click.option("--port", type=click.IntRange(1, 65_535), default=3000, show_default=True)
@click.option("--host", help="Address to listen on.  [default: BentoML's]")
@placement_options
@click.pass_context
def serve(ctx: click.Context, /, model: str | None, port: int, host: str | None, **placement: str | None) -> None:
    """Serve MODEL over HTTP: demo, demo-t5, a hub id or a folder.

    Without MODEL, serve what BLIP2_MODEL names.
    """
    variables = variables_with(model=model, **placement)
    Settings.from_env(variables)  # a malformed setting ends here, before BentoML starts
    command = [sys.executable, "-m", "bentoml", "serve", TARGET, "--port", str(port)]
    ctx.exit(_run([*command, "--host", host] if host else command, variables))


def _run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run `command`, forward SIGINT and SIGTERM to it, and return its exit code as a shell would."""
    # Blocked until the child can be told: a signal in between would end this process alone, and leave the child behind.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    with subprocess.Popen(command, env=variables, preexec_fn=_unblock) as child:

        def forward(number: int, _frame: FrameType | None) -> None:
            child.send_signal(number)

        for number in _FORWARDED:
            signal.signal(number, forward)
        _unblock()
        code = child.wait()
    return code if code >= 0 else 128 - code


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
