"""The results of the study of units on disk: JSON, to four digits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from unit_study_findings import findings
from unit_study_measures import Measured

import visavis as vv
from visavis.files import write_bytes


def as_json(made: dict[str, Any], networks: Sequence[Measured]) -> str:
    """Return all numbers, to four digits, a network on each line, and the findings."""
    found = [
        {
            "finding": one.statement,
            "networks": one.networks,
            "verdict": one.verdict,
            "claims": [{**asdict(claim), "verdict": claim.verdict} for claim in one.claims],
        }
        for one in findings(networks)
    ]
    lines = [f"{json.dumps(key)}: {_compact(value)}" for key, value in (*made.items(), ("findings", found))]
    rows = ",\n".join(_compact(asdict(one)) for one in networks)
    return "{" + ",\n".join([*lines, f'"networks": [\n{rows}\n]']) + "}\n"


def _compact(value: Any) -> str:
    return json.dumps(rounded(value), separators=(",", ":"), ensure_ascii=False)


def rounded(value: Any) -> Any:
    """Return numbers to four digits; None for what JSON does not know."""
    if isinstance(value, float):
        # JSON knows neither NaN nor infinity.
        return float(f"{value:.4g}") if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


def text_of(path: Path) -> str:
    """Return the text of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise vv.InputError(f"{str(path)!r} cannot be read ({error})") from error


def kept(text: str, path: Path | None = None) -> tuple[dict[str, Any], list[Measured]]:
    """Return what `as_json` wrote: what the numbers rest on, and the networks.

    Raises:
        InputError: the text, that of `path`, is none of it.
    """
    try:
        content = _numbers(json.loads(text))
        networks = [_network(row) for row in content.pop("networks")]
        made = {**content, **{key: content[key] for key in ("images", "classes", "sizes", "command", "versions")}}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise vv.InputError(f"{str(path)!r} is none that --json wrote ({error})") from error
    made.pop("findings", None)
    if not networks:
        raise vv.InputError(f"{str(path)!r} has no networks")
    return made, networks


def _numbers(value: Any) -> Any:
    """Return NaN for what JSON had no number for."""
    if isinstance(value, dict):
        return {key: _numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return float("nan") if value is None else value


def _network(row: dict[str, Any]) -> Measured:
    return Measured(**{field.name: row[field.name] for field in fields(Measured)})


def remembered(path: Path | None, recipe: dict[str, Any], measure: Callable[[], Measured]) -> Measured:
    """Return what was measured of a network: from a file where it is there, else measured, and kept there.

    Raises:
        InputError: the file holds none of it, or was made by another recipe.
        OutputError: the file cannot be written.
    """
    wanted = _compact(recipe)
    if path is not None and path.exists():
        try:
            content = _numbers(json.loads(text_of(path)))
            made, found = content["recipe"], _network(content["measured"])
        except (ValueError, KeyError, TypeError) as error:
            raise vv.InputError(f"{str(path)!r} holds no measurements; remove it") from error
        if made != wanted:
            raise vv.InputError(f"{str(path)!r} was measured otherwise; remove it, or name another folder")
        return found
    text = _compact({"recipe": wanted, "measured": asdict(measure())})
    if path is not None:
        write_bytes(path, text.encode())
    # As it will be found again: to four digits.
    return _network(_numbers(json.loads(text))["measured"])
