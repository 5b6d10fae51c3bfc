"""Shape bias: whether a classifier decides by shape or by texture where the two conflict.

After Geirhos et al. 2019 (arXiv 1811.12231), section 2 and figure 4. A picture has the shape of one category and the
texture of another. Of the decisions for either,

    shape bias = decisions for the shape / (decisions for the shape + decisions for the texture).

How many decisions there are for either is told beside it, for a bias of few says little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.evaluation.statistics import percentile_interval
from visavis.propagation.mode import answer_of
from visavis.shape_texture.categories import Categories, category_scores, decided_among
from visavis.shape_texture.conflicts import CueConflict, CueConflicts
from visavis.shape_texture.features import frozen
from visavis.shape_texture.images import Prepare
from visavis.shape_texture.options import Progress, check_seed

# Of each side of an interval of 95 %.
_TAIL = 0.025


@dataclass(frozen=True, eq=False)
class ShapeBias:
    """What was decided on pictures of conflicting cues.

    Attributes:
        bias: decisions for the shape, of those for either cue, 0 to 1; NaN where there are none.
        low, high: its 95 % interval, by bootstrap of the pictures, and exact where all decisions are for one cue; NaN
            without draws.
        names: the C categories that decisions are among.
        pictures: the names of the N pictures.
        shapes, textures, decisions: each picture's categories, and what was decided, numbers in `names`, (N,).
        left_out: how many pictures were left out, for their two categories are one.
        aggregate: how a category's classes were taken together.
        model: its name.
    """

    bias: float
    low: float
    high: float
    names: tuple[str, ...]
    pictures: tuple[str, ...]
    shapes: Tensor
    textures: Tensor
    decisions: Tensor
    left_out: int
    aggregate: str
    model: str

    def __str__(self) -> str:
        shape, texture, other = self.counts
        interval = "" if np.isnan(self.low) else f" (95 % {self.low:.3f} to {self.high:.3f})"
        return (
            f"shape bias {self.bias:.3f}{interval}: of {len(self.decisions)} decisions {shape} for the shape, "
            f"{texture} for the texture, {other} for neither"
        )

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many decisions are for the shape, for the texture, and for neither."""
        shape, texture = int((self.decisions == self.shapes).sum()), int((self.decisions == self.textures).sum())
        return shape, texture, len(self.decisions) - shape - texture

    @property
    def cue_accuracy(self) -> float:
        """The share of decisions for either cue, 0 to 1."""
        shape, texture, _ = self.counts
        return (shape + texture) / len(self.decisions)

    @property
    def by_category(self) -> Tensor:
        """The shape bias of the pictures of each shape, (C,), float64; NaN where no decision is for either cue."""
        shape = _counted(self.shapes[self.decisions == self.shapes], len(self.names))
        texture = _counted(self.shapes[self.decisions == self.textures], len(self.names))
        return shape / (shape + texture)

    def confusion(self, cue: str = "shape") -> Tensor:
        """Return how often each category was decided on pictures of each shape or texture, (C, C).

        Args:
            cue: whose category the rows are, "shape" or "texture".

        Raises:
            InputError: it is neither.
        """
        if cue not in ("shape", "texture"):
            raise InputError(f"cue is {cue!r}, but 'shape' or 'texture' was expected")
        of = self.shapes if cue == "shape" else self.textures
        found = torch.zeros(len(self.names), len(self.names), dtype=torch.int64)
        return found.index_put_((of, self.decisions), torch.ones_like(of), accumulate=True)


