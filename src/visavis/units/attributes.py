"""Attributes of units: what is said to tell, without ablating it, how important a unit is.

Each is a pure function of what units do on images, and a name in a registry. `related` says how well one tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from visavis.errors import InputError
from visavis.units.activations import Activations
from visavis.units.intervals import Estimate, correlation, pearson, spearman
from visavis.units.moments import Moments


@dataclass(frozen=True)
class Attribute:
    """One attribute.

    Attributes:
        name: in the registry.
        title: what tables call it.
        source: where it comes from.
        low, high: its bounds.
        of: computes it, one value a unit, (U,), float64.
    """

    name: str
    title: str
    source: str
    low: float
    high: float
    of: Callable[[Activations], Tensor]


_ATTRIBUTES: dict[str, Attribute] = {}


def register_attribute(
    name: str, title: str, source: str, low: float, high: float
) -> Callable[[Callable[[Activations], Tensor]], Callable[[Activations], Tensor]]:
    """Enter a function of `Activations` in the registry.

    Raises:
        InputError: there is an attribute of that name.
    """

    def entered(of: Callable[[Activations], Tensor]) -> Callable[[Activations], Tensor]:
        if name in _ATTRIBUTES:
            raise InputError(f"there is an attribute {name!r} already")
        _ATTRIBUTES[name] = Attribute(name, title, source, low, high, of)
        return of

    return entered


def attributes() -> tuple[Attribute, ...]:
    """Return all attributes, in the order of their registration."""
    return tuple(_ATTRIBUTES.values())


def attribute(name: str) -> Attribute:
    """Return the attribute of a name.

    Raises:
        InputError: there is none.
    """
    if name not in _ATTRIBUTES:
        near = get_close_matches(name, list(_ATTRIBUTES), n=1)
        raise InputError(f"there is no attribute {name!r}; there are {', '.join(near or _ATTRIBUTES)}")
    return _ATTRIBUTES[name]


# -- pure functions --------------------------------------------------------------------------------------------------


def class_selectivity(mean: Tensor, labels: Tensor) -> Tensor:
    """Return (μ_max − μ_rest) / (μ_max + μ_rest) of each unit, (U,), 0 to 1; higher is more selective.

    Morcos et al. 2018 (On the Importance of Single Directions for Generalization): μ_max is the largest of
    the class-conditional means, μ_rest the mean of those of all other classes. A unit that is zero everywhere is
    selective for nothing: 0. There, the denominator has a small number added; here not.

    Args:
        mean: (N, U) activations averaged over positions, at least 0.
        labels: (N,); classes without images do not count.

    Raises:
        InputError: an activation is negative, for then the ratio means nothing; or there are fewer than two classes.
    """
    _check_images(mean, labels)
    if bool((mean < 0).any()):
        raise InputError("class selectivity is of activations of at least 0; take a layer after the ReLU")
    present, place = torch.unique(labels, return_inverse=True)
    sums = torch.zeros(len(present), mean.shape[1], dtype=torch.float64).index_add_(0, place, mean.double())
    return selectivity_of((sums / torch.bincount(place)[:, None]).T)


def selectivity_of(means: Tensor) -> Tensor:
    """Return the class selectivity of each unit, (U,), by its means over the images of each class, (U, K).

    Raises:
        InputError: there are fewer than two classes.
    """
    if means.shape[1] < 2:
        raise InputError("class selectivity compares classes, so it takes images of at least two")
    most = means.amax(1)
    rest = (means.sum(1) - most) / (means.shape[1] - 1)
    both = most + rest
    return (most - rest) / torch.where(both > 0, both, 1)


def class_correlation(mean: Tensor, probabilities: Tensor) -> Tensor:
    """Return Pearson's correlation of each unit's activation with each class's probability, (U, K), −1 to 1.

    Zhou et al. 2018 (arXiv 1806.02891). NaN where either is constant.

    Args:
        mean: (N, U) activations averaged over positions.
        probabilities: (N, K), predicted by the model.

    Raises:
        InputError: they are not of the same images.
    """
    return Moments.of(mean, probabilities).correlation


def hoyer(l1: Tensor, l2: Tensor, count: int | Tensor) -> Tensor:
    """Return Hoyer's sparsity (√n − |a|₁/|a|₂) / (√n − 1) of vectors, 0 (all alike) to 1 (one value that is not zero).

    Hoyer 2004 (Non-negative Matrix Factorization with Sparseness Constraints). NaN for vectors of zeros,
    and of one value.

    Args:
        l1, l2: Σ|a| and Σa², in one shape.
        count: n.
    """
    root = torch.as_tensor(count, dtype=torch.float64).sqrt()
    return (root - l1.double() / l2.double().sqrt()) / (root - 1).where(root > 1, torch.nan)


# -- the registry ----------------------------------------------------------------------------------------------------


@register_attribute("selectivity", "class selectivity", "Morcos et al. 2018; of coordinates, their positive part", 0, 1)
def _selectivity(given: Activations) -> Tensor:
    if not given.rotated and bool((given.class_sums < 0).any()):
        raise InputError("class selectivity is of activations of at least 0; take a layer after the ReLU")
    present = given.counts > 0
    return selectivity_of((given.class_positive / given.counts)[:, present])


@register_attribute("weight-norm", "L1 norm of the weights", "Li et al. 2017", 0, float("inf"))
def _weight_norm(given: Activations) -> Tensor:
    if given.weights is None:
        raise InputError(
            "the layer's units have no weights of their own, as those of a sum; name the layer that makes them"
        )
    return given.weights


@register_attribute("correlation", "class correlation, the largest", "Zhou et al. 2018", -1, 1)
def _correlation(given: Activations) -> Tensor:
    found = given.moments.correlation
    most = torch.nan_to_num(found, nan=-torch.inf).amax(1)
    return most.where(most.isfinite(), torch.nan)


@register_attribute("alignment", "concept alignment, the best IoU", "Bau et al. 2017 (Network Dissection)", 0, 1)
def _alignment(given: Activations) -> Tensor:
    if given.alignment is None:
        raise InputError("concept alignment needs masks of concepts; give activations(..., masks=...)")
    most = torch.nan_to_num(given.alignment, nan=-torch.inf).amax(1)
    return most.where(most.isfinite(), torch.nan)


@register_attribute(
    "maximum", "maximal activation", "the largest over all images and positions", -float("inf"), float("inf")
)
def _maximum(given: Activations) -> Tensor:
    return given.maximum


@register_attribute("zeros", "share of zeros", "the share of images' positions at which it is exactly zero", 0, 1)
def _zeros(given: Activations) -> Tensor:
    return given.zeros.double() / given.positions


@register_attribute("hoyer", "sparsity (Hoyer)", "Hoyer 2004, over all images and positions", 0, 1)
def _hoyer(given: Activations) -> Tensor:
    return hoyer(given.l1, given.l2, given.positions)


# -- what they tell --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Related:
    """How an attribute goes with importance over the units of a layer.

    Attributes:
        pearson, spearman: −1 to 1, with 95 % intervals by drawing units.
    """

    pearson: Estimate
    spearman: Estimate


def related(attribute: Tensor, importance: Tensor, *, draws: int = 2_000, seed: int = 0) -> Related:
    """Return how an attribute goes with importance, such as `Ablation.drops` or `Ablation.max_drops`.

    Zhou et al. 2018 (arXiv 1806.02891), which correlates them; which coefficient it takes could not be
    verified. Units of which either is NaN are left out. NaN where either is constant.

    Args:
        attribute, importance: (U,).
        draws: how many samples of units are drawn, with replacement.
        seed: of the draws.

    Raises:
        InputError: they differ in shape, are infinite, or there are no draws.
    """
    found = [correlation(attribute, importance, kind, draws=draws, seed=seed) for kind in (pearson, spearman)]
    return Related(*found)


def _check_images(mean: Tensor, others: Tensor) -> None:
    if mean.dim() != 2 or others.dim() != 1 or len(mean) != len(others):
        raise InputError(
            f"activations are (N, U), one row for each of N images, not {tuple(mean.shape)} for {len(others)} images"
        )


__all__ = [
    "Attribute",
    "Related",
    "attribute",
    "attributes",
    "class_correlation",
    "class_selectivity",
    "hoyer",
    "register_attribute",
    "related",
    "selectivity_of",
]
