"""`blip2-serve calibrate`: learn from judged captions how often a caption of a given likelihood is right."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blip2_serve.cli.caption import load_tasks
from blip2_serve.cli.settings import placement_options
from blip2_serve.config import Settings, variables_with
from blip2_serve.errors import Blip2Error, InvalidField
from blip2_serve.options import DecodingOptions

if TYPE_CHECKING:
    from blip2_serve.tasks.verbs import Tasks

_FEWEST = 100
Judged = tuple[float, bool]


@click.command()
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("captions", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", help="demo, demo-t5, a hub id or a folder  [default: BLIP2_MODEL]")
@click.option("--output", type=click.Path(path_type=Path), default=Path("confidence.json"), show_default=True)
@placement_options
def calibrate(pictures: Path, captions: Path, model: str | None, output: Path, **placement: str | None) -> None:
    """Caption the PICTURES and learn from their right CAPTIONS how far a caption's likelihood can be trusted.

    CAPTIONS has lines PATH<TAB>CAPTION, with paths below PICTURES; a picture may have several. A caption is right if
    it is one of them, whatever the case, the spaces and a full stop at its end. Serve the result with
    BLIP2_CONFIDENCE_FILE, or put it into the checkpoint's folder.
    """
    right = _right_captions(captions)
    if len(right) < _FEWEST:
        raise InvalidField(f"{captions} names {len(right)} pictures: {_FEWEST} are the fewest to learn from.")
    settings = Settings.from_env(variables_with(model=model, **placement))
    judged = asyncio.run(_judge(pictures, right, settings))
    from blip2_serve.model.calibration import expected_error, fit

    random.Random(0).shuffle(judged)
    half = len(judged) // 2
    first = fit(*zip(*judged[:half], strict=True))
    held_out = [first.confidence(number) for number, _ in judged[half:]]
    fit(*zip(*judged, strict=True)).write(output)
    error = expected_error(held_out, [is_right for _, is_right in judged[half:]])
    share = sum(is_right for _, is_right in judged) / len(judged)
    click.echo(f"{output}: {len(judged)} captions, {share:.1%} right; learned from one half, the expected calibration")
    click.echo(f"error on the other is {error:.3f}.")


def _right_captions(file: Path) -> Mapping[str, set[str]]:
    right: dict[str, set[str]] = defaultdict(set)
    for number, line in enumerate(file.read_text().splitlines(), 1):
        path, tab, text = line.partition("\t")
        if not tab:
            raise InvalidField(f"{file}, line {number}: write PATH<TAB>CAPTION.")
        right[path].add(plain(text))
    return right


def plain(text: str) -> str:
    """A caption without what does not make it wrong: case, spaces, a full stop at its end."""
    return " ".join(text.lower().split()).removesuffix(".").rstrip()


async def _judge(folder: Path, right: Mapping[str, set[str]], settings: Settings) -> list[Judged]:
    """Caption every picture; returns log-likelihoods, and which captions are right."""
    tasks = load_tasks(settings)
    try:
        with click.progressbar(length=len(right), label="captioning") as bar:
            places = asyncio.Semaphore(16)

            async def judge(path: str) -> Judged:
                async with places:
                    judged = await _judge_one(tasks, folder / path, right[path])
                bar.update(1)
                return judged

            return list(await asyncio.gather(*map(judge, right)))
    finally:
        tasks.close()


async def _judge_one(tasks: "Tasks", path: Path, right: set[str]) -> Judged:
    from blip2_serve.images import Upload

    try:
        image = Upload(await asyncio.to_thread(path.read_bytes))
        options = DecodingOptions(**tasks.family.caption_defaults)
        (made,) = (await tasks.caption_several(image, None, 1, options)).captions
    except OSError as error:
        raise InvalidField(f"{path} cannot be read ({error.strerror}).") from None
    except Blip2Error as error:
        raise InvalidField(f"{path}: {error.message}") from None
    return made.score * made.num_tokens, plain(made.text) in right
