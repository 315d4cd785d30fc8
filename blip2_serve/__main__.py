"""`python -m blip2_serve` is the command `blip2-serve`."""

from blip2_serve.cli.main import main

main(prog_name="blip2-serve")
