"""The command starts without heavy imports, tells its version, and shows our errors as one line."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from blip2_serve import __version__
from blip2_serve.cli.main import main
from support.serving import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_module_is_the_command() -> None:
    assert run("-m", "blip2_serve", "--version").stdout == f"blip2-serve, version {__version__}\n"


def test_every_subcommand_explains_itself() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output
    assert set(main.commands) == {"serve", "check", "caption", "calibrate", "convert"}
    for name in main.commands:
        assert f"\n  {name} " in shown
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_help_loads_neither_torch_nor_bentoml() -> None:
    heavy = "{'torch', 'transformers', 'bentoml', 'gradio'}"
    assert run("-c", f"import sys, blip2_serve.cli.main; sys.exit(bool({heavy} & set(sys.modules)))").returncode == 0


@pytest.mark.parametrize("command", [["serve"], ["check"], ["caption", "demo.jpeg"]], ids=lambda command: command[0])
def test_a_malformed_setting_is_one_line(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "--device", "tpu"])
    assert result.exit_code == 1
    assert result.stderr == "Error: BLIP2_DEVICE='tpu' is not valid: expected auto, cpu, cuda or cuda:N.\n"
