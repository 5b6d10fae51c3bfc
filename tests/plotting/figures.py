"""Maps to draw, and what a figure shows of them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from visavis.plotting import Map

SIZE = (24, 40)


def heat(seed: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).random(size)


def four_maps() -> list[Map]:
    return [
        Map("LRP: cat", "what cat rests on", heat(1), "target", "LRP"),
        Map("LRP: cup", "what cup rests on", 0.5 * heat(2), "foil", "LRP"),
        Map("CLRP: cat, not cup", "for cat rather than cup", 0.01 * heat(3), "target", "CLRP"),
        Map("CLRP: cup, not cat", "for cup rather than cat", 0.02 * heat(4), "foil", "CLRP"),
    ]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def everything(figure: Figure) -> str:
    return " ".join(texts(figure))


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]
