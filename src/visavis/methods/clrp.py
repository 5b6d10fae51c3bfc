"""Contrastive layer-wise relevance propagation (Gu, Yang, Tresp 2018)."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from visavis.classifier import Bound, Classifier
from visavis.contrast import (
    FOILS,
    Position,
    ReadyFoil,
    Target,
    check_apart,
    checked_seed,
    dual_seed,
    foil_mask,
    is_foil_of_each,
    total_of,
)
from visavis.errors import InputError
from visavis.methods.base import PropagationMethod, register_method
from visavis.methods.chunks import Question, several
from visavis.outputs import Output
from visavis.propagation import Automatic, RuleSet, Run, rule_set
from visavis.propagation.mode import Inputs

# Bytes of a number in single precision.
_SINGLE = 4


@register_method
class CLRP(PropagationMethod):
    """The relevance for the target, less the relevance for what it is contrasted with: max(0, R − R_dual).

    Gu, Yang, Tresp 2018, sec. 3.2. Rules are linear in the relevance, so the difference is propagated once, as the
    map of a signed seed; only `normalize="sum"` needs two maps.

    Args:
        module: any nn.Module, or a Classifier.
        foil: "others" (CLRP1: all other classes alike), "negated" (CLRP2: the target with its last-layer weights
            negated), "logits" (the others by |score|), "softmax" (the others by probability), "strongest" (the ten
            strongest others, alike), "runner-up"; a class; several classes, alike, for every image; a tensor (B,) or B
            sequences, each image its own; a callable `outputs -> weights ≥ 0` of their shape. With a Classifier,
            labels too. None: the method's own, here "others".
        rules: name of a rule set, or a RuleSet; None: the method's own, here "attention" if the model attends or has
            layer norm, else the paper's, "deep-taylor".
        bounds: lowest and highest value of a normalised pixel, for zᴮ; None: the Classifier's, else each image's own
            range.
        layer: path of a submodule; targets and foils are then its units. "negated" negates their incoming weights.
        output: what is explained of what the model returns: a key, attribute or index, or a callable that takes it to a
            tensor (B, N, ...) or (B,); None: the logits.
        unit_dim: which dimension of the output holds the classes or units, where that cannot be told.
        signed: return R − R_dual, negative where the foil has more.
        normalize: "none", as in the paper; "sum": each map by its own sum first, as in the authors' released code.
        seed: "score": |S_j|, as in the paper; "one".
        execution: "auto", "eager", "graph" or "compiled"; see `PropagationMethod`.

    Attributes:
        own_foil, own_rules: those that the method has where none are given.
    """

    name = "clrp"
    title = "CLRP"
    contrastive = True
    conserving = True
    own_foil: ClassVar[str] = "others"
    own_rules: ClassVar[str] = "auto"

    def __init__(
        self,
        module: nn.Module | Classifier,
        *,
        foil: Any = None,
        rules: str | RuleSet | Automatic | None = None,
        bounds: tuple[Bound, Bound] | None = None,
        layer: str | nn.Module | None = None,
        output: Output = None,
        unit_dim: int | None = None,
        signed: bool = False,
        normalize: str = "none",
        seed: str = "score",
        execution: str = "auto",
    ) -> None:
        super().__init__(module, bounds=bounds, layer=layer, output=output, unit_dim=unit_dim, execution=execution)
        if normalize not in ("none", "sum"):
            raise InputError(f'normalize is "none" or "sum", not {normalize!r}')
        self.foil = self.foil_of(self.own_foil if foil is None else foil, tuple(FOILS))
        self.rules = rule_set(self.own_rules if rules is None else rules)
        self.signed = signed
        self.normalize = normalize
        self.seed = checked_seed(seed)

    @property
    def policy(self) -> RuleSet | Automatic:
        return self.rules

    def seed_of(self, outputs: Tensor, target: Target, position: Position | None = None) -> Tensor:
        check_apart(outputs, target, self.foil)
        return super().seed_of(outputs, target, position)

    def indices_of(self, outputs: Tensor, target: Target) -> Tensor:
        indices = super().indices_of(outputs, target)
        check_apart(outputs, indices, self.foil)
        return indices

    def attribute_foils(
        self,
        inputs: Inputs,
        foils: Any,
        target: Any = None,
        *,
        additional_forward_args: Any = None,
        position: Position | None = None,
    ) -> list[Inputs]:
        """Return the contrasts of a target with several foils, one after the other, from one forward pass.

        What does not depend on the foil is computed once: by arithmetic K maps of z⁺ cost 2 + K forward passes.
        They are computed as the model runs, whatever `execution` says.

        Args:
            inputs, target, additional_forward_args, position: as for `attribute`.
            foils: several, each as for the class.

        Returns:
            as many as there are foils, each in the shape of `inputs`.
        """
        inputs = self.checked(inputs)
        asked = [Question(self._against(foil), target) for foil in several(foils, "foils")]
        if not asked:
            return []
        return self.chunks.answered(asked, inputs, additional_forward_args, position)

    def _against(self, foil: Any) -> CLRP:
        other = copy.copy(self)
        other.foil = self.foil_of(foil, tuple(FOILS))
        return other

    def has_items(self, count: int) -> bool:
        return not callable(self.foil) and (not is_foil_of_each(self.foil) or len(self.foil) == count)

    def for_items(self, items: slice) -> CLRP:
        return self._against(self.foil[items]) if is_foil_of_each(self.foil) else self

    @property
    def asks_no_foil(self) -> bool:
        return isinstance(self.foil, str)

    def made_ready(self, outputs: Tensor) -> CLRP:
        if callable(self.foil) or isinstance(self.foil, str):
            return self
        ready = copy.copy(self)
        ready.foil = ReadyFoil(foil_mask(outputs, self.foil))
        return ready

    def map_of(self, run: Run, seed: Tensor, *, more: int = 0) -> Inputs:
        return self.contrast(run, seed, self.foil, more=more)

    def contrast(self, run: Run, seed: Tensor, foil: Any, *, more: int = 0) -> Inputs:
        """Return the contrast of a target's seed with a foil, in a run that `forward` gave.

        Args:
            run: the forward pass.
            seed: the target's, as `target_seed` makes it.
            foil: as for the class, labels already replaced.
            more: how many maps of this run will follow; True: some.
        """
        negated = isinstance(foil, str) and foil == "negated"
        dual = torch.zeros_like(seed) if negated else dual_seed(run.output, seed, foil)
        if self.normalize == "none":
            difference = run.relevance(seed - dual, weights="difference" if negated else "plain", more=more)
        else:
            own = run.relevance(seed, more=True)
            other = run.relevance(seed if negated else dual, weights="negated" if negated else "plain", more=more)
            difference = tree_map(_less, _by_sum(own), _by_sum(other), own)
        return difference if self.signed else tree_map(lambda one: one.clamp(min=0), difference)


@register_method
class CLRPGamma(CLRP):
    """CLRP by γ instead of z⁺, against the other classes by their probability.

    γ (1) hands a share of what speaks against an output on as negative relevance, where z⁺ leaves it out: less of it
    strays from the object, and what remains cancels less. The last layer keeps z⁺, for the contrast needs it there.
    `docs/findings.md` has what it is better at, and what else was tried. Takes what `CLRP` takes; its own foil is
    "softmax", its own rules are "gamma-box", or "attention" if the model attends or has layer norm.
    """

    name = "clrp-gamma"
    title = "CLRP-γ"
    own_foil: ClassVar[str] = "softmax"
    own_rules: ClassVar[str] = "sharp"


def _less(one: Tensor, other: Tensor, like: Tensor) -> Tensor:
    return (one - other).to(like.dtype)


def _by_sum(relevance: Inputs) -> Inputs:
    """Divide each image's map (of all inputs together) by its own sum; a map that sums to zero stays as it is.

    What is of less than single precision comes back in it: the two maps nearly cancel.
    """
    relevance = tree_map(lambda one: one.float() if one.element_size() < _SINGLE else one, relevance)
    total = total_of(relevance)
    total = torch.where(total == 0, 1, total)
    return tree_map(lambda one: one / total.view(-1, *(1,) * (one.dim() - 1)), relevance)
