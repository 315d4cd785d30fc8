"""Answers that loop or are empty, and the decoding options that keep the model from them."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from blip2_serve.engine.messages import Finished, FinishedRow, Timings
from blip2_serve.options import DecodingOptions

NGRAM_SIZE = 3
MAX_REPEATS = 3

IsEmpty = Callable[[FinishedRow], bool]


def loops(ids: Sequence[int]) -> bool:
    """True if any three consecutive tokens occur at least three times."""
    counts = Counter(zip(ids, ids[1:], ids[2:], strict=False))
    return max(counts.values(), default=0) >= MAX_REPEATS


def guards_against(row: FinishedRow, is_empty: IsEmpty, options: DecodingOptions) -> dict[str, Any]:
    """Options that keep the model from such an answer; none if it is fine."""
    guards: dict[str, Any] = {}
    if loops(row.ids):
        guards["no_repeat_ngram_size"] = NGRAM_SIZE
    if not options.min_new_tokens and is_empty(row):
        guards["min_new_tokens"] = 1
    return guards


async def guarded(
    generate: Callable[[DecodingOptions], Awaitable[Finished]], is_empty: IsEmpty, options: DecodingOptions
) -> tuple[Finished, tuple[str, ...]]:
    """Generate, and once more with guards if any answer loops or is empty; the second run's replace the faulty ones.

    Returns the names of the guards, too, mostly none.
    """
    first = await generate(options)
    guards = [guards_against(row, is_empty, options) for row in first.rows]
    needed = {name: value for each in guards for name, value in each.items()}
    if not needed:
        return first, ()
    again = await generate(replace(options, **needed))
    chosen = zip(first.rows, again.rows, guards, strict=True)
    rows = tuple(second if faulty else row for row, second, faulty in chosen)
    return replace(first, rows=rows, timings=_together(first.timings, again.timings)), tuple(sorted(needed))


def _together(first: Timings, again: Timings) -> Timings:
    return Timings(first.image_s + again.image_s, first.queue_s + again.queue_s, first.decode_s + again.decode_s)
