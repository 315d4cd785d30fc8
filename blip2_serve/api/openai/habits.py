"""Read values that clients send by habit as they are meant: no limit, any seed, the least of a share.

Sources: OpenAI's own clients and servers of the same protocol (vLLM, llama.cpp), which take -1 for "no limit", "all"
and "at random".
"""

from collections.abc import Callable

from blip2_serve.api.leniency import Ignored, number_of
from blip2_serve.options import MAX_NEW_TOKENS

Values = dict[str, object]


def eased(values: Values, ignored: Ignored, *limits: str) -> Values:
    """Return the fields of a body with habitual values as `WritingRequest` takes them.

    `limits` name the most tokens to write, the name that counts last.

    Raises:
        InvalidField: the server is strict.
    """
    eased = dict(values)
    cap_limits(eased, ignored, limits)
    for ease in (ease_draws, _stops, _stream_options):
        ease(eased, ignored)
    return eased


def cap_limits(values: Values, ignored: Ignored, limits: tuple[str, ...]) -> None:
    """Cap the number of tokens, for which -1 and huge numbers mean as many as there may be; the newer name counts."""
    names = [name for name in limits if name in values]
    for name in names:
        if _is_number(values[name], lambda limit: limit == -1 or limit > MAX_NEW_TOKENS):
            ignored.tolerate(f"at most {MAX_NEW_TOKENS} tokens are written", at=name)
            values[name] = MAX_NEW_TOKENS
    for older in names[:-1]:
        if values[older] != values[names[-1]]:
            ignored.leave_out(older, f"{names[-1]} is its newer name")
            del values[older]


def ease_draws(values: Values, ignored: Ignored) -> None:
    """Take a seed below 0 for any, a top_k of -1 for all, and a top_p of 0, which leaves the best token, for greedy."""
    if _is_number(values.get("seed"), lambda seed: seed < 0):
        ignored.tolerate("a seed is 0 or more", at="seed")
        del values["seed"]
    if _is_number(values.get("top_k"), lambda top_k: top_k == -1):
        ignored.tolerate("0 draws from all tokens", at="top_k")
        values["top_k"] = 0
    if _is_number(values.get("top_p"), lambda top_p: top_p == 0):
        ignored.tolerate("a temperature of 0 takes the best token", at="top_p")
        del values["top_p"]
        values["temperature"] = 0


def _stops(values: Values, ignored: Ignored) -> None:
    """Drop empty stop texts, which end nothing."""
    stop = values.get("stop")
    stops = stop if isinstance(stop, list) else [stop]
    if "" in stops:
        ignored.tolerate("an empty text ends nothing", at="stop")
        values["stop"] = [text for text in stops if text != ""]


def _stream_options(values: Values, ignored: Ignored) -> None:
    options = values.get("stream_options")
    if not isinstance(options, dict):
        return
    if not values.get("stream"):
        ignored.leave_out("stream_options", "the answer is not streamed")
        del values["stream_options"]
        return
    for name, value in options.items():
        if name != "include_usage" and value not in (None, False):
            ignored.leave_out(f"stream_options.{name}", "there is no such option")
    usage = options.get("include_usage")
    values["stream_options"] = {} if usage is None else {"include_usage": usage}


def _is_number(value: object, holds: Callable[[float], bool]) -> bool:
    number = number_of(value)
    return number is not None and holds(number)
