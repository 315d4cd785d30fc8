"""The real service with a fuse: once the file FUSE exists, the engine's next decode step raises."""

import os
from pathlib import Path
from typing import Any

from blip2_serve.engine.runner import Runner
from service import Blip2

__all__ = ["Blip2"]

_step = Runner.step
_fuse = Path(os.environ["FUSE"])


def _step_until_the_fuse_blows(self: Runner) -> Any:
    if _fuse.exists():
        raise RuntimeError("the fuse has blown")
    return _step(self)


Runner.step = _step_until_the_fuse_blows  # type: ignore[method-assign]
