"""The bodies of the tasks: a picture alone, or JSON with `inputs` and `parameters`, as the Hub's clients write them.

A picture stands in `inputs`, in `inputs.image` or beside it in `image`. Parameters of writing are those of our own
endpoints, whose names are transformers'; others are ignored and named.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blip2_serve.api.inputs import image_of
from blip2_serve.api.leniency import Ignored, number_of
from blip2_serve.api.openai.habits import cap_limits, ease_draws
from blip2_serve.errors import InvalidField
from blip2_serve.images import ImageSource, Upload

_NESTED = ("generation_parameters", "generate_kwargs", "generation_kwargs")


@dataclass(frozen=True, slots=True)
class TaskInput:
    """A picture, not decoded yet, and what is asked about it, by name."""

    picture: object
    values: dict[str, Any]

    def image(self) -> ImageSource:
        """Decode the picture; takes time where there are megabytes of base64.

        Raises:
            InvalidImage: it is none.
        """
        return self.picture if isinstance(self.picture, Upload) else image_of(self.picture, "inputs")


def read_task(values: Mapping[str, object], known: Collection[str], ignored: Ignored) -> TaskInput:
    """Find the picture and what a task knows in a body without nulls; what stands deeper counts.

    Raises:
        InvalidField: there is no picture, or `parameters` are no object.
    """
    found: dict[str, object] = {}
    for place, name, value in _entries(values):
        if name == "image" or name in known:
            found[name] = value
        else:
            ignored.leave_out(f"{place}{name}", "there is no such field")
    picture = found.pop("image", None)
    if not isinstance(picture, Upload | str) or picture == "":
        raise InvalidField("inputs is missing: send a picture in base64, or nothing but its bytes.", about="inputs")
    return TaskInput(picture, _eased(found, ignored))


def _entries(values: Mapping[str, object]) -> Iterator[tuple[str, str, object]]:
    """Yield place, name and value of all that a body says; nulls say nothing."""
    outer = {name: value for name, value in values.items() if name not in ("inputs", "parameters", *_NESTED)}
    inputs, parameters = values.get("inputs", {}), values.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidField('parameters are no object: send {"max_new_tokens": 20}.', about="parameters")
    nested = [each.get(name) for each in (values, parameters) for name in _NESTED]
    within = {name: value for name, value in parameters.items() if name not in _NESTED}
    groups = [("", outer), ("inputs.", inputs if isinstance(inputs, dict) else {"image": inputs})]
    groups += [("parameters.", group) for group in (within, *nested) if isinstance(group, dict)]
    for place, group in groups:
        for name, value in group.items():
            if value is not None:
                yield place, name, value


def _eased(values: Mapping[str, Any], ignored: Ignored) -> dict[str, Any]:
    """Read habitual values as they are meant: a temperature of 0 draws nothing, and a huge limit is the cap."""
    eased = dict(values)
    cap_limits(eased, ignored, ("max_new_tokens",))
    ease_draws(eased, ignored)
    if number_of(eased.get("temperature")) == 0:
        ignored.tolerate("a temperature is above 0: leave do_sample out", at="temperature")
        del eased["temperature"]
        eased["do_sample"] = False
    return eased
