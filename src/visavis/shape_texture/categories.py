"""Which of a model's classes a category of cue conflicts is, and how much a model says for each category.

A category may comprise many classes: of ImageNet's 1000, 109 are dogs to Geirhos et al. (2019, arXiv 1811.12231). As
there, the probabilities are those of softmax over all classes, and a category has the mean of its own classes'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.datasets.common_names import GEIRHOS16
from visavis.datasets.mapping import class_map
from visavis.errors import InputError, ModelError

#: The classes of each category, by index or label.
Categories = Mapping[str, int | str | Sequence[int | str]]
#: The model's classes of each category, by index.
Indices = dict[str, tuple[int, ...]]

_WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda probabilities: probabilities.mean(1),
    "max": lambda probabilities: probabilities.amax(1),
    "sum": lambda probabilities: probabilities.sum(1),
}


def categories_of(
    classifier: nn.Module | Classifier, names: Sequence[str] | None = None, given: Categories | None = None
) -> Indices:
    """Return which of the model's classes each category comprises, in the order of the names.

    If all names are among the sixteen of Geirhos et al., their lists hold for ImageNet's classes, in whatever order and
    number a model has them; all else is found by name, as `visavis.datasets.mapping.class_map` does.

    Args:
        classifier: the model.
        names: of the categories; None: the sixteen, or those that are given.
        given: the classes of each category, by index or label; None: found as above. Other names than those asked for
            are categories, too.

    Raises:
        InputError: the model has no names, or no class for a category; or a class is in two categories.
    """
    model = classifier if isinstance(classifier, Classifier) else Classifier(classifier)
    if given is not None:
        found = {name: _indices(model, name, classes) for name, classes in given.items()}
        missing = [name for name in names or () if name not in found]
        if missing:
            raise InputError(f"the categories give no classes for {', '.join(missing)}; give those of each")
    else:
        wanted = tuple(GEIRHOS16) if names is None else tuple(names)
        if model.labels is None:
            raise InputError(f"{model.name} has no class names; give the classes of each category, categories={{...}}")
        found = class_map(wanted, model.labels, "geirhos16" if set(wanted) <= GEIRHOS16.keys() else "")
        missing = [name for name in wanted if not found[name]]
        if missing:
            raise InputError(
                f"{model.name} has no class for {', '.join(missing)}; give the classes of each category with "
                "categories={...}, or leave the pictures of these out"
            )
    return _apart(found, model)


def decided_among(classifier: Classifier, names: Sequence[str], given: Categories | None) -> Indices:
    """Return the categories that decisions are among: the names', or all sixteen where the names are some of them."""
    if given is None and set(names) <= GEIRHOS16.keys():
        try:
            return categories_of(classifier)
        except InputError:  # a model that has the names asked for need not have all sixteen
            pass
    return categories_of(classifier, names, given)


def category_scores(logits: Tensor, categories: Indices, *, aggregate: str = "mean") -> Tensor:
    """Return how much is said for each category, (B, C), float64 on the CPU, in [0, 1].

    Args:
        logits: (B, K).
        categories: C of them, with their classes.
        aggregate: what is taken of the probabilities of a category's classes: "mean", as in the paper; "max"; "sum",
            the probability that it is one of them.

    Raises:
        InputError: there is no such aggregate, or a category's class is not among the K.
        ModelError: the logits are not (B, K), or not finite.
    """
    if aggregate not in _WAYS:
        raise InputError(f"aggregate is {aggregate!r}, but {', '.join(_WAYS)} were expected")
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ModelError(f"the logits have the shape {tuple(logits.shape)}, but (B, K) of two classes were expected")
    if not bool(logits.isfinite().all()):
        raise ModelError("the logits hold NaN or infinity, so that nothing is decided; find out where they arise")
    beyond = [(name, max(one)) for name, one in categories.items() if max(one) >= logits.shape[1]]
    if beyond:
        name, index = beyond[0]
        raise InputError(f"category {name!r} names class {index}, but the model has 0 to {logits.shape[1] - 1}")
    probabilities = logits.detach().cpu().double().softmax(1)
    scores = probabilities.new_empty(len(logits), len(categories))
    for place, classes in enumerate(categories.values()):
        scores[:, place] = _WAYS[aggregate](probabilities[:, list(classes)])
    return scores


def _indices(model: Classifier, name: str, classes: int | str | Sequence[int | str]) -> tuple[int, ...]:
    several = [classes] if isinstance(classes, int | str | np.integer) else list(classes)
    if not several:
        raise InputError(f"category {name!r} has no classes; give one at least")
    return tuple(dict.fromkeys(model.index(one) for one in several))


def _apart(found: Indices, model: Classifier) -> Indices:
    """Return categories that share no class."""
    if len(found) < 2:
        raise InputError(f"a decision is among two categories or more, not among {', '.join(found) or 'none'}")
    owner: dict[int, str] = {}
    for name, classes in found.items():
        for index in classes:
            if index in owner:
                raise InputError(
                    f"class {model.label(index)!r} ({index}) is in the categories {owner[index]!r} and {name!r}; it "
                    "can be in one"
                )
            owner[index] = name
    return found


__all__ = ["Categories", "Indices", "categories_of", "category_scores", "decided_among"]
