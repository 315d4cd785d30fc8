"""`blip2-serve convert`: write a checkpoint's pickled weights as safetensors, which run no code when they are read."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path), required=False)
def convert(folder: Path, out: Path | None) -> None:
    """Write the weights in FOLDER's pytorch_model.bin as safetensors, beside it or, with the other files, to OUT.

    The pickle is read without running code: a file that holds more than weights is refused. It is kept.
    """
    from blip2_serve.model.foreign.pickled import convert as write
    from blip2_serve.model.load import quieten_transformers

    quieten_transformers()
    with click.progressbar(length=1000, label="converting") as bar:
        names = write(folder, out or folder, lambda done, total: bar.update(1000 * done // total - bar.pos))
    click.echo(f"{out or folder}: {len(names)} file{'s' * (len(names) > 1)} of safetensors, {names[0]} the first.")
