"""OpenAI's JavaScript client, from npm, against the real server with the demo checkpoint."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support.demo import ANSWER, CAPTION, FOLLOW_UP, FOLLOW_UP_ANSWER, PICTURE, QUESTION, TURN
from support.serving import serve

pytestmark = pytest.mark.slow

CLIENT = "openai@6.30.1"  # the last major version that runs on Debian 12's Node 18; version 7 needs Node 22
SCRIPT = Path(__file__).with_name("openai_client.mjs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the client in node_modules and the script beside it."""
    if shutil.which("npm") is None:
        pytest.skip("needs Debian's nodejs and npm")
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", f"--cache={tmp_path / 'cache'}"]
    subprocess.run(["npm", "install", *quiet, f"--prefix={tmp_path}", CLIENT], check=True, timeout=120)
    return Path(shutil.copy(SCRIPT, tmp_path)).parent


def test_it_captions_talks_and_understands_a_refusal(folder: Path) -> None:
    questions = [QUESTION, TURN[0], FOLLOW_UP]
    with serve(folder, {"BLIP2_MODEL": "demo"}) as running:
        command = ["node", SCRIPT.name, running.url, str(PICTURE), json.dumps(questions)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "models": ["demo"],
        "unary": {"text": CAPTION, "tokens": CAPTION},
        "answers": [ANSWER, TURN[1], FOLLOW_UP_ANSWER],
        "refusal": {"name": "BadRequestError", "status": 400, "param": "messages", "code": "invalid_field"},
    }
