"""The photograph under every map."""

from __future__ import annotations

import numpy as np
import pytest

from plotting.figures import SIZE


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).random((*SIZE, 3))
