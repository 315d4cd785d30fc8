"""The group of all subcommands; it shows a `Blip2Error` as one line and exits with code 1."""

from typing import Any

import click

from blip2_serve import __version__
from blip2_serve.cli.calibrate import calibrate
from blip2_serve.cli.caption import caption
from blip2_serve.cli.check import check
from blip2_serve.cli.convert import convert
from blip2_serve.cli.serve import serve
from blip2_serve.errors import Blip2Error


class OneLineErrors(click.Group):
    """A group that shows a `Blip2Error`'s message in place of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand.

        Raises:
            click.ClickException: in place of a `Blip2Error`.
        """
        try:
            return super().invoke(ctx)
        except Blip2Error as error:
            raise click.ClickException(error.message) from error


@click.group(cls=OneLineErrors, epilog="Every setting is also a variable, BLIP2_MODEL and so on; an option wins.")
@click.version_option(__version__, package_name="blip2-serve", prog_name="blip2-serve")
def main() -> None:
    """Serve BLIP-2: captions, answers and chat about pictures."""


main.add_command(serve)
main.add_command(check)
main.add_command(caption)
main.add_command(calibrate)
main.add_command(convert)
