"""Which pixels speak for the shape's class vis-à-vis the texture's, and which the other way round.

By contrastive relevance (Gu, Yang, Tresp 2018, section 3.2): from the relevance for a target that for a foil is taken
away, and what remains above 0 is the map. Of a category of several classes the target is the one with the highest
logit; the foil are all classes of the other category alike, each with an equal part of the target's seed. So both maps
are those of `vv.CLRP(model, foil=[classes of the other category])` for that target, from one forward pass.

Where both categories are one class each, the two seeds are opposite, |S_A| (e_A − e_B) and |S_B| (e_B − e_A), and so
are the relevances: no value of the input then speaks for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from visavis.classifier import Classifier, Source
from visavis.errors import InputError, ModelError, SameClassError
from visavis.explanation import Answer, conserved_share
from visavis.methods import CLRP
from visavis.methods import method as method_class
from visavis.propagation import Automatic, RuleSet, Run
from visavis.shape_texture.categories import Categories, Indices, category_scores, decided_among
from visavis.shape_texture.conflicts import CueConflict
from visavis.shape_texture.cue_conflict import inputs_of
from visavis.shape_texture.images import Prepare


@dataclass(frozen=True, eq=False)
class CueMap:
    """What speaks for the category of one cue, vis-à-vis that of the other.

    Attributes:
        category: its name.
        probability: that the picture is of one of its classes, 0 to 1.
        target: its strongest class, which is explained.
        foil: the classes of the other category.
        relevance: (H, W), on the CPU, ≥ 0, channels summed.
        conserved: share of the target's relevance, before the foil's is taken away, that reached the input.
    """

    category: str
    probability: float
    target: Answer
    foil: tuple[int, ...]
    relevance: Tensor
    conserved: float


@dataclass(frozen=True, eq=False)
class ConflictMaps:
    """A picture of conflicting cues, with both maps.

    Attributes:
        picture: (3, H, W) in [0, 1], on the CPU: what the network saw.
        shape: what speaks for the shape's category rather than for the texture's.
        texture: what speaks for the texture's category rather than for the shape's.
        decision: the category that was decided.
        name: of the picture; "" where it has none.
        model, method, rules: how the maps were made.
    """

    picture: Tensor
    shape: CueMap
    texture: CueMap
    decision: str
    name: str
    model: str
    method: str
    rules: str

    @property
    def cue(self) -> str:
        """What the decision is for: "shape", "texture" or "neither"."""
        if self.decision == self.shape.category:
            return "shape"
        return "texture" if self.decision == self.texture.category else "neither"

    def __repr__(self) -> str:
        return (
            f"ConflictMaps({self.shape.category} of {self.texture.category}, says {self.decision}, {self.model}, "
            f"{self.method}, rules {self.rules}, maps {tuple(self.shape.relevance.shape)})"
        )


def explain_conflict(
    model: nn.Module | Classifier,
    image: CueConflict | Source,
    *,
    shape: str | None = None,
    texture: str | None = None,
    categories: Categories | None = None,
    prepare: Prepare | None = None,
    aggregate: str = "mean",
    method: str = "clrp",
    rules: str | RuleSet | Automatic | None = None,
) -> ConflictMaps:
    """Return which pixels speak for the shape's category rather than the texture's, and the other way round.

    Args:
        model: with logits (B, K), in eval mode; it is left as it was.
        image: of `CueConflicts`; or one picture, or a normalised tensor (C, H, W), as for `visavis.explain`.
        shape, texture: the categories; None: the image's own.
        categories: the classes of each category, by index or label; None: as `categories_of` finds them.
        prepare, aggregate: as for `shape_bias`; `prepare` for images of `CueConflicts` alone.
        method: "clrp", or another that contrasts as it does, such as "clrp-gamma".
        rules: rule set; None: the method's own.

    Raises:
        InputError: the categories are one, unknown, or without a class; the method has no contrast; several pictures.
        ModelError: the model fails, or cannot be explained.
    """
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    own = image if isinstance(image, CueConflict) else None
    shape, texture = _named(own, shape, texture)
    groups = decided_among(classifier, (shape, texture), categories)
    explainer = _explainer(classifier, method, rules)
    if own is not None:
        inputs = inputs_of(classifier, [own], prepare)
    elif prepare is not None:
        raise InputError("prepare is for images of CueConflicts; wrap the picture as CueConflict(...), or leave it out")
    else:
        inputs = classifier.prepare(image)  # type: ignore[arg-type]
    if len(inputs) != 1:
        raise InputError(f"explain_conflict takes one picture, and these are {len(inputs)}; call it for each")
    with explainer.forward(inputs) as run:
        logits = classifier.logits(run.returned).detach()
        scores = category_scores(logits, groups, aggregate=aggregate)[0]
        probabilities = logits.cpu().double().softmax(1)[0]
        first = _map(explainer, run, classifier, groups, (shape, texture), probabilities, more=True)
        second = _map(explainer, run, classifier, groups, (texture, shape), probabilities, more=False)
    return ConflictMaps(
        classifier.picture(inputs)[0].float().cpu(),
        first,
        second,
        tuple(groups)[int(scores.numpy().argmax())],
        "" if own is None else own.name,
        classifier.name,
        explainer.title,
        run.rules,
    )


@dataclass(frozen=True)
class EdgeShare:
    """Where the relevance of a map lies, as shares of its sum.

    Attributes:
        edge: within a band around the outline of the object.
        inside: in the object, but for the band.
        outside: on the ground, but for the band.
        area: the share of the picture's pixels that the band has: what a map that knows nothing has there.
    """

    edge: float
    inside: float
    outside: float
    area: float


def edge_share(relevance: Tensor | ArrayLike, mask: Tensor | ArrayLike, width: float) -> EdgeShare:
    """Return how much of a map lies at an object's outline: on pixels whose centres are within `width` of the edge.

    The distance of a pixel is that to the nearest pixel on the other side of the outline, from centre to centre, less
    half a pixel; so a band of width 1 has one pixel on each side of a straight edge. The border of the picture is no
    outline. A map without relevance has NaN for its shares.

    Args:
        relevance: (H, W), ≥ 0, finite.
        mask: (H, W), bool: where the object is.
        width: of the band on either side, in pixels, above 0.

    Raises:
        InputError: these are not as described, or the mask has no outline.
    """
    heat, given = np.asarray(_array(relevance), dtype=np.float64), _array(mask)
    if heat.ndim != 2 or given.shape != heat.shape or given.dtype != np.bool_:
        raise InputError(
            f"the map is {heat.shape} and the mask {given.shape} of {given.dtype}; expected (H, W), the mask bool"
        )
    inside = given.astype(bool)
    if not np.isfinite(heat).all() or bool((heat < 0).any()):
        raise InputError("the map holds values below 0 or not finite; shares are of relevance that is ≥ 0: clamp it")
    if not 0 < width < np.inf:
        raise InputError(f"width is {width}, but a number of pixels above 0 was expected")
    if inside.all() or not inside.any():
        raise InputError("the mask is true everywhere or nowhere, so the object has no outline")
    away = np.asarray(distance_transform_edt(inside)) + np.asarray(distance_transform_edt(~inside)) - 0.5
    band: NDArray[np.bool_] = away <= width
    total = heat.sum()
    edge, within, without = (
        float(heat[where].sum() / total) if total else float("nan")
        for where in (band, inside & ~band, ~(inside | band))
    )
    return EdgeShare(edge, within, without, float(band.mean()))


def _named(own: CueConflict | None, shape: str | None, texture: str | None) -> tuple[str, str]:
    found = (shape or (own.shape if own else None), texture or (own.texture if own else None))
    if found[0] is None or found[1] is None:
        raise InputError("name the categories of the picture: shape='airplane', texture='bicycle'")
    if found[0] == found[1]:
        raise SameClassError(f"shape and texture are both {found[0]!r}; a contrast needs two categories")
    return found[0], found[1]


def _explainer(classifier: Classifier, name: str, rules: str | RuleSet | Automatic | None) -> CLRP:
    cls = method_class(name)
    if not issubclass(cls, CLRP):
        raise InputError(f"{cls.title} has no contrast of two categories; choose the method 'clrp' or 'clrp-gamma'")
    return cls(classifier, rules=rules)


def _map(
    explainer: CLRP,
    run: Run,
    classifier: Classifier,
    groups: Indices,
    of: tuple[str, str],
    probabilities: Tensor,
    *,
    more: bool,
) -> CueMap:
    category, other = of
    classes, foil = list(groups[category]), groups[other]
    # The strongest by its logit: of probabilities several may be 0.
    target = classes[int(run.output[0, classes].argmax())]
    seed = explainer.seed_of(run.output, target)
    conserved = conserved_share(run.relevance(seed, more=True), seed)
    relevance = _finite(explainer.contrast(run, seed, list(foil), more=more))
    return CueMap(
        category,
        float(probabilities[classes].sum().clamp(max=1)),
        Answer(target, classifier.label(target), float(probabilities[target])),
        foil,
        relevance,
        float(conserved[0]),
    )


def _finite(relevance: Tensor | Sequence[Tensor]) -> Tensor:
    if not isinstance(relevance, Tensor) or not bool(relevance.isfinite().all()):
        raise ModelError("the relevance is not finite: the model's activations or weights overflow, or are NaN")
    return relevance[0].sum(0).detach().cpu()


def _array(values: Tensor | ArrayLike) -> NDArray[np.generic]:
    return np.asarray(values.detach().cpu().numpy() if isinstance(values, Tensor) else values)


__all__ = ["ConflictMaps", "CueMap", "EdgeShare", "edge_share", "explain_conflict"]
