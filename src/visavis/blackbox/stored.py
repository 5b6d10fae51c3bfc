"""An estimator from a skops file: data and names of known types, never a pickle."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from visavis.errors import ModelError

_LARGEST = 1 << 30
_LARGEST_SCHEMA = 64 << 20
# A forest of thousands of trees has so many parts.
_MOST_PARTS = 1_000_000


def load_estimator(path: str | os.PathLike[str], trusted: Sequence[str] = ()) -> Any:
    """Load an estimator that `skops.io.dump` wrote.

    Args:
        path: of the file.
        trusted: the types that it may hold beyond those that skops trusts, by their full names: loading it may run
            their code.

    Raises:
        ModelError: it is no such file, holds other types, or what it holds has no `predict`.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    file = Path(path)
    _check(file)
    try:
        unknown = [name for name in skops.io.get_untrusted_types(file=file) if name not in trusted]
        if unknown:
            raise ModelError(
                f"'{file}' holds types that may run code as they are loaded: {', '.join(sorted(unknown)[:8])}; if you "
                f"know where the file comes from: {' '.join(f'--trust {name}' for name in sorted(unknown)[:8])}"
            )
        estimator = skops.io.load(file, trusted=list(trusted))
    except ModelError:
        raise
    except UntrustedTypesFoundException as error:
        raise ModelError(f"'{file}' holds types that may run code as they are loaded ({error})") from error
    except Exception as error:
        text = str(error).strip().splitlines()
        raise ModelError(
            f"'{file}' cannot be loaded as an estimator ({text[0][:200] if text else type(error).__name__}); write it "
            "with skops.io.dump"
        ) from error
    from sklearn.base import is_regressor

    if not callable(getattr(estimator, "predict", None)) or is_regressor(estimator):
        raise ModelError(f"'{file}' holds a {type(estimator).__name__}, but a classifier with `predict` was expected")
    return estimator


def _check(file: Path) -> None:
    """Refuse what is no archive, or would be too large unpacked."""
    if file.suffix.lower() in (".pkl", ".pickle", ".joblib"):
        raise ModelError(
            f"'{file}' is a pickle by its name, which runs code as it is loaded; write it with skops.io.dump"
        )
    try:
        if not file.is_file():
            raise ModelError(f"there is no file '{file}'")
        with zipfile.ZipFile(file) as archive:
            parts = {part.filename: part.file_size for part in archive.infolist()}
            if parts.get("schema.json", 0) > _LARGEST_SCHEMA or len(parts) > _MOST_PARTS:
                raise ModelError(f"'{file}' has more parts than any estimator has")
            _check_size(file, sum(parts.values()))
            schema = json.loads(archive.read("schema.json"))
    except (
        OSError,
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        RecursionError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"'{file}' is no skops file ({error}); write it with skops.io.dump") from error
    # A part is read as often as it is named.
    _check_size(file, sum(parts.values()) + sum(parts.get(name, 0) for name in _named_parts(schema)))


def _check_size(file: Path, size: int) -> None:
    if size > _LARGEST:
        raise ModelError(f"'{file}' would take more than {_LARGEST >> 30} GiB unpacked, which no estimator here does")


def _named_parts(schema: Any) -> Iterator[str]:
    """Give the name of a part as often as the schema has it."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(node.get("file"), str):
                yield node["file"]
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


__all__ = ["load_estimator"]
