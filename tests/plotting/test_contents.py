"""What is refused before anything is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from plotting.figures import four_maps, heat
from visavis.errors import InputError
from visavis.plotting import Class, Map, Row, comparison, panel


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_evidence_that_is_not_finite_is_refused(picture: np.ndarray, bad: float) -> None:
    evidence = heat()
    evidence[0, 0] = bad
    with pytest.raises(InputError, match="'LRP: cat' holds NaN or infinite values"):
        panel(picture, [Map("LRP: cat", "", evidence)], title="t")
    with pytest.raises(InputError, match="'CLRP: cat' holds NaN or infinite values"):
        comparison(picture, [Row("cat", 0.5, heat(), evidence)], title="t")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((4, 4, 3), dtype=np.uint8), "divide bytes by 255"),
        (np.zeros((4, 4)), r"shape \(4, 4\)"),
        (np.zeros((4, 4, 4)), r"shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3)), r"shape \(0, 4, 3\)"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), 2.6), r"span \[2.6, 2.6\]"),
        (np.full((4, 4, 3), -0.1), "undo its normalisation"),
    ],
)
def test_a_wrong_picture_is_refused(wrong: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        panel(wrong, [Map("a", "", np.zeros((4, 4)))], title="t")


def test_wrong_maps_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"'a' has the shape \(7, 7\), but \(24, 40\)"):
        panel(picture, [Map("a", "", np.zeros((7, 7)))], title="t")
    with pytest.raises(InputError, match="'a' holds complex128"):
        panel(picture, [Map("a", "", heat() * 1j)], title="t")
    dual = Map("a", "", heat())
    object.__setattr__(dual, "role", "dual")  # the type check of the tests would refuse it earlier
    with pytest.raises(InputError, match="role 'dual'"):
        panel(picture, [dual], title="t")
    for count in (0, 7):
        with pytest.raises(InputError, match=f"but {count} came"):
            panel(picture, [Map("a", "", heat())] * count, title="t")
    for count in (0, 21):
        with pytest.raises(InputError, match=f"but {count} came"):
            comparison(picture, [Row("a", 0.5, heat(), heat())] * count, title="t")


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_wrong_probability_is_refused(picture: np.ndarray, probability: float) -> None:
    with pytest.raises(InputError, match="the probability of 'cat'"):
        panel(picture, four_maps(), title="t", classes=[Class("cat", probability)])
    with pytest.raises(InputError, match="the probability of 'cat'"):
        comparison(picture, [Row("cat", probability, heat(), heat())], title="t")
