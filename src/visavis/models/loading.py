"""What all sources of models share while they load: data only, one sentence when it fails, quick when
offline."""

from __future__ import annotations

import contextlib
import difflib
import http.client
import os
import pickle
import socket
import sys
import urllib.request
from collections.abc import Iterator, Sequence

from visavis.errors import ModelError, VisavisError

_NETWORK_PACKAGES = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_FORCE_NOT = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
    """Turns whatever fails inside into a `ModelError` that names the model, and lets weights be data only.

    What the libraries print about downloads goes to standard error, so that a program's output stays its own.
    """
    try:
        with _weights_only(), contextlib.redirect_stdout(sys.stderr):
            yield
    except VisavisError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"the weights of '{name}' hold more than data, and loading them could run a stranger's code; "
            "use a model with safetensors or plain weights."
        ) from error
    except Exception as error:  # model libraries fail in every way there is
        if _is_network_failure(error):
            raise not_downloaded(name, error) from error
        raise ModelError(f"the model '{name}' could not be loaded: {_reason(error)}.") from error


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """Makes every `torch.load` inside a safe one: torchvision itself asks for full unpickling."""
    before = {variable: os.environ.pop(variable, None) for variable in (_FORCE, _FORCE_NOT)}
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        del os.environ[_FORCE]
        os.environ.update({variable: value for variable, value in before.items() if value is not None})


def not_downloaded(name: str, error: Exception) -> ModelError:
    """The error for weights that are neither in a cache nor to be had."""
    return ModelError(
        f"the weights of '{name}' are not in the cache and could not be downloaded ({_reason(error)}); check "
        "the connection, put the file into the cache, or use 'efficientnet_lite0', which works offline."
    )


def require_host(host: str, name: str) -> None:
    """Fails at once where a host cannot be found, before a library tries it for most of a minute."""
    if urllib.request.getproxies():
        return  # the proxy finds the host, not we
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise not_downloaded(name, error) from error


def unknown_model(name: str, known: Sequence[str], prefix: str) -> ModelError:
    """The error for a name that a source does not have, with the nearest that it has."""
    alike = difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.5)
    longer = [other for other in known if name.lower() in other.lower()]
    nearest = list(dict.fromkeys([*longer[:2], *alike]))[:4]
    hint = f"the nearest are {', '.join(prefix + other for other in nearest)}" if nearest else "see visavis.models()"
    return ModelError(f"there is no model '{prefix}{name}'; {hint}.")


def _reason(error: Exception) -> str:
    """What an error says, in one line without full stop, to stand inside our sentence."""
    cause = getattr(error, "reason", error)  # of urllib's errors, what lies beneath
    said = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return (said.splitlines() or [""])[0].rstrip(". ") or type(error).__name__


def _is_network_failure(error: BaseException) -> bool:
    # A bad hash is half a download; torch.hub reports it as a RuntimeError.
    if isinstance(error, RuntimeError) and "hash" in str(error):
        return True
    packages = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return isinstance(error, (OSError, http.client.HTTPException)) or not packages.isdisjoint(_NETWORK_PACKAGES)
