"""Random weights and permuted labels: what is randomised, in which order, on whose copy, and what it shows of a map."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import visavis as vv
from visavis.evaluation import Case, Context, Summary, metric
from visavis.evaluation.explainers import MethodExplainer, baseline, baselines
from visavis.evaluation.sanity import (
    Randomization,
    RandomizedModel,
    insensitive,
    label_randomization,
    moved,
    randomization,
)

DOUBLE = torch.float64


class OutOfOrder(nn.Module):
    """Registers its head first, and calls it last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)
        self.unused = nn.Linear(2, 2)
        self.second = nn.Conv2d(5, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.first = nn.Conv2d(3, 5, 3, padding=1, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.first(inputs)))
        return self.head(torch.relu(self.second(features)).mean((2, 3)))


class Attending(nn.Module):
    """Reads weights without calling their module, and one weight in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.position = nn.Parameter(torch.randn(1, 64, 8))
        self.mix = nn.Linear(8, 8)
        self.again = nn.Linear(8, 8)
        self.again.weight = self.mix.weight

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.embed(inputs.flatten(2).transpose(1, 2)) + self.position
        tokens = self.mix(self.attention(tokens, tokens, tokens, need_weights=False)[0])
        return self.again(torch.relu(tokens)).mean(1)


class Again(nn.Module):
    """Calls a layer before and after another."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.Conv2d(3, 3, 1)
        self.middle = nn.Conv2d(3, 3, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.core(self.middle(self.core(inputs))).mean((2, 3))


def network(seed: int = 1, cls: type[nn.Module] = OutOfOrder) -> nn.Module:
    torch.manual_seed(seed)
    module = cls().double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                tensor.data.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return module


def pictures(count: int = 1) -> Tensor:
    return torch.randn(count, 3, 8, 8, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))


def changed(copied: nn.Module, module: nn.Module) -> set[str]:
    state = module.state_dict()
    return {key for key, value in copied.state_dict().items() if not torch.equal(value, state[key])}


# -- the model ---------------------------------------------------------------------------------------------------------


def test_layers_go_from_the_output_to_the_input_as_they_are_called() -> None:
    module = network()
    model = RandomizedModel(vv.Classifier(module), pictures())
    stages = [set(), {"head.weight", "head.bias"}, {"second.weight", "second.bias"}, {"first.weight"}]
    stages.append({"unused.weight", "unused.bias"})  # never called: as if where the whole begins
    assert model.shares == (0.25, 0.5, 0.75, 1)
    for stage in (0, 1, 2, 3, 4, 2, 4, 0):
        model.at(stage)
        assert changed(model.classifier.module, module) == set().union(*stages[: stage + 1])


def test_weights_that_are_read_without_a_call_or_shared() -> None:
    module = network(cls=Attending)
    model = RandomizedModel(vv.Classifier(module), pictures(), stages=100)
    gone = []
    for stage in range(1, len(model.shares) + 1):
        before = set().union(*gone)
        model.at(stage)
        gone.append(changed(model.classifier.module, module) - before)
    zeros = {"attention.out_proj.bias", "attention.in_proj_bias"}  # one value, so they stay
    assert [group - zeros for group in gone] == [
        {"again.weight", "again.bias", "mix.weight"},
        {"mix.bias"},
        {"attention.out_proj.weight"},
        {"attention.in_proj_weight"},
        {"embed.weight", "embed.bias"},
        {"position"},
    ]
    copied = model.classifier.module
    assert copied.again.weight is copied.mix.weight


def test_a_layer_that_is_called_twice_goes_with_its_last_call() -> None:
    module = network(cls=Again)
    model = RandomizedModel(vv.Classifier(module), pictures())
    model.at(1)
    assert changed(model.classifier.module, module) == {"core.weight", "core.bias"}


