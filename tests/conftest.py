"""Set-up for every test: annotations are enforced, random numbers fixed, downloads and windows off."""

from __future__ import annotations

import os
import sys

import hypothesis
import jaxtyping
import pytest
import torch

# The hook checks only what is imported after it: an earlier import would silently switch the checks off.
if "visavis" in sys.modules:
    raise pytest.UsageError(
        "visavis was imported before tests/conftest.py, so its shape annotations would go unchecked; "
        "remove the plugin or option that imports it first"
    )
# The slow tests run in about three quarters of the time without; the quick ones call everything with it.
if os.environ.get("VISAVIS_UNCHECKED") != "1":
    jaxtyping.install_import_hook("visavis", "annotations.checked")

os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"

# A test that fails must fail again; a slow machine is no failure.
hypothesis.settings.register_profile("visavis", deadline=None, derandomize=True)
hypothesis.settings.load_profile("visavis")

# Two workers of pytest-xdist on two cores, or one process on both.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start every test from the same random state."""
    torch.manual_seed(0)
