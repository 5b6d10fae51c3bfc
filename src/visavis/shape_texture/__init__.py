"""Shape or texture: in how many dimensions, and where, a network encodes either.

After Islam, Kowal, Esser, Jia, Ommer, Derpanis, Bruce 2021 (Shape or Texture: Understanding Discriminative Features in
CNNs, arXiv 2101.11604).
"""

from visavis.shape_texture.dimensionality import (
    Dimensionality,
    Estimator,
    dimensionality,
    estimators,
    register_estimator,
)
from visavis.shape_texture.encoded import layer_dimensionality
from visavis.shape_texture.latents import Latents
from visavis.shape_texture.pairs import Pairs, ScenePairs

__all__ = [
    "Dimensionality",
    "Estimator",
    "Latents",
    "Pairs",
    "ScenePairs",
    "dimensionality",
    "estimators",
    "layer_dimensionality",
    "register_estimator",
]
