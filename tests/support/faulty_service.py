"""The real service with slow steps and a fuse: once the file FUSE exists, the engine's next decode step raises."""

import os
import time
from pathlib import Path
from typing import Any

from blip2_serve.engine.runner import Runner
from service import Blip2

__all__ = ["Blip2"]

_step = Runner.step
_fuse = Path(os.environ["FUSE"])
STEP_S = 0.02


def _step_until_the_fuse_blows(self: Runner, *arguments: Any) -> Any:
    if _fuse.exists():
        raise RuntimeError("the fuse has blown")
    time.sleep(STEP_S)
    return _step(self, *arguments)


Runner.step = _step_until_the_fuse_blows  # type: ignore[method-assign]