def shape_bias(
    model: nn.Module | Classifier,
    conflicts: CueConflicts,
    *,
    categories: Categories | None = None,
    prepare: Prepare | None = None,
    aggregate: str = "mean",
    batch_size: int = 32,
    draws: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> ShapeBias:
    """Measure by which cue a classifier decides.

    The decision is the category with the most: see `category_scores`; of equals the first. Where all categories of the
    pictures are among the sixteen of Geirhos et al., and the model knows them, the decision is among the sixteen, as
    in the paper. The bootstrap takes pictures to be independent of one another; where several share a shape or a
    texture image, its interval is too narrow.

    Args:
        model: with logits (B, K); run in eval mode whatever mode it is in, and left as it was.
        conflicts: the pictures.
        categories: the classes of each category, by index or label; None: as `categories_of` finds them.
        prepare: makes inputs of images (B, 3, H, W) in [0, 1]; None: the model's own preprocessing, if it is a
            `Classifier` that has one, else the images as they are.
        aggregate: "mean", "max" or "sum" over the probabilities of a category's classes.
        batch_size: pictures in a forward pass.
        draws: of the bootstrap; 0: no interval.
        seed: of the draws.
        progress: is told how many pictures are done, of how many, and of what.

    Raises:
        InputError: no picture's cues conflict; a category has no class; an option is not as described.
        ModelError: the model fails, or its logits are not (B, K) and finite.
    """
    if batch_size < 1 or draws < 0 or draws == 1:
        raise InputError(f"batch_size is from 1, draws 0 or at least 2, not {batch_size} and {draws}")
    check_seed(seed)
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    groups = decided_among(classifier, conflicts.names, categories)
    chosen = [index for index in range(len(conflicts)) if len(set(conflicts.cues(index))) == 2]
    if not chosen:
        raise InputError(f"of {len(conflicts)} pictures none has the shape of one category and the texture of another")
    names = tuple(groups)
    pictures: list[str] = []
    rows: list[tuple[int, int, int]] = []
    for start in range(0, len(chosen), batch_size):
        items = [conflicts[index] for index in chosen[start : start + batch_size]]
        _check_known(items, names)
        scores = category_scores(_logits(classifier, items, prepare), groups, aggregate=aggregate)
        for item, decision in zip(items, scores.numpy().argmax(1).tolist(), strict=True):
            rows.append((names.index(item.shape), names.index(item.texture), decision))
            pictures.append(item.name)
        if progress is not None:
            progress(len(rows), len(chosen), "cue conflicts")
    shapes, textures, decisions = torch.tensor(rows).unbind(1)
    counts = int((decisions == shapes).sum()), int((decisions == textures).sum())
    low, high = _interval(*counts, len(rows), draws, seed)
    return ShapeBias(
        counts[0] / sum(counts) if sum(counts) else float("nan"),
        low,
        high,
        names,
        tuple(pictures),
        shapes,
        textures,
        decisions,
        len(conflicts) - len(chosen),
        aggregate,
        classifier.name,
    )


def inputs_of(classifier: Classifier, items: Sequence[CueConflict], prepare: Prepare | None) -> Tensor:
    """Return what the model takes, (B, C, H, W), of pictures.

    Raises:
        InputError: a picture cannot be read; without preprocessing of the model's own, they differ in size; or
            `prepare` gave something else.
    """
    if prepare is None and classifier.preprocess is not None:
        # One at a time: a picture may be much larger than what the model takes of it.
        return classifier.prepare([one for item in items for one in classifier.prepare(item.image())])
    images = [item.pixels() for item in items]
    other = next((place for place, image in enumerate(images) if image.shape != images[0].shape), None)
    if other is not None:
        raise InputError(
            f"'{items[0].name}' and '{items[other].name}' differ in size, {tuple(images[0].shape[1:])} and "
            f"{tuple(images[other].shape[1:])}; use a Classifier with preprocessing, or batch_size=1"
        )
    stacked = torch.stack(images)
    if prepare is None:
        return stacked.to(classifier.device, classifier.dtype)
    made: object = prepare(stacked)
    if not isinstance(made, Tensor) or made.dim() < 2 or len(made) != len(items):
        what = f"a tensor {tuple(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise InputError(f"prepare gave {what} for {len(items)} pictures, but inputs (B, ...) were expected")
    return made


def _logits(classifier: Classifier, items: Sequence[CueConflict], prepare: Prepare | None) -> Tensor:
    inputs = inputs_of(classifier, items, prepare)
    with frozen(classifier.module, inputs.device):
        # A copy: a model may write to what it is given.
        return classifier.logits(answer_of(classifier.module, inputs.clone())).clone()


def _check_known(items: Sequence[CueConflict], names: Sequence[str]) -> None:
    for item in items:
        for name in (item.shape, item.texture):
            if name not in names:
                raise InputError(f"'{item.name}' is of {name!r}, which is none of {', '.join(names)}")


def _interval(shape: int, texture: int, count: int, draws: int, seed: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval. Pictures drawn anew have counts of a multinomial distribution.

    Where all n decisions are for one cue, so are all that are drawn from them; the end is then that of Clopper and
    Pearson 1934: the bias at which n decisions alike would have a probability of 2.5 %.
    """
    if not draws or not shape + texture:
        return float("nan"), float("nan")
    if not shape or not texture:
        end = _TAIL ** (1 / (shape + texture))
        return (end, 1.0) if shape else (0.0, 1 - end)
    shares = np.array([shape, texture, count - shape - texture]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, size=draws)
    either = drawn[:, 0] + drawn[:, 1]
    biases = drawn[either > 0, 0] / either[either > 0]
    if not len(biases):
        return float("nan"), float("nan")
    low, high = percentile_interval(biases)
    return float(low), float(high)


def _counted(numbers: Tensor, count: int) -> Tensor:
    return torch.bincount(numbers, minlength=count).double()


__all__ = ["ShapeBias", "inputs_of", "shape_bias"]
