"""`import visavis` is light, and its names are those that it promises."""

import importlib.metadata
import json
import subprocess
import sys
import types

import pytest

import visavis as vv

HEAVY = (
    *("matplotlib", "gradio", "ray", "timm", "transformers", "typer", "rich", "skimage", "captum"),
    *("torchvision", "scipy", "pandas", "zennit", "pyarrow", "sklearn", "skops"),
)


def loaded_after(statement):
    """The names of all modules that a fresh interpreter holds after a statement."""
    code = f"{statement}; import sys, json; print(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(finished.stdout))


@pytest.fixture(scope="module")
def loaded():
    return loaded_after("import visavis")


@pytest.mark.parametrize("name", HEAVY)
def test_import_is_light(loaded, name):
    assert "torch" in loaded
    assert name not in loaded


def test_the_check_of_lightness_bites():
    assert "rich" in loaded_after("import rich")


def test_import_prints_and_warns_nothing():
    finished = subprocess.run(
        [sys.executable, "-W", "always", "-c", "import visavis"], capture_output=True, text=True, check=True
    )
    assert finished.stdout == ""
    assert "visavis" not in finished.stderr


def test_all_is_sorted_and_importable():
    assert len(set(vv.__all__)) == len(vv.__all__)
    names, constants = [n for n in vv.__all__ if not n.isupper()], [n for n in vv.__all__ if n.isupper()]
    assert vv.__all__ == sorted(constants) + sorted(names, key=lambda name: (not name[0].isupper(), name))
    for name in vv.__all__:
        assert getattr(vv, name) is not None


def test_all_is_complete():
    """What the package imports for its users it also lists; only submodules are left out."""
    public = {
        name for name, value in vars(vv).items() if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public - set(vv.__all__) == set()
    assert set(vv.__all__) - public == {"__version__"}


def test_names_are_what_they_say():
    namespace = {}
    exec("from visavis import *", namespace)  # noqa: S102 (a star import is legal in a module only)
    assert callable(namespace["explain"])
    assert namespace["CLRP"] is vv.method("clrp")
    assert issubclass(namespace["InputError"], namespace["VisavisError"])


def test_version_is_the_installed_one():
    assert vv.__version__ == importlib.metadata.version("visavis")


def test_methods_by_name_and_by_attribute_are_the_same():
    for name in vv.methods():
        assert getattr(vv, vv.method(name).__name__) is vv.method(name)