def test_weights_are_drawn_with_the_mean_and_deviation_of_each_tensor() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 300))
    module[1].weight.data.normal_(0.3, 2.0)
    module[1].bias.data.fill_(0.7)
    model = RandomizedModel(vv.Classifier(module), pictures().float())
    model.at(1)
    drawn = model.classifier.module[1]
    own = module[1].weight.detach()
    assert drawn.weight.mean().item() == pytest.approx(own.mean().item(), abs=4 * 2 / math.sqrt(own.numel()))
    assert drawn.weight.std().item() == pytest.approx(own.std().item(), rel=0.02)
    assert abs(np.corrcoef(drawn.weight.detach().flatten().numpy(), own.flatten().numpy())[0, 1]) < 0.02
    assert torch.equal(drawn.bias, module[1].bias)
    assert drawn.weight.dtype == torch.float32


@pytest.mark.parametrize(("stages", "sizes"), [(1, [4]), (2, [2, 2]), (3, [1, 1, 2]), (4, [1] * 4), (9, [1] * 4)])
def test_layers_are_grouped_into_stages(stages: int, sizes: list[int]) -> None:
    module = network()
    model = RandomizedModel(vv.Classifier(module), pictures(), stages=stages)
    assert model.shares == pytest.approx([(k + 1) / len(sizes) for k in range(len(sizes))])
    layers = []
    for stage in range(1, len(sizes) + 1):
        model.at(stage)
        layers.append(len({key.split(".")[0] for key in changed(model.classifier.module, module)}))
    assert np.diff([0, *layers]).tolist() == sizes


