"""Draft alt text for a folder of pictures, as a CSV that a person goes through before anything is published.

    python examples/recipes/alt_text.py photos --output alt-text.csv

Needs `pip install httpx click`, and a server on localhost:3000 or `--server`.
"""

import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
import httpx

COLUMNS = ("file", "alt_text", "probability", "note")


def describe(client: httpx.Client, picture: Path, *, doubtful_below: float) -> dict[str, str]:
    """A row of the table: the best caption, or in `note` why there is none."""
    with picture.open("rb") as file:
        reply = client.post("/captions", files={"img": file}, data={"num_captions": "1"})
    if reply.is_error:
        return {"file": picture.name, "note": reply.json()["error"]["message"]}
    best = reply.json()["captions"][0]
    note = "doubtful" if best["probability"] < doubtful_below else ""
    return {
        "file": picture.name,
        "alt_text": best["text"].capitalize(),
        "probability": f"{best['probability']:.2f}",
        "note": note,
    }


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The CSV to write.")
@click.option("--server", default="http://localhost:3000", show_default=True)
@click.option("--doubtful-below", default=0.5, show_default=True, help="Mark captions of a lower probability.")
@click.option("--at-once", default=16, show_default=True, help="Requests in the air; the server batches them.")
def main(folder: Path, output: Path, server: str, doubtful_below: float, at_once: int) -> None:
    """Write a caption for every file in FOLDER."""
    pictures = sorted(path for path in folder.iterdir() if path.is_file())
    with (
        httpx.Client(base_url=server, timeout=300) as client,
        ThreadPoolExecutor(at_once) as threads,
        output.open("w", newline="") as file,
    ):
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        rows = threads.map(partial(describe, client, doubtful_below=doubtful_below), pictures)
        with click.progressbar(rows, len(pictures), "Describing", file=sys.stderr) as progress:
            table.writerows(progress)


if __name__ == "__main__":
    main()
