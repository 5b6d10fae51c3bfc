"""Methods and metrics with their options as a line of text: `clrp:foil=runner-up,rules=deep-taylor`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from visavis.errors import InputError
from visavis.evaluation.base import Metric, metric
from visavis.methods.base import Method, PropagationMethod, method

# What a line of text cannot say, or what does not fit the classes of a data set.
_NOT_SPELLED = ("bounds", "output", "unit_dim")
# Options without a default that tells their type.
_TEXTS = ("foil", "rules", "layer")


def split(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the parts of texts with commas between, each once: "lrp:rules=zero,seed=one,gradient" has two.

    What has an equals sign, and no colon before it, is an option of what stands before it.
    """
    found: list[str] = []
    for text in texts:
        begun = len(found)
        for part in filter(None, (part.strip() for part in text.split(","))):
            head, equals, _ = part.partition("=")
            if equals and ":" not in head and len(found) > begun:
                found[-1] += f",{part}"
            else:
                found.append(part)
    return tuple(dict.fromkeys(found))


def method_of(text: str) -> tuple[type[Method], dict[str, Any]]:
    """Return the class of a method and its options, from NAME or NAME:OPTION=VALUE,OPTION=VALUE.

    Raises:
        InputError: there is no such method, it has no such option, or a value is malformed.
    """
    name, given = _parts(text)
    cls = method(name)
    known = _options(cls)
    if issubclass(cls, PropagationMethod):
        # The units of a layer are no classes.
        known.pop("layer", None)
    return cls, _values(text, known, given)


def metric_of(text: str) -> Metric:
    """Return a metric, from NAME or NAME:OPTION=VALUE,OPTION=VALUE.

    Raises:
        InputError: there is no such metric, it has no such option, or a value is malformed.
    """
    name, given = _parts(text)
    cls = metric(name)
    return cls(**_values(text, _options(cls), given))


def _parts(text: str) -> tuple[str, dict[str, str]]:
    name, _, rest = text.partition(":")
    given: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not option or not value:
            raise InputError(f"{part!r} in {text!r} is no option; write NAME:OPTION=VALUE,OPTION=VALUE")
        if option in given:
            raise InputError(f"{text!r} gives the option {option!r} twice; give it once")
        given[option] = value
    return name.strip(), given


def _options(cls: type[Any]) -> dict[str, Any]:
    """Return the options of a class that a line of text can give, with their defaults."""
    parameters = inspect.signature(cls).parameters.values()
    return {
        one.name: one.default
        for one in parameters
        if one.name not in _NOT_SPELLED
        and (isinstance(one.default, bool | int | float | str) or (one.default is None and one.name in _TEXTS))
    }


def _values(text: str, known: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for option, value in given.items():
        if option not in known:
            near = get_close_matches(option, known, n=3) or list(known)
            raise InputError(
                f"{text!r} gives the option {option!r}, which there is not; try {', '.join(near) or 'none'}"
            )
        values[option] = _value(text, option, value, known[option])
    return values


def _value(text: str, option: str, value: str, default: Any) -> Any:
    kind = str if default is None else type(default)
    if kind is bool:
        if value.casefold() not in ("true", "false"):
            raise InputError(f"the option {option!r} in {text!r} is true or false, not {value!r}")
        return value.casefold() == "true"
    try:
        return kind(value)
    except ValueError as error:
        raise InputError(f"the option {option!r} in {text!r} is of type {kind.__name__}, not {value!r}") from error


__all__ = ["method_of", "metric_of", "split"]
