"""`blip2-serve caption`: caption a few pictures in this process."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blip2_serve.cli.settings import placement_options
from blip2_serve.config import Settings, variables_with
from blip2_serve.errors import Blip2Error, InvalidImage, StartupError
from blip2_serve.options import MAX_NEW_TOKENS, MAX_NUM_BEAMS, DecodingOptions

if TYPE_CHECKING:
    from blip2_serve.tasks.verbs import Tasks


@click.command()
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", help="demo, demo-t5, a hub id or a folder  [default: BLIP2_MODEL]")
@click.option("--prefix", help="How the captions begin.")
@click.option("--num-beams", type=click.IntRange(1, MAX_NUM_BEAMS), help="Beams.  [default: 5]")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1, MAX_NEW_TOKENS),
    help="Most tokens of a caption.  [default: 30, or what the model's family says]",
)
@placement_options
@click.pass_context
def caption(
    ctx: click.Context,
    /,
    pictures: tuple[Path, ...],
    model: str | None,
    prefix: str | None,
    num_beams: int | None,
    max_new_tokens: int | None,
    **placement: str | None,
) -> None:
    """Caption PICTURES without a server.

    Prints the caption of one picture, or a line PATH<TAB>CAPTION for each of several. A picture that cannot be
    captioned is a line on stderr, and the exit code is 1.
    """
    settings = Settings.from_env(variables_with(model=model, **placement))
    given = {"num_beams": num_beams, "max_new_tokens": max_new_tokens}
    chosen = {name: value for name, value in given.items() if value is not None}
    results = asyncio.run(_caption_all(pictures, prefix, chosen, settings))
    for path, result in zip(pictures, results, strict=True):
        if isinstance(result, Blip2Error):
            click.echo(f"{path}: {result.message}", err=True)
        else:
            click.echo(result if len(pictures) == 1 else f"{path}\t{result}")
    ctx.exit(any(isinstance(result, Blip2Error) for result in results))


async def _caption_all(
    pictures: Sequence[Path], prefix: str | None, chosen: Mapping[str, int], settings: Settings
) -> list[str | Blip2Error]:
    """Return each picture's caption or error, in order; show a progress bar if stderr is a terminal."""
    from blip2_serve.tasks.batch import places

    tasks, gate = load_tasks(settings), places(settings.max_queue)
    options = DecodingOptions(**{**tasks.family.caption_defaults, **chosen})
    is_hidden = len(pictures) == 1 or not sys.stderr.isatty()
    try:
        with click.progressbar(length=len(pictures), file=sys.stderr, hidden=is_hidden) as bar:

            async def attempt(path: Path) -> str | Blip2Error:
                async with gate:
                    result = await _caption_one(tasks, path, prefix, options)
                bar.update(1)
                return result

            return await asyncio.gather(*map(attempt, pictures))
    finally:
        tasks.close()


async def _caption_one(tasks: "Tasks", path: Path, prefix: str | None, options: DecodingOptions) -> str | Blip2Error:
    from blip2_serve.images import Upload

    try:
        image = Upload(await asyncio.to_thread(path.read_bytes))
        return (await tasks.caption(image, prefix, options)).text
    except OSError as error:
        return InvalidImage(f"cannot be read ({error.strerror}).")
    except Blip2Error as error:
        return error


def load_tasks(settings: Settings) -> "Tasks":
    from blip2_serve.model.device import use_available_threads
    from blip2_serve.model.load import load_model
    from blip2_serve.model.locate import locate_checkpoint
    from blip2_serve.model.models import check_cache_folder
    from blip2_serve.tasks.verbs import Tasks

    check_cache_folder(settings.image_cache_dir)
    if not settings.writes_text:
        raise StartupError(f"{settings.spelled('model')} writes no captions: name a model that does.")
    loaded = load_model(settings, locate_checkpoint(settings))
    use_available_threads(settings, loaded.model.num_parameters())
    return Tasks(loaded, settings)
