"""Ask the same questions about every product photo and write the answers as a CSV, a column for each question.

    python examples/recipes/product_questions.py photos --ask "color=what color is the chair?" --output products.csv

Each photo is uploaded once: further questions name it by the SHA-256 of its bytes.
Needs `pip install httpx click`, and a server on localhost:3000 or `--server`.
"""

import csv
import hashlib
import sys
from pathlib import Path

import click
import httpx


def ask(client: httpx.Client, picture: bytes, question: str) -> str:
    """The answer; the picture is sent only where the server does not have it."""
    fields = {"img_id": hashlib.sha256(picture).hexdigest(), "txt": question}
    reply = client.post("/vqa", data=fields)
    if reply.status_code == httpx.codes.NOT_FOUND:
        reply = client.post("/vqa", data={"txt": question}, files={"img": picture})
    return f"({reply.json()['error']['message']})" if reply.is_error else reply.text


def named_questions(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """`name=question` of each `--ask`, by name."""
    pairs = [value.partition("=") for value in values]
    if not all(name and question for name, _, question in pairs):
        raise click.BadParameter("write name=question", context, option)
    return {name: question for name, _, question in pairs}


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--ask", "questions", multiple=True, required=True, callback=named_questions, help="name=question")
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The CSV to write.")
@click.option("--server", default="http://localhost:3000", show_default=True)
def main(folder: Path, questions: dict[str, str], output: Path, server: str) -> None:
    """Answer every question about every file in FOLDER."""
    pictures = sorted(path for path in folder.iterdir() if path.is_file())
    with httpx.Client(base_url=server, timeout=300) as client, output.open("w", newline="") as file:
        table = csv.DictWriter(file, ("file", *questions))
        table.writeheader()
        with click.progressbar(pictures, label="Asking", file=sys.stderr) as progress:
            for picture in progress:
                data = picture.read_bytes()
                answers = {name: ask(client, data, question) for name, question in questions.items()}
                table.writerow({"file": picture.name, **answers})


if __name__ == "__main__":
    main()
