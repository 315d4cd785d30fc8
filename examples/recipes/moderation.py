"""Sort pictures into those that pass and those that a person has to look at, by closed questions.

    python examples/recipes/moderation.py uploads --ask "is there a weapon?" --ask "is anybody naked?" > review.csv

Nothing is blocked here: the model is often wrong, and only tells where to look first.
Needs `pip install bentoml`, and a server on localhost:3000 or `--server`.
"""

import csv
import sys
from pathlib import Path

import bentoml
import click
from bentoml.exceptions import BentoMLException


def probability_of_yes(client: bentoml.SyncHTTPClient, picture: Path, question: str) -> float:
    """How much more probable "yes" is than "no", from 0 to 1.

    Raises:
        BentoMLException: the server refuses the picture.
    """
    choices = client.choose(img=picture, txt=question, choices=["yes", "no"])["choices"]
    return float(next(choice["probability"] for choice in choices if choice["text"] == "yes"))


def judge(client: bentoml.SyncHTTPClient, picture: Path, questions: tuple[str, ...], threshold: float) -> list[str]:
    """A row of the table: the file, "pass" or "review", and how probable each "yes" is."""
    try:
        found = [probability_of_yes(client, picture, question) for question in questions]
    except BentoMLException:
        return [picture.name, "review", *("no answer" for _ in questions)]
    verdict = "review" if max(found) >= threshold else "pass"
    return [picture.name, verdict, *(f"{probability:.2f}" for probability in found)]


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--ask", "questions", multiple=True, required=True, help="A question that yes or no answers.")
@click.option("--threshold", default=0.2, show_default=True, help="Review from this probability of a yes on.")
@click.option("--server", default="http://localhost:3000", show_default=True)
def main(folder: Path, questions: tuple[str, ...], threshold: float, server: str) -> None:
    """Print a table of the files in FOLDER that tells which to review."""
    pictures = sorted(path for path in folder.iterdir() if path.is_file())
    table = csv.writer(sys.stdout)
    table.writerow(["file", "verdict", *questions])
    with (
        bentoml.SyncHTTPClient(server, timeout=300) as client,
        click.progressbar(pictures, label="Judging", file=sys.stderr) as progress,
    ):
        table.writerows(judge(client, picture, questions, threshold) for picture in progress)


if __name__ == "__main__":
    main()
