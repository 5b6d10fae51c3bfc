"""Sanity checks: does a map depend on what the model has learned?

Adebayo et al. 2018 (Sanity Checks for Saliency Maps): a map that looks the same when the model's weights are replaced
by noise, or when the model was trained on permuted labels, does not explain what the model knows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.evaluation.base import Case, Context, Explainer, Metric, register_metric
from visavis.evaluation.stability import likeness
from visavis.evaluation.statistics import Summary
from visavis.propagation.mode import answer_of
from visavis.propagation.untouched import run_untouched

#: Above this likeness at full randomisation, a method counts as insensitive. A convention, not a law.
THRESHOLD = 0.5
_MOST_STAGES = 100


# -- a model with other weights ----------------------------------------------------------------------------------------


class RandomizedModel:
    """A copy of a model in which the weighted layers are randomised stage by stage, from the output to the input.

    A weighted layer is a module with a parameter of two or more dimensions of its own: convolutions, dense layers,
    attention, embeddings. All its parameters are drawn anew from a normal distribution with the tensor's own mean and
    standard deviation, so that activations keep their scale; a parameter of one value stays. Normalisation layers,
    affine parameters and statistics both, are left. Layers come in the order in which the model calls them. The copy
    takes twice the memory of the weights: stages are switched, not drawn again.

    Args:
        classifier: the model; it is copied, never changed.
        inputs: (B, C, H, W), any the model takes: one forward pass of the copy tells the order of its layers.
        stages: into how many stages the layers are grouped, at most 100; fewer where there are fewer layers.
        seed: of the weights.

    Attributes:
        classifier: the copy, with the weights of the stage that `at` chose last.
        shares: the share of the stages randomised at stages 1, 2, …: rising to 1.

    Raises:
        InputError: the stages are not from 1 to 100, the seed is not from 0 to 2⁶⁴ − 1, or the model has no weighted
            layer.
        ModelError: the model cannot be copied.
    """

    def __init__(self, classifier: Classifier, inputs: Tensor, *, stages: int = 8, seed: int = 0) -> None:
        _check_stages(stages, seed)
        self.classifier = copy.copy(classifier)
        self.classifier.module = module = _copied(classifier.module)
        layers = _from_the_output(module, inputs)
        count = min(stages, len(layers))
        self.shares = tuple((stage + 1) / count for stage in range(count))
        generator = torch.Generator().manual_seed(seed)
        #: For each stage: its parameters, each with its own values and its random ones.
        self._stages = [
            [
                (parameter, parameter.data, _drawn(parameter.data, generator))
                for layer in layers[stage * len(layers) // count : (stage + 1) * len(layers) // count]
                for parameter in layer
            ]
            for stage in range(count)
        ]

    def at(self, stage: int) -> None:
        """Give the copy random weights in its first `stage` stages from the output, 0 for none, its own in the rest."""
        for index, parameters in enumerate(self._stages):
            for parameter, own, random in parameters:
                parameter.data = random if index < stage else own


def _check_stages(stages: int, seed: int) -> None:
    if not 1 <= stages <= _MOST_STAGES:
        raise InputError(f"the stages are a whole number from 1 to {_MOST_STAGES}, not {stages}")
    if not 0 <= seed < 2**64:
        raise InputError(f"the seed of random weights is a whole number from 0 to 2⁶⁴ − 1, not {seed}")


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError, NotImplementedError, AttributeError) as error:
        raise ModelError(
            f"{type(module).__name__} cannot be copied ({error}), so its weights cannot be randomised; "
            "make copy.deepcopy(module) work"
        ) from error


def _drawn(values: Tensor, generator: torch.Generator) -> Tensor:
    random = torch.randn(values.shape, generator=generator).to(values)
    if bool((values == values.flatten()[:1]).all()):
        return values.clone()
    return random.mul_(values.std(correction=0)).add_(values.mean())


def _from_the_output(module: nn.Module, inputs: Tensor) -> list[list[nn.Parameter]]:
    """Return the parameters of each weighted layer, those called last first; a shared one where it comes first."""
    last = _last_calls(module, inputs)
    layers: list[tuple[int, int, list[nn.Parameter]]] = []
    for index, (path, part) in enumerate(module.named_modules()):
        own = [one for one in part._parameters.values() if one is not None and one.is_floating_point()]
        if any(one.dim() > 1 for one in own):
            layers.append((_when(path, last), index, own))
    if not layers:
        raise InputError(f"{type(module).__name__} has no layer with weights to randomise")
    # Of layers that no call tells apart, the one registered last comes first.
    ordered = [own for _, _, own in sorted(layers, key=lambda layer: layer[:2], reverse=True)]
    seen: set[int] = set()
    found = []
    for own in ordered:
        fresh = [one for one in own if id(one) not in seen]
        seen.update(map(id, fresh))
        if fresh:
            found.append(fresh)
    return found


def _last_calls(module: nn.Module, inputs: Tensor) -> dict[str, int]:
    """Return at which call each module began, the last time, by path."""
    last: dict[str, int] = {}
    calls = 0

    def watch(path: str) -> Any:
        def hook(part: nn.Module, arguments: Any) -> None:
            nonlocal calls
            last[path], calls = calls, calls + 1

        return hook

    handles = [part.register_forward_pre_hook(watch(path)) for path, part in module.named_modules()]
    try:
        with torch.no_grad(), run_untouched(module, inputs.device):
            answer_of(module, inputs.clone())
    finally:
        for handle in handles:
            handle.remove()
    return last


def _when(path: str, last: dict[str, int]) -> int:
    """Return when a module was called; one whose weights are read without a call, when what it is part of was."""
    while path not in last:
        path = path.rpartition(".")[0]
    return last[path]


# -- randomised weights ------------------------------------------------------------------------------------------------


def randomization(
    explainer: Explainer,
    model: RandomizedModel,
    inputs: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    measure: str = "rank",
) -> Tensor:
    """Return how alike the sizes |value| of maps are before and after each stage of randomisation, (B, stages).

    Adebayo et al. 2018, model parameter randomization test, cascading; the rank correlation of sizes is one of the
    measures there. Values far below 0 are no better than values far above: a contrast of two classes may keep the
    picture's pattern and turn it inside out, as random weights happen to have it. Independent maps are near 0.

    Args:
        explainer: on the model's copy, `model.classifier`.
        model: the copy.
        inputs: (B, C, H, W).
        heatmaps: (B, H, W), signed, of the model as it was trained.
        targets: class indices (B,).
        measure: of LIKENESS in `stability`.

    Raises:
        InputError: a map has one size everywhere, before or after: it depends on nothing, so that it would pass.
    """
    alike = likeness(measure)
    own, found = _sizes(heatmaps, "the trained model"), []
    try:
        for stage in range(1, len(model.shares) + 1):
            model.at(stage)
            maps = _sizes(explainer.heatmaps(inputs, targets), f"random weights (stage {stage} of {len(model.shares)})")
            found.append(alike(own, maps.to(own)).double().cpu())
    finally:
        model.at(0)
    return torch.stack(found, 1)


def _sizes(heatmaps: Tensor, whose: str) -> Tensor:
    """Return |value| of maps (B, H, W), and refuse a map in which it is the same everywhere."""
    sizes = heatmaps.abs()
    flat = int((sizes.amax((1, 2)) == sizes.amin((1, 2))).sum())
    if flat:
        raise InputError(
            f"{flat} of {len(sizes)} maps of {whose} are constant, which says nothing of what maps depend on; "
            "leave such cases out"
        )
    return sizes


def moved(explainer: Explainer, classifier: Classifier) -> Explainer:
    """Return an explainer on another model, by its method `on(classifier)`.

    Raises:
        InputError: it has none.
    """
    on = getattr(explainer, "on", None)
    if on is None:
        raise InputError(
            f"the explainer {explainer.name!r} cannot be moved to a model with other weights; give it a method "
            "on(classifier) that returns the same explainer on that model"
        )
    found: Explainer = on(classifier)
    return found


@register_metric
class Randomization(Metric):
    """How far from independent a map is of the same method's map with random weights: |likeness of their sizes|.

    In [0, 1], lower is better: near 1 the map shows the picture, not the model. A constant map has no value. Other than
    in the paper the value has no sign, for a map that random weights turn inside out is no more independent than one
    that they leave, and the mean of both would be 0. With its sign, the likeness is under "0.12" to "1.00", the shares
    of the stages that are random, from the output on. The random weights are the same for all cases and explainers.

    Args:
        stages: as for `RandomizedModel`.
        measure: of LIKENESS in `stability`.
        seed: of the weights.

    Raises:
        InputError: an argument is not as described.
    """

    name: ClassVar[str] = "randomization"
    title: ClassVar[str] = "|likeness| to the map of random weights"
    source: ClassVar[str] = "Adebayo et al. 2018 (Sanity Checks for Saliency Maps), model parameter randomization"
    direction: ClassVar[str] = "lower"
    axes: ClassVar[tuple[str, str]] = (
        "share of the layers with random weights",
        "likeness to the map of the trained model",
    )

    def __init__(self, *, stages: int = 8, measure: str = "rank", seed: int = 0) -> None:
        super().__init__()
        _check_stages(stages, seed)
        likeness(measure)
        self.stages, self.measure, self.seed = stages, measure, seed

    def update(
        self, explainer: Explainer, classifier: Classifier, inputs: Tensor, heatmaps: Tensor, targets: Tensor
    ) -> Tensor:
        """Keep and return |likeness| at full randomisation (B,) of maps (B, H, W), signed.

        Args:
            explainer: made the maps; has a method on(classifier).
            classifier: the model, which is copied.
            inputs: (B, C, H, W).
            heatmaps: (B, H, W).
            targets: class indices (B,).

        Raises:
            InputError: a map is constant, as for `randomization`.
        """
        model = RandomizedModel(classifier, inputs[:1], stages=self.stages, seed=self.seed)
        on_copy = moved(explainer, model.classifier)
        return self.add(randomization(on_copy, model, inputs, heatmaps, targets, measure=self.measure)[:, -1].abs())

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> dict[str, float]:
        """Return |likeness| at full randomisation under "", and the likeness at each stage under its share.

        Raises:
            InputError: a map is constant, as for `randomization`.
        """
        key = (self.name, self.stages, self.seed)
        if key not in context.kept:
            model = RandomizedModel(context.classifier, case.inputs, stages=self.stages, seed=self.seed)
            context.kept[key] = model, moved(context.explainer, model.classifier)
        model, explainer = context.kept[key]
        targets = torch.tensor([case.target], device=case.inputs.device)
        found = randomization(explainer, model, case.inputs, heatmap[None], targets, measure=self.measure)[0].tolist()
        return {"": abs(found[-1]), **{f"{share:.2f}": value for share, value in zip(model.shares, found, strict=True)}}


def insensitive(likenesses: Mapping[str, Summary | float], threshold: float = THRESHOLD) -> tuple[str, ...]:
    """Return the names of the methods whose maps stay alike although the model's weights are random.

    Args:
        likenesses: by name, the value of `Randomization`: a mean with its interval, or one value.
        threshold: above which maps count as alike; an interval has to lie above it as a whole.
    """
    return tuple(
        name for name, value in likenesses.items() if (value.low if isinstance(value, Summary) else value) > threshold
    )


# -- permuted labels ---------------------------------------------------------------------------------------------------


def label_randomization(
    explainer: Explainer, permuted: Explainer, cases: Iterable[Case], *, measure: str = "rank"
) -> Tensor:
    """Return how alike the sizes |value| of the maps of two models are, (N,): trained on true, and on permuted labels.

    Adebayo et al. 2018, data randomization test: a map of what a model knows of the classes differs; lower is better.

    Args:
        explainer: on the model that was trained on the true labels.
        permuted: the same method on a model that was trained, as well, on permuted labels.
        cases: whose pictures and targets are explained, one at a time.
        measure: of LIKENESS in `stability`.

    Raises:
        InputError: a map is constant, as for `randomization`.
    """
    alike = likeness(measure)
    found = []
    for case in cases:
        target = torch.tensor([case.target], device=case.inputs.device)
        own = _sizes(explainer.heatmaps(case.inputs, target), "the model of true labels")
        other = _sizes(permuted.heatmaps(case.inputs, target), "the model of permuted labels")
        found.append(alike(own, other.to(own)).double().cpu())
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


__all__ = [
    "THRESHOLD",
    "Randomization",
    "RandomizedModel",
    "insensitive",
    "label_randomization",
    "moved",
    "randomization",
]
