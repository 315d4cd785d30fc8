"""Every command in docs/recipes.md, run on drawn pictures, prints the documented output."""

from pathlib import Path

import pytest

from support.readme import RECIPES, Example, examples, run
from support.serving import ROOT, Server
from training.pictures.drawing import draw
from training.pictures.scenes import Item, Scene

PHOTOS = {
    "chair.png": Scene(640, 480, "white", (Item("square", "red", 200, 120, 230),)),
    "lamp.png": Scene(
        640, 480, "green", (Item("star", "yellow", 60, 130, 220), Item("circle", "black", 400, 150, 170))
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the commands' files: `photos` and `examples`."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, scene in PHOTOS.items():
        draw(scene).save(photos / name)
    (photos / "broken.jpeg").write_text("no picture\n")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.parametrize("example", examples(RECIPES), ids=lambda example: example.code.split()[1])
def test_the_recipe_prints_what_is_said_there(example: Example, folder: Path, demo: Server) -> None:
    at_server = example.code.replace(" photos ", f" photos --server {demo.url} ")
    assert at_server != example.code
    assert run(Example(example.language, at_server, example.prints), demo.url, folder).strip() == example.prints.strip()


def test_every_recipe_is_in_the_document() -> None:
    scripts = {path.name for path in (ROOT / "examples" / "recipes").glob("*.py")}
    assert scripts == {name for name in scripts if f"examples/recipes/{name} photos" in RECIPES.read_text()}
