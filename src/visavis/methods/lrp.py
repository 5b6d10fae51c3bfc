"""Layer-wise relevance propagation with any rule set, and Deep Taylor Decomposition, which is one of them."""

from __future__ import annotations

from torch import nn

from visavis.classifier import Bound, Classifier
from visavis.contrast import checked_seed
from visavis.methods.base import PropagationMethod, register_method
from visavis.outputs import Output
from visavis.propagation import Automatic, RuleSet, rule_set


@register_method
class LRP(PropagationMethod):
    """Layer-wise relevance propagation (Bach et al. 2015) of the target's score, by a rule set.

    The seed is |S_j|, so that a negative score does not turn the map inside out, or 1 (`seed="one"`).

    Args:
        module: any nn.Module, or a Classifier.
        rules: name of a rule set (`visavis.rule_sets()` lists them), or a RuleSet of your own; None: "attention" if the
            model attends or has layer norm, else that of Gu et al. 2018, "deep-taylor", so that LRP and CLRP differ by
            the contrast alone.
        bounds: lowest and highest value of a normalised pixel, for zᴮ; None: the Classifier's, else each image's own
            range.
        layer: path of a submodule whose units are explained instead of the classes.
        output: what is explained of what the model returns: a key, attribute or index, or a callable that takes it to a
            tensor (B, N, ...) or (B,); None: the logits.
        unit_dim: which dimension of the output holds the classes or units, where that cannot be told.
        seed: "score" or "one".
        execution: "auto", "eager", "graph" or "compiled"; see `PropagationMethod`.
    """

    name = "lrp"
    title = "LRP"
    conserving = True

    def __init__(
        self,
        module: nn.Module | Classifier,
        *,
        rules: str | RuleSet | Automatic | None = None,
        bounds: tuple[Bound, Bound] | None = None,
        layer: str | nn.Module | None = None,
        output: Output = None,
        unit_dim: int | None = None,
        seed: str = "score",
        execution: str = "auto",
    ) -> None:
        super().__init__(module, bounds=bounds, layer=layer, output=output, unit_dim=unit_dim, execution=execution)
        self.rules = rule_set(rules)
        self.seed = checked_seed(seed)

    @property
    def policy(self) -> RuleSet | Automatic:
        return self.rules


@register_method
class DeepTaylor(LRP):
    """Deep Taylor Decomposition (Montavon et al. 2017): zᴮ at the pixels, z⁺ elsewhere. ≥ 0, but for rounding."""

    name = "deep-taylor"
    title = "Deep Taylor"

    def __init__(
        self,
        module: nn.Module | Classifier,
        *,
        bounds: tuple[Bound, Bound] | None = None,
        layer: str | nn.Module | None = None,
        output: Output = None,
        unit_dim: int | None = None,
        seed: str = "score",
        execution: str = "auto",
    ) -> None:
        super().__init__(
            module,
            rules="deep-taylor",
            bounds=bounds,
            layer=layer,
            output=output,
            unit_dim=unit_dim,
            seed=seed,
            execution=execution,
        )
