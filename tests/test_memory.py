"""Memory that was freed goes back to the system, once after much of it and not for every little."""

import subprocess
import sys
import time

from blip2_serve.memory import FreedMemory

FREE_AND_TRIM = """
import psutil
from blip2_serve.memory import give_back_free_memory
resident = lambda: psutil.Process().memory_info().rss
blocks = [bytes(100_000) for _ in range(2000)]
kept = blocks[::100]
del blocks
before = resident()
give_back_free_memory()
print(before - resident())
"""


COLLECT_AROUND = """
import gc, weakref
from blip2_serve.memory import keep_what_is_loaded
class Node: pass
loaded = [Node() for _ in range(100_000)]
keep_what_is_loaded()
later = Node()
later.itself = later
gone = weakref.ref(later)
del later
print(len(gc.get_objects()), gc.collect() > 0, gone() is None)
"""


def test_the_collector_skips_what_is_loaded_and_still_finds_later_cycles() -> None:
    run = subprocess.run([sys.executable, "-c", COLLECT_AROUND], capture_output=True, text=True, check=True)
    num_objects, *rest = run.stdout.split()
    assert int(num_objects) < 10_000
    assert rest == ["True", "True"]


def test_freed_memory_between_kept_blocks_goes_back() -> None:
    run = subprocess.run([sys.executable, "-c", FREE_AND_TRIM], capture_output=True, text=True, check=True)
    assert int(run.stdout) > 100_000_000


def test_it_is_given_back_once_after_much_was_freed() -> None:
    given: list[float] = []
    freed = FreedMemory(lambda: given.append(time.monotonic()), delay_s=0.05)
    for _ in range(100):
        freed.note(1_000_000)
    time.sleep(0.5)
    assert len(given) == 1
    freed.note(1_000_000)
    time.sleep(0.2)
    assert len(given) == 1
