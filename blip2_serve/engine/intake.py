"""From a request to the sequence that the engine runs, or the reason why it never will."""

import time

from blip2_serve.engine.backends import Backend
from blip2_serve.engine.cache.kv_cache import CELLS_PER_ROW
from blip2_serve.engine.cache.rows import PREFIX_CLASSES, TAIL_CLASSES, RowBooks, shape_for
from blip2_serve.engine.messages import Request
from blip2_serve.engine.sequence import SequenceState
from blip2_serve.errors import InvalidField, PromptTooLong
from blip2_serve.options import MAX_NUM_BEAMS


def make_books(max_rows: int) -> RowBooks:
    """Books with CELLS_PER_ROW cells for each row, but enough for the largest request of so many rows."""
    largest = PREFIX_CLASSES[-1] + min(max_rows, MAX_NUM_BEAMS) * TAIL_CLASSES[-1]
    return RowBooks(max_rows, max(max_rows * CELLS_PER_ROW, largest))


def make_sequence(request: Request, backend: Backend, books: RowBooks) -> SequenceState:
    """The sequence of a request that arrives now.

    Raises PromptTooLong or InvalidField for one that could not even run alone.
    """
    prompt_ids = request.prompt_ids
    if request.num_rows > books.max_rows:
        samples = "continuations" if request.continuations else "num_return_sequences"
        field = "num_beams" if request.uses_beams else samples
        raise InvalidField(f"{field} is at most {books.max_rows} here", about=field)
    num_prefix = backend.num_prefix(prompt_ids)
    max_new_tokens = request.options.max_new_tokens
    try:
        shape = shape_for(num_prefix, request.num_rows, max_new_tokens, request.uses_beams)
        books.check_fits(shape)
        if num_prefix + max_new_tokens > backend.max_length:
            raise ValueError(f"the context is {backend.max_length} tokens")
    except ValueError as error:
        raise PromptTooLong(f"the prompt and {max_new_tokens} new tokens do not fit: {error}") from error
    return SequenceState(
        request,
        shape=shape,
        num_prefix=num_prefix,
        seed_id=backend.seed_id(prompt_ids),
        seen_ids=backend.seen_ids(prompt_ids),
        arrived=time.monotonic(),
    )
