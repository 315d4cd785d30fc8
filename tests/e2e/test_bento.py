"""The Bento holds what serving needs and nothing else, and it serves."""

from pathlib import Path

import httpx
import pytest
import yaml

from blip2_serve.config import DEFAULT_MODEL
from blip2_serve.model.checkpoints import BUNDLED, BUNDLED_MATCHING
from support.bentos import Bento, build_bento, export_tracked_files
from support.demo import CAPTION, PICTURE
from support.idle import survives_idling
from support.serving import ROOT, serve

SECRET = "a-token-that-nobody-may-see"


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Bento:
    """A Bento built from a tree with secrets left in it, under invalid settings."""
    tree = export_tracked_files(tmp_path_factory.mktemp("tree"))
    for careless in (".env", "blip2_serve/.env.local", "blip2_serve/checkpoints/demo/.env", ".git/config"):
        (tree / careless).parent.mkdir(parents=True, exist_ok=True)
        (tree / careless).write_text(f"TOKEN={SECRET}\n")
    return build_bento(tree, tmp_path_factory.mktemp("store"), BLIP2_MODEL="no/such/model", BLIP2_THREADS="many")


def packed(bento: Bento) -> set[str]:
    """List the files of the Bento's source by relative path."""
    source = bento.folder / "src"
    return {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}


def test_it_holds_the_service_the_package_and_the_demo_checkpoints(bento: Bento) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "blip2_serve").rglob("*.py")}
    weights = {f"blip2_serve/checkpoints/{name}/model.safetensors" for name in (*BUNDLED, *BUNDLED_MATCHING)}
    assert {"service.py", "LICENSE", *weights, *modules} <= packed(bento)


def test_it_holds_the_pictures_of_the_web_page(bento: Bento) -> None:
    examples = {str(path.relative_to(ROOT)) for path in (ROOT / "blip2_serve/ui/examples").iterdir()}
    assert {"demo.jpeg", *examples} <= packed(bento)


def test_it_holds_nothing_else(bento: Bento) -> None:
    requirements = ("requirements.txt", "requirements-ui.txt", "requirements-mcp.txt")
    files = ("service.py", "LICENSE", *requirements, "bentofile.yaml", "demo.jpeg")
    assert [name for name in packed(bento) if not name.startswith((*files, "blip2_serve/"))] == []


def test_no_secret_gets_into_it(bento: Bento) -> None:
    files = [path for path in bento.folder.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_its_requirements_are_the_pins(bento: Bento) -> None:
    requirements = (bento.folder / "env/python/requirements.txt").read_text().split()
    assert set(requirements) == set((ROOT / "requirements.txt").read_text().split())


def test_its_default_model_is_that_of_the_service(bento: Bento) -> None:
    described = yaml.safe_load((bento.folder / "bento.yaml").read_text())
    assert {"name": "BLIP2_MODEL", "value": DEFAULT_MODEL, "stage": "all"} in described["envs"]


def test_it_serves_the_demo_checkpoint(bento: Bento, tmp_path: Path) -> None:
    settings = {"BLIP2_MODEL": "demo", "BLIP2_UI": "on", "BENTOML_HOME": str(bento.home)}
    # From an empty folder, so that the Bento's code is served and not this tree's.
    with serve(tmp_path, settings, target=bento.tag, cwd=tmp_path) as server:
        reply = httpx.post(f"{server.url}/generate", files={"img": PICTURE.read_bytes()}, timeout=60)
        assert (reply.status_code, reply.text) == (200, CAPTION)
        assert reply.headers["x-model"] == "demo"
        assert survives_idling(server.url)
        assert "circle-above-square.jpeg" in httpx.get(f"{server.url}/ui/").text
