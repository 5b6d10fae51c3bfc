"""The user's own model: a function in a module of theirs builds it. This runs their code; weights stay data."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import pickle
import sys
import sysconfig
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from visavis.classifier import Classifier, pixel_bounds
from visavis.errors import ModelError, VisavisError
from visavis.models.preprocessing import CentreCrop

_EXPECTED = "a torch.nn.Module or a visavis.Classifier"
# Of what an error of the user's says, in characters: some list a whole network.
_LONGEST = 300


def names() -> list[str]:
    """Nothing: they are the user's."""
    return []


def claims(name: str) -> bool:
    """Whether MODULE:FUNCTION names a Python module that can be found, or a file of one; nothing of it is run."""
    place, _, _ = name.rpartition(":")
    if place.endswith(".py"):
        try:
            return Path(place).is_file()
        except (OSError, ValueError):  # no file can have such a name
            return False
    package = place.partition(".")[0]
    with _importable(""):
        try:
            return bool(package) and (package in sys.modules or importlib.util.find_spec(package) is not None)
        except (ImportError, ValueError):
            return False


def load(name: str, pretrained: bool) -> Classifier:
    """Runs FUNCTION of "MODULE:FUNCTION", or takes it as it is if it is a model itself.

    The module is imported from the current folder or else from the environment, or is a file ("models/net.py").
    FUNCTION needs no arguments and returns an nn.Module or a Classifier. A plain nn.Module gets the preprocessing of
    `CentreCrop()`, ImageNet's, and classes without names. The model is put into eval mode.

    Raises:
        ModelError: The module or function cannot be found, the code raised something, or what came is no model.
    """
    place, _, path = name.rpartition(":")
    if not place or not path:
        raise ModelError(f"'{name}' names no function; write it as MODULE:FUNCTION, such as my_models:build.")
    beside = [str(Path(place).resolve().parent)] if place.endswith(".py") else []
    with _importable(*beside, ""):
        model = _attribute(_imported(place, name), path, name)
        if not isinstance(model, nn.Module | Classifier):
            model = _built(model, name)
    module: object = model.module if isinstance(model, Classifier) else model
    if not isinstance(module, nn.Module):
        raise ModelError(f"'{name}' gives a value of type {type(model).__name__}, but {_EXPECTED} was expected.")
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise ModelError(f"'{name}' gives a model without numbers, on the device 'meta'; build it on the CPU.")
    module.eval()
    if isinstance(model, Classifier):
        return model
    preprocess = CentreCrop()
    return Classifier(module, preprocess=preprocess, bounds=pixel_bounds(preprocess), name=name)


def load_for(name: str, state: dict[str, Tensor]) -> Classifier:
    """The model as the code builds it, for a state dict of the user's own."""
    return load(name, pretrained=False)


@contextlib.contextmanager
def _importable(*folders: str) -> Iterator[None]:
    """Has modules imported from these folders first, as `python -m` does from the current one ("")."""
    sys.path[:0] = folders
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in folders:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)


def _imported(place: str, name: str) -> ModuleType:
    if place.endswith(".py"):
        return _file(place, name)
    try:
        with _users_code(name):
            return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"'{name}' is to be built by the Python module '{place}', but neither this folder nor the environment has "
            f"'{error.name}'; write it as MODULE:FUNCTION, or FILE.py:FUNCTION."
        ) from error


def _file(place: str, name: str) -> ModuleType:
    path = str(Path(place).resolve())
    # Under its path as name, it is never taken for another module.
    spec = importlib.util.spec_from_file_location(path, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise ModelError(f"there is no file '{place}'; check the path.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path] = module
    try:
        with _users_code(name):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path]
        raise
    return module


def _attribute(module: ModuleType, path: str, name: str) -> Any:
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            public = [other for other in dir(found) if not other.startswith("_")]
            near = difflib.get_close_matches(part, public, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "name a function in it that builds the model."
            raise ModelError(
                f"'{name}' is no model of a known source, and the Python module {_described(module)} has no '{part}'; "
                f"{hint}"
            )
        found = getattr(found, part)
    return found


def _built(function: Any, name: str) -> Any:
    if not callable(function):
        raise ModelError(
            f"'{name}' is of type {type(function).__name__}, but a function, or {_EXPECTED}, was expected."
        )
    needed = _required(function)
    if needed:
        raise ModelError(
            f"'{name}' needs arguments ({', '.join(needed)}), but is called without; write a function that needs none."
        )
    with _users_code(name):
        return function()


def _required(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []  # some built-in callables do not tell
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


@contextlib.contextmanager
def _users_code(name: str) -> Iterator[None]:
    """Turns what the user's code raises into one sentence that says what, and where."""
    try:
        yield
    except (VisavisError, pickle.UnpicklingError):
        raise
    except ModuleNotFoundError as error:
        if not _own_frames(error):
            raise
        raise _blamed(error, name) from error
    except (Exception, SystemExit) as error:  # it is not our code
        raise _blamed(error, name) from error


def _blamed(error: BaseException, name: str) -> ModelError:
    said = textwrap.shorten(error.msg if isinstance(error, SyntaxError) else str(error), _LONGEST).rstrip(".")
    return ModelError(
        f"the code of '{name}' raised {type(error).__name__}{_place_of(error)}{': ' + said if said else ''}."
    )


def _place_of(error: BaseException) -> str:
    """Where in the user's files an error came from, to stand inside a sentence."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" in {_shown(error.filename)}, line {error.lineno}"
    frames = _own_frames(error)
    return f" in {_shown(frames[-1].filename)}, line {frames[-1].lineno}" if frames else ""


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of the traceback in the user's folder: where their code begins, and what lies beside or beneath."""
    ours = (__file__, importlib.__file__, contextlib.__file__)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in ours and not frame.filename.startswith("<")
    ]
    if not frames:
        return []
    first = Path(frames[0].filename)
    beneath = [frame for frame in frames if Path(frame.filename).is_relative_to(first.parent)]
    # An environment may lie in the user's folder; what is installed there is not theirs.
    return [frame for frame in beneath if _installed(Path(frame.filename)) == _installed(first)]


def _installed(file: Path) -> bool:
    return "site-packages" in file.parts


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def raised(error: BaseException) -> str:
    """What was raised, and where, to end a sentence: the last place in the user's own code, else the last of all."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    others = (Path(__file__).parents[1], sysconfig.get_paths()["stdlib"])
    theirs = [
        frame
        for frame in frames
        if not _installed(Path(frame.filename)) and not any(Path(frame.filename).is_relative_to(one) for one in others)
    ]
    last = (theirs or frames)[-1:]
    where = f" in {_shown(last[0].filename)}, line {last[0].lineno}" if last else ""
    said = textwrap.shorten(str(error), _LONGEST, placeholder=" …").rstrip(".")
    return f"{type(error).__name__}{where}{': ' + said if said else ''}"


def _described(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return f"'{module.__name__}' ({_shown(file)})" if file else f"'{module.__name__}'"