def test_the_seed_is_all_that_chance_depends_on() -> None:
    module, found = network(), []
    for seed in (0, 0, 1):
        torch.manual_seed(len(found))
        before = torch.get_rng_state()
        model = RandomizedModel(vv.Classifier(module), pictures(), seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        model.at(4)
        found.append(torch.cat([one.detach().flatten() for one in model.classifier.module.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_classifier_is_the_same_but_for_the_module() -> None:
    classifier = vv.Classifier(network(), labels=list("abcd"), bounds=(-9, 9), name="mine")
    found = RandomizedModel(classifier, pictures()).classifier
    assert found.module is not classifier.module
    assert not any(part._forward_pre_hooks for part in found.module.modules())
    assert (found.name, found.labels, found.bounds) == ("mine", classifier.labels, classifier.bounds)


def test_a_model_in_training_mode_keeps_its_statistics() -> None:
    module = network().train()
    model = RandomizedModel(vv.Classifier(module), pictures(4))
    assert changed(model.classifier.module, module) == set()
    assert model.classifier.module.training


def test_models_that_cannot_be_randomised() -> None:
    class Stubborn(nn.Module):
        """Cannot be copied."""

        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("a lock is held")

    for stages in (0, 101):
        with pytest.raises(vv.InputError, match=f"from 1 to 100, not {stages}"):
            RandomizedModel(vv.Classifier(network()), pictures(), stages=stages)
    with pytest.raises(vv.InputError, match="Flatten has no layer with weights"):
        RandomizedModel(vv.Classifier(nn.Flatten()), pictures())
    with pytest.raises(vv.ModelError, match=r"Stubborn cannot be copied \(a lock is held\)"):
        RandomizedModel(vv.Classifier(Stubborn()), pictures())


# -- the values --------------------------------------------------------------------------------------------------------


def linear(seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3, bias=False)).double()


def test_the_gradient_of_a_linear_model_by_hand() -> None:
    module, inputs, targets = linear(), pictures(2), torch.tensor([2, 0])
    classifier = vv.Classifier(module)
    explainer = MethodExplainer(vv.Gradient(classifier))
    model = RandomizedModel(classifier, inputs)
    heatmaps = explainer.heatmaps(inputs, targets)
    found = randomization(explainer.on(model.classifier), model, inputs, heatmaps, targets)
    own = module[1].weight.detach()
    noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(0)).double()
    random = own.mean() + own.std(correction=0) * noise
    for k, target in enumerate(targets):
        a, b = (abs(weight[target].view(3, 64).sum(0)).numpy() for weight in (own, random))
        assert found[k].tolist() == [pytest.approx(spearmanr(a, b).statistic, rel=1e-6)]
    # The copy has its own weights again.
    assert changed(model.classifier.module, module) == set()


@pytest.mark.parametrize("measure", ["rank", "cosine"])
def test_every_stage_is_that_of_a_model_with_those_weights(measure: str) -> None:
    module, inputs, targets = network(), pictures(2), torch.tensor([2, 0])
    classifier = vv.Classifier(module)
    explainer = MethodExplainer(vv.CLRP(classifier, signed=True))
    heatmaps = explainer.heatmaps(inputs, targets)
    model = RandomizedModel(classifier, inputs)
    found = randomization(explainer.on(model.classifier), model, inputs, heatmaps, targets, measure=measure)
    for stage in range(1, 5):
        model.at(stage)
        apart = copy.deepcopy(model.classifier.module)
        maps = vv.CLRP(apart, signed=True).attribute(inputs, targets).sum(1)
        for k in range(2):
            a, b = abs(heatmaps[k].numpy()).ravel(), abs(maps[k].numpy()).ravel()
            expected = spearmanr(a, b).statistic if measure == "rank" else a @ b / math.sqrt((a @ a) * (b @ b))
            assert found[k, stage - 1].item() == pytest.approx(expected, rel=1e-6)
    assert found[:, 0].max() < 0.999
    # The last stage is a layer that is never called.
    assert torch.equal(found[:, 2], found[:, 3])


def test_what_ignores_the_model_is_named() -> None:
    module, inputs = network(), pictures()
    classifier, case = vv.Classifier(module), Case("one", inputs, 1)
    found = {}
    for name in baselines():
        explainer = baseline(name)
        own = explainer.heatmaps(inputs, torch.tensor([1]))[0]
        found[name] = Randomization().values_of(case, own, Context(classifier, explainer))[""]
    gradient = MethodExplainer(vv.Gradient(classifier))
    own = gradient.heatmaps(inputs, torch.tensor([1]))[0]
    found["gradient"] = Randomization().values_of(case, own, Context(classifier, gradient))[""]
    assert found["gradient"] < 0.5
    assert {name: found[name] for name in baselines()} == pytest.approx(dict.fromkeys(baselines(), 1))
    assert insensitive(found) == ("centre", "random", "edges")


def test_insensitive_needs_the_whole_interval_above_the_threshold() -> None:
    found = {
        "sure": Summary(0.9, 0.6, 1.0, 20),
        "unsure": Summary(0.9, 0.4, 1.0, 20),
        "at": Summary(0.6, 0.5, 0.7, 20),
        "none": Summary(math.nan, math.nan, math.nan, 0),
        "value": 0.51,
    }
    assert insensitive(found) == ("sure", "value")
    assert insensitive(found, threshold=0.3) == ("sure", "unsure", "at", "value")
    assert insensitive(found, threshold=0.55) == ("sure",)


class Turning:
    """Draws the picture, and turns its sizes inside out where the model's weights are not what they were."""

    name = "turning"
    title = "Turning"

    def __init__(self, classifier: vv.Classifier, weight: Tensor) -> None:
        self.classifier, self.weight = classifier, weight

    def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        size = inputs.abs().sum(1)
        same = torch.equal(self.classifier.module[1].weight, self.weight)  # type: ignore[index]
        return size if same else size.amax() - size

    def on(self, classifier: vv.Classifier) -> Turning:
        return Turning(classifier, self.weight)


def test_a_map_that_is_turned_inside_out_is_not_independent() -> None:
    module, inputs = linear(), pictures()
    classifier = vv.Classifier(module)
    explainer = Turning(classifier, module[1].weight.detach().clone())
    own = explainer.heatmaps(inputs, torch.tensor([0]))
    found = Randomization().values_of(Case("one", inputs, 0), own[0], Context(classifier, explainer))
    assert found == {"": pytest.approx(1), "1.00": pytest.approx(-1)}
    made = Randomization()
    assert made.update(explainer, classifier, inputs, own, torch.tensor([0])).tolist() == [pytest.approx(1)]
    assert made.compute().mean == pytest.approx(1)


class Dead:
    """Draws the picture, and one value everywhere on chosen models: the trained one, or a copy with random weights."""

    name = title = "dead"

    def __init__(self, module: nn.Module, value: float, *, trained: bool) -> None:
        self.module, self.value, self.trained = module, value, trained
        self.weight = module[1].weight.detach().clone()  # type: ignore[index, union-attr]

    def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        maps = inputs.sum(1)
        if torch.equal(self.module[1].weight, self.weight) == self.trained:  # type: ignore[index]
            # One size, with either sign.
            maps = self.value * torch.where(maps > 0, 1.0, -1.0).to(maps)
        return maps

    def on(self, classifier: vv.Classifier) -> Dead:
        moved_there = copy.copy(self)
        moved_there.module = classifier.module
        return moved_there


@pytest.mark.parametrize("measure", ["rank", "cosine"])
@pytest.mark.parametrize("value", [0.0, 2.0])
@pytest.mark.parametrize(
    ("trained", "said"), [(True, "2 of 2 maps of the trained model"), (False, r"2 of 2 maps of random .*stage 1 of 1")]
)
def test_a_dead_map_does_not_pass(measure: str, value: float, trained: bool, said: str) -> None:
    module, inputs = linear(), pictures(2)
    classifier, explainer = vv.Classifier(module), Dead(module, value, trained=trained)
    targets, made = torch.tensor([0, 1]), Randomization(measure=measure)
    own = explainer.heatmaps(inputs, targets)
    with pytest.raises(vv.InputError, match=f"{said}.* are constant"):
        made.update(explainer, classifier, inputs, own, targets)
    assert made.compute().count == 0
    context = Context(classifier, explainer)
    with pytest.raises(vv.InputError, match=r"1 of 1 maps of .* are constant"):
        made.values_of(Case("one", inputs[:1], 0), own[0], context)
    # The copy has its own weights again, for the next case.
    ((model, _),) = context.kept.values()
    assert changed(model.classifier.module, module) == set()
    living = MethodExplainer(vv.Gradient(module))
    for pair, whose in (((explainer, living), "true"), ((living, explainer), "permuted")):
        if trained:
            with pytest.raises(vv.InputError, match=f"1 of 1 maps of the model of {whose} labels are constant"):
                label_randomization(*pair, [Case("one", inputs[:1], 0)], measure=measure)


def test_an_explainer_that_cannot_be_moved_is_refused() -> None:
    class Fixed:
        """Has no `on`."""

        name, title = "fixed", "Fixed"

        def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
            return inputs.sum(1)

    with pytest.raises(vv.InputError, match=r"'fixed' cannot be moved .* on\(classifier\)"):
        moved(Fixed(), vv.Classifier(network()))


# -- as a metric -------------------------------------------------------------------------------------------------------


def test_the_metric_is_the_function_on_the_case() -> None:
    module, inputs = network(), pictures()
    classifier = vv.Classifier(module)
    explainer = MethodExplainer(vv.Gradient(classifier))
    own = explainer.heatmaps(inputs, torch.tensor([1]))
    for stages, measure, seed in ((8, "rank", 0), (2, "rank", 0), (8, "cosine", 0), (8, "rank", 5)):
        model = RandomizedModel(classifier, inputs, stages=stages, seed=seed)
        expected = randomization(
            explainer.on(model.classifier), model, inputs, own, torch.tensor([1]), measure=measure
        )[0].tolist()
        made = metric("randomization")(stages=stages, measure=measure, seed=seed)
        found = made.values_of(Case("one", inputs, 1), own[0], Context(classifier, explainer, seed=99))
        keys = ["0.25", "0.50", "0.75", "1.00"] if stages == 8 else ["0.50", "1.00"]
        assert found == {"": abs(expected[-1]), **dict(zip(keys, expected, strict=True))}
        values = made.update(explainer, classifier, inputs, own, torch.tensor([1]))  # type: ignore[attr-defined]
        assert values.tolist() == [found[""]]
    assert (made.direction, made.low, made.high) == ("lower", 0, 1)


def test_the_copy_is_made_once_for_a_model_and_explainer() -> None:
    classifier = vv.Classifier(network())
    explainer = MethodExplainer(vv.Gradient(classifier))
    context, made = Context(classifier, explainer), Randomization()
    found = []
    for k in range(2):
        inputs = pictures(2)[k : k + 1]
        own = explainer.heatmaps(inputs, torch.tensor([k]))[0]
        alone = made.values_of(Case("one", inputs, k), own, Context(classifier, explainer))
        found.append(made.values_of(Case("one", inputs, k), own, context))
        assert found[-1] == alone
        assert len(context.kept) == 1
    Randomization(seed=1).values_of(Case("one", inputs, 2), own, context)
    Randomization(stages=2).values_of(Case("one", inputs, 2), own, context)
    assert len(context.kept) == 3


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_the_users_model_stays_as_it_is_also_after_an_error(dtype: torch.dtype) -> None:
    module = network().to(dtype)
    module.first.weight.requires_grad_(False)
    module.head.register_forward_hook(lambda part, arguments, output: None)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    places = {key: value.data_ptr() for key, value in module.state_dict().items()}
    classifier, inputs = vv.Classifier(module), pictures().to(dtype)
    explainer = MethodExplainer(vv.CLRP(classifier))
    own = explainer.heatmaps(inputs, torch.tensor([1]))[0]
    context, case = Context(classifier, explainer), Case("one", inputs, 1)

    def untouched() -> None:
        assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
        assert {key: value.data_ptr() for key, value in module.state_dict().items()} == places
        assert all(parameter.grad is None for parameter in module.parameters())
        assert not module.first.weight.requires_grad
        assert module.head.weight.requires_grad
        assert [len(part._forward_hooks) for part in module.modules()] == [0, 1, 0, 0, 0, 0]
        assert not any(part._forward_pre_hooks or part.training for part in module.modules())
        assert torch.equal(explainer.heatmaps(inputs, torch.tensor([1]))[0], own)

    first = Randomization().values_of(case, own, context)
    untouched()
    ((model, on_copy),) = context.kept.values()
    heatmaps = on_copy.heatmaps
    calls = []

    def failing(*arguments: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("midway")
        return heatmaps(*arguments)

    on_copy.heatmaps = failing
    with pytest.raises(RuntimeError, match="midway"):
        Randomization().values_of(case, own, context)
    untouched()
    assert changed(model.classifier.module, module) == set()
    del on_copy.heatmaps
    assert Randomization().values_of(case, own, context) == first


# -- permuted labels ---------------------------------------------------------------------------------------------------


def test_maps_of_true_and_of_permuted_labels() -> None:
    one, other = linear(3), linear(4)
    explainers = [MethodExplainer(vv.Gradient(module)) for module in (one, other)]
    inputs = pictures(3)
    cases = [Case(str(k), inputs[k : k + 1], k) for k in range(3)]
    found = label_randomization(*explainers, cases)
    for k in range(3):
        a, b = (abs(module[1].weight.detach()[k].view(3, 64).sum(0)).numpy() for module in (one, other))
        assert found[k].item() == pytest.approx(spearmanr(a, b).statistic)
    assert found.dtype == DOUBLE
    assert label_randomization(explainers[0], explainers[0], iter(cases)).tolist() == [pytest.approx(1)] * 3
    edges = baseline("edges")
    assert label_randomization(edges, edges, cases).tolist() == [pytest.approx(1)] * 3
    assert not torch.allclose(label_randomization(*explainers, cases, measure="cosine"), found)
    assert label_randomization(*explainers, []).shape == (0,)
