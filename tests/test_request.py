"""explain() gives what the methods give, put together for one decision; compared with separate computations."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import visavis as vv
from oracles import layerwise

NAMES = ["cat", "dog", "cup", "zebra", "house"]
WORDNET = ["n01", "n02", "n03", "n04", "n05"]
LAYER = "2"
OTHER_METHODS = [name for name in vv.methods() if not vv.method(name).contrastive]
QUICK = {"integrated-gradients": {"steps": 3}, "smoothgrad": {"samples": 2}, "clrp-scales": {"scales": (1,)}}
ENGINE_METHODS = ["gradient", "input-x-gradient", "deconvnet", "guided-backprop", "lrp", "deep-taylor"]


def network(channels=3, classes=5, dtype=torch.float64):
    """A network of the kinds of layers that there are rules for; always the same one."""
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, classes),
    )
    return module.eval().to(dtype)


def to_tensor(picture):
    values = np.asarray(picture.resize((10, 12)), dtype=np.float64) / 255
    return torch.from_numpy(values).permute(2, 0, 1)


@pytest.fixture(scope="module")
def classifier():
    labels = vv.Labels(NAMES, synonyms=[["kitty"], [], ["mug"], [], []], wordnet_ids=WORDNET)
    return vv.Classifier(network(), preprocess=to_tensor, labels=labels, bounds=(0.0, 1.0), name="toy")


@pytest.fixture
def inputs():
    return torch.rand(3, 3, 12, 10, dtype=torch.float64)


def of_clrp(classifier, inputs, target, **options):
    return vv.CLRP(classifier, **options).attribute(inputs, target)


def of_lrp(classifier, inputs, target, **options):
    return vv.LRP(classifier, rules="deep-taylor", **options).attribute(inputs, target)


def refusal(*arguments, **options):
    """The one sentence with which a request is refused."""
    with pytest.raises(vv.InputError) as caught:
        vv.explain(*arguments, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# ------------------------------------------------------------------------------------------------- the contrast


def _id(foil: object) -> str:
    return getattr(foil, "__name__", None) or str(foil)


FOILS = ["others", "negated", "logits", "runner-up", 3, "zebra", "n04", [3, 4], ["zebra", "house"], torch.ones_like]


@pytest.mark.parametrize("foil", FOILS, ids=_id)
def test_relevance_is_that_of_clrp(classifier, inputs, foil):
    why = vv.explain(classifier, inputs, 1, foil)
    assert_close(why.relevance, of_clrp(classifier, inputs, 1, foil=foil))
    assert why.relevance.abs().sum() > 0
    assert why.relevance.dtype == torch.float64


def test_foils_make_different_maps(classifier, inputs):
    maps = [vv.explain(classifier, inputs, 1, foil).relevance for foil in ("others", "negated", "logits", 3, [3, 4])]
    for i, one in enumerate(maps):
        for other in maps[:i]:
            assert (one - other).abs().max() > 1e-6


def test_relevance_is_that_of_the_layerwise_oracle(classifier, inputs):
    target = torch.tensor([1, 1, 1])
    module = classifier.module
    own = layerwise.target_relevance(module, inputs, target, 0.0, 1.0)
    others = layerwise.others_relevance(module, inputs, target, 0.0, 1.0)
    negated = layerwise.negated_relevance(module, inputs, target, 0.0, 1.0)
    why = vv.explain(classifier, inputs, "dog")
    assert_close(why.relevance, (own - others).clamp(min=0), rtol=1e-7, atol=1e-10)
    assert_close(why.maps["plain target"], own.sum(1), rtol=1e-7, atol=1e-10)
    why = vv.explain(classifier, inputs, "dog", "negated")
    assert_close(why.relevance, (own - negated).clamp(min=0), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("named", ["cup", "CUP", "mug", "2", "n03", 2, torch.tensor(2), np.int64(2)], ids=repr)
def test_a_class_by_any_of_its_names(classifier, inputs, named):
    why = vv.explain(classifier, inputs, named, "dog")
    assert_close(why.relevance, of_clrp(classifier, inputs, 2, foil=1))
    assert [answer.index for answer in why.targets] == [2, 2, 2]
    assert [answer.name for answer in why.targets] == ["cup"] * 3
    why = vv.explain(classifier, inputs, "dog", named)
    assert_close(why.relevance, of_clrp(classifier, inputs, 1, foil=2))


@pytest.mark.parametrize("foil", ["others", "negated", "logits", "runner-up", 3, [3, 4], torch.ones_like], ids=_id)
def test_maps_are_those_of_separate_computations(classifier, inputs, foil):
    why = vv.explain(classifier, inputs, 1, foil)
    probabilities = classifier.module(inputs).softmax(1)
    among = [3, 4] if foil == [3, 4] else [3] if foil == 3 else [0, 2, 3, 4]
    others = torch.tensor([max(among, key=row.__getitem__) for row in probabilities.tolist()])
    assert [answer.index for answer in why.counterparts] == others.tolist()
    assert_close(why.maps["plain target"], of_lrp(classifier, inputs, 1).sum(1))
    assert_close(why.maps["plain counterpart"], of_lrp(classifier, inputs, others).sum(1))
    back = foil if callable(foil) or foil in ("others", "negated", "logits") else 1
    assert_close(why.maps["contrast counterpart"], of_clrp(classifier, inputs, others, foil=back).sum(1))
    assert set(why.maps) == {"plain target", "plain counterpart", "contrast counterpart"}


def test_conserved_is_the_plain_map_over_the_seed(classifier, inputs):
    logits = classifier.module(inputs)
    for foil in ("others", "logits", 3):
        why = vv.explain(classifier, inputs, 1, foil, rules="epsilon")
        plain = vv.LRP(classifier, rules="epsilon").attribute(inputs, 1)
        assert_close(why.conserved, plain.sum((1, 2, 3)) / logits[:, 1].detach().abs())
        assert ((why.conserved - 1).abs() > 0.01).all()  # biases absorb, or the test would see nothing
    why = vv.explain(classifier, inputs, 1, seed="one", rules="epsilon")
    plain = vv.LRP(classifier, rules="epsilon", seed="one").attribute(inputs, 1)
    assert_close(why.conserved, plain.sum((1, 2, 3)))


def test_without_biases_all_is_conserved(inputs):
    module = network()
    for part in module:
        if hasattr(part, "bias"):
            nn.init.zeros_(part.bias)
    why = vv.explain(module, inputs, 1)
    assert_close(why.conserved, torch.ones(3, dtype=torch.float64))


def test_without_a_target_the_strongest_is_explained(classifier, inputs):
    inputs = torch.cat([inputs, torch.zeros_like(inputs[:1]), torch.rand(4, 3, 12, 10).double() ** 8])
    best = classifier.module(inputs).argmax(1)
    why = vv.explain(classifier, inputs)
    assert [answer.index for answer in why.targets] == best.tolist()
    assert_close(why.relevance, of_clrp(classifier, inputs, best))


def test_each_picture_its_own_target(classifier, inputs):
    for targets in (["cup", 0, "n05"], (2, 0, 4), torch.tensor([2, 0, 4])):
        why = vv.explain(classifier, inputs, targets, "dog")
        assert [answer.name for answer in why.targets] == ["cup", "cat", "house"]
        for i, target in enumerate((2, 0, 4)):
            alone = vv.explain(classifier, inputs[i : i + 1], target, "dog")
            assert_close(why.relevance[i : i + 1], alone.relevance)
            assert_close(why.conserved[i : i + 1], alone.conserved)
            for name, maps in alone.maps.items():
                assert_close(why.maps[name][i : i + 1], maps)


@pytest.mark.parametrize("foils", [[["dog"], ["zebra"], ["cat", "dog"]], torch.tensor([1, 3, 1])], ids=["lists", "one"])
def test_each_picture_its_own_foil(classifier, inputs, foils):
    why = vv.explain(classifier, inputs, "cup", foils)
    words = [", ".join(one) for one in foils] if isinstance(foils, list) else ["dog", "zebra", "dog"]
    assert list(why.foils) == words
    for i, foil in enumerate([[1], [3], [0, 1]] if isinstance(foils, list) else [1, 3, 1]):
        alone = vv.explain(classifier, inputs[i : i + 1], "cup", foil)
        assert_close(why.relevance[i : i + 1], alone.relevance)
        assert_close(why.maps["contrast counterpart"][i : i + 1], alone.maps["contrast counterpart"])


# --------------------------------------------------------------------------------------------- the other methods


@pytest.mark.parametrize("name", OTHER_METHODS)
def test_relevance_is_that_of_the_method(classifier, inputs, name):
    why = vv.explain(classifier, inputs, ["cup", "cat", "house"], "dog", method=name, **QUICK.get(name, {}))
    method = vv.method(name)(classifier, **QUICK.get(name, {}))
    assert_close(why.relevance, method.attribute(inputs, torch.tensor([2, 0, 4])))
    assert_close(why.maps["plain counterpart"], method.attribute(inputs, 1).sum(1))
    assert [answer.name for answer in why.counterparts] == ["dog"] * 3
    assert why.relevance.abs().sum() > 0
    assert why.settings["method"] == name


@pytest.mark.parametrize("name", OTHER_METHODS)
def test_only_lrp_says_what_was_conserved(classifier, inputs, name):
    why = vv.explain(classifier, inputs, 1, method=name, **QUICK.get(name, {}))
    if name in ("lrp", "deep-taylor"):
        assert_close(why.conserved, why.relevance.sum((1, 2, 3)) / classifier.module(inputs)[:, 1].abs())
    else:
        assert why.conserved is None


def test_the_gradient_is_autograds(classifier, inputs):
    x = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier.module(x)[:, 2].sum(), x)
    assert_close(vv.explain(classifier, inputs, "cup", method="gradient").relevance, gradient)


@pytest.mark.parametrize("rules", ["zero", "epsilon", "epsilon-plus", "gamma", "alpha2-beta1"])
def test_rules_reach_the_method(classifier, inputs, rules):
    for name in ("clrp", "lrp"):
        why = vv.explain(classifier, inputs, 1, method=name, rules=rules)
        method = vv.method(name)(classifier, rules=rules)
        assert_close(why.relevance, method.attribute(inputs, 1))
        assert why.settings["rules"] == rules
    assert (why.relevance - of_lrp(classifier, inputs, 1)).abs().max() > 1e-6


# ------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("option", [{"signed": True}, {"normalize": "sum"}, {"seed": "one"}, {"bounds": (-1.0, 2.0)}])
def test_options_reach_the_method(classifier, inputs, option):
    why = vv.explain(classifier, inputs, 1, 3, **option)
    assert_close(why.relevance, of_clrp(classifier, inputs, 1, foil=3, **option))
    assert (why.relevance - of_clrp(classifier, inputs, 1, foil=3)).abs().max() > 1e-6
    for name, value in option.items():
        assert name == "bounds" or why.settings[name] == value


def test_signed_shows_what_speaks_for_the_foil(classifier, inputs):
    signed = vv.explain(classifier, inputs, 1, 3, signed=True).relevance
    assert signed.min() < 0 < signed.max()
    assert_close(signed.clamp(min=0), vv.explain(classifier, inputs, 1, 3).relevance)


def test_two_classes_mirror_each_other(classifier, inputs):
    """What speaks for one and against the other is the same either way, where the seeds are equal."""
    why = vv.explain(classifier, inputs, 1, 3, signed=True, seed="one")
    assert_close(why.maps["contrast counterpart"], -why.heatmap())
    why = vv.explain(classifier, inputs, 1, 3, signed=True)
    assert (why.maps["contrast counterpart"] + why.heatmap()).abs().max() > 1e-6


def test_options_of_peers_reach_them(classifier, inputs):
    few = vv.explain(classifier, inputs, 1, method="integrated-gradients", steps=2)
    assert_close(few.relevance, vv.IntegratedGradients(classifier, steps=2).attribute(inputs, 1))
    assert (few.relevance - vv.IntegratedGradients(classifier, steps=3).attribute(inputs, 1)).abs().max() > 1e-9
    assert few.settings["steps"] == 2
    noisy = vv.explain(classifier, inputs, 1, method="smoothgrad", samples=3, noise=0.3)
    assert_close(noisy.relevance, vv.SmoothGrad(classifier, samples=3, noise=0.3).attribute(inputs, 1))


def test_unknown_options_are_named(classifier, inputs):
    assert "'sigend'" in refusal(classifier, inputs, sigend=True)
    assert "'steps'" in refusal(classifier, inputs, steps=3)
    assert "'signed'" in refusal(classifier, inputs, method="gradient", signed=True)
    assert "'rules'" in refusal(classifier, inputs, method="gradient", rules="epsilon")
    assert "'layer'" in refusal(classifier, inputs, method="smoothgrad", layer=LAYER)


def test_the_nearest_name_is_given(classifier, inputs):
    assert "'clrp'" in refusal(classifier, inputs, method="clpr")
    assert "'epsilon-plus'" in refusal(classifier, inputs, rules="epsilonplus")
    assert "zebra (3)" in refusal(classifier, inputs, "zebr")
    assert "zebra (3)" in refusal(classifier, inputs, "dog", "zebr")


def test_a_bad_value_of_a_known_option_is_no_unknown_option(classifier, inputs):
    assert "at least 1" in refusal(classifier, inputs, method="integrated-gradients", steps=0)
    assert "noise" in refusal(classifier, inputs, method="smoothgrad", noise=-1.0)
    # Here the annotations speak first; whoever speaks, must not say that there is no such option.
    for name, option in (
        ("clrp", {"seed": "two"}),
        ("clrp", {"normalize": "max"}),
        ("integrated-gradients", {"steps": "many"}),
    ):
        with pytest.raises((vv.InputError, TypeError)) as caught:
            vv.explain(classifier, inputs, method=name, **option)
        assert "takes no option" not in str(caught.value)


@pytest.mark.parametrize("foil", ["negated", "logits"])
def test_foils_are_refused_where_there_is_no_contrast(classifier, inputs, foil):
    assert f"takes no foil, so '{foil}'" in refusal(classifier, inputs, foil=foil, method="lrp")


def test_top_is_how_many_classes_are_reported(classifier, inputs):
    probabilities = classifier.module(inputs).softmax(1)
    for count in (1, 3, 99):
        why = vv.explain(classifier, inputs, 1, top=count)
        values, indices = probabilities.topk(min(count, 5), 1)
        assert [[answer.index for answer in row] for row in why.top] == indices.tolist()
        assert [[answer.name for answer in row] for row in why.top] == [[NAMES[i] for i in row] for row in indices]
        assert_close(torch.tensor([[answer.probability for answer in row] for row in why.top]).double(), values)
    assert [answer.probability for answer in why.targets] == pytest.approx(probabilities[:, 1].tolist())
    assert "at least 1" in refusal(classifier, inputs, top=0)


# ----------------------------------------------------------------------------------------------- inside the model


def of_layer(inputs):
    return network()[:3](inputs)


def test_a_layers_strongest_unit(classifier, inputs):
    why = vv.explain(classifier, inputs, layer=LAYER)
    strength = of_layer(inputs).sum((2, 3))
    best = strength.argmax(1)
    assert [answer.index for answer in why.targets] == best.tolist()
    assert [answer.name for answer in why.targets] == [f"unit {index}" for index in best]
    assert [answer.probability for answer in why.targets] == pytest.approx(strength.amax(1).tolist())
    assert_close(why.relevance, of_clrp(classifier, inputs, best, layer=LAYER))
    assert why.counterparts == (None, None, None)
    assert why.foils == ("all other units",) * 3
    assert strength.amax(1)[0] > 0
    assert why.question() == f"Why does unit {int(best[0])} of {LAYER} fire?"


@pytest.mark.parametrize("foil", ["others", "negated", "runner-up", 1, [1, 4]], ids=str)
@pytest.mark.parametrize("position", [None, (2, 7)])
def test_a_named_unit(classifier, inputs, foil, position):
    why = vv.explain(classifier, inputs, layer=LAYER, unit=3, foil=foil, position=position)
    clrp = vv.CLRP(classifier, layer=LAYER, foil=foil)
    assert_close(why.relevance, clrp.attribute(inputs, 3, position=position))
    lrp = vv.LRP(classifier, rules="deep-taylor", layer=LAYER)
    plain = lrp.attribute(inputs, 3, position=position)
    assert_close(why.maps["plain target"], plain.sum(1))
    seed = of_layer(inputs)[:, 3].abs()
    seed = seed.sum((1, 2)) if position is None else seed[:, 2, 7]
    assert_close(why.conserved, plain.sum((1, 2, 3)) / seed)
    named = {"1": "unit 1", "[1, 4]": "unit 1, unit 4", "runner-up": "the runner-up"}.get(str(foil))
    rather = "" if named is None else f", and not {named}"
    values = of_layer(inputs)[:, 3]
    activations = values.sum((1, 2)) if position is None else values[:, 2, 7]
    assert [answer.probability for answer in why.targets] == pytest.approx(activations.tolist())
    where = "" if position is None else " at position (2, 7)"
    assert [one.question() for one in why] == [
        f"Why does unit 3 of {LAYER} fire{where}{rather}?"
        if activation > 0
        else f"Why is unit 3 of {LAYER} at −{abs(activation):.3g}{where}{rather}?"
        for activation in activations.tolist()
    ]
    if isinstance(foil, int):
        assert_close(why.maps["plain counterpart"], lrp.attribute(inputs, 1, position=position).sum(1))
        back = vv.CLRP(classifier, layer=LAYER, foil=3).attribute(inputs, 1, position=position)
        assert_close(why.maps["contrast counterpart"], back.sum(1))
        assert why.foils == ("unit 1",) * 3


def test_a_position_sees_only_its_field(classifier, inputs):
    relevance = vv.explain(classifier, inputs, layer=LAYER, unit=3, position=[5, 4]).relevance
    outside = torch.ones(12, 10, dtype=torch.bool)
    outside[3:8, 2:7] = False  # two 3 × 3 convolutions see 5 × 5 pixels
    assert relevance[..., outside].abs().max() == 0
    assert relevance.abs().sum() > 0


@pytest.mark.parametrize("name", ENGINE_METHODS)
def test_units_by_other_methods(classifier, inputs, name):
    why = vv.explain(classifier, inputs, layer=LAYER, unit=3, method=name, position=(2, 7))
    method = vv.method(name)(classifier, layer=LAYER)
    assert_close(why.relevance, method.attribute(inputs, 3, position=(2, 7)))
    assert why.targets[0].name == "unit 3"


def test_to_grad_cam_a_layer_is_where_the_maps_are(classifier, inputs):
    why = vv.explain(classifier, inputs, "cup", method="grad-cam", layer="0")
    assert_close(why.relevance, vv.GradCAM(classifier, layer="0").attribute(inputs, 2))
    assert (why.relevance - vv.GradCAM(classifier).attribute(inputs, 2)).abs().max() > 1e-6
    assert why.question() == "Why cup?"
    assert "unit" in refusal(classifier, inputs, method="grad-cam", layer="0", unit=3)


def test_what_belongs_to_a_layer_only(classifier, inputs):
    assert "layer=" in refusal(classifier, inputs, unit=3)
    assert "layer=" in refusal(classifier, inputs, position=(1, 1))
    assert "unit=" in refusal(classifier, inputs, "cat", layer=LAYER)
    assert "'nowhere'" in refusal(classifier, inputs, layer="nowhere")
    assert "(12, 10)" in refusal(classifier, inputs, layer=LAYER, position=(12, 0))
    assert "(12, 10)" in refusal(classifier, inputs, layer=LAYER, position=(1,))
    assert "0 to 5" in refusal(classifier, inputs, layer=LAYER, unit=6)


def test_a_foil_that_names_no_unit_is_refused(classifier, inputs):
    """A class is no unit; to ignore it would answer another question than the one that was asked."""
    for name in ("clrp", "lrp"):
        assert "dog" in refusal(classifier, inputs, layer=LAYER, unit=3, foil="dog", method=name)


# ------------------------------------------------------------------------------------------------ pictures, models


@pytest.fixture
def picture():
    values = np.random.default_rng(3).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    return PIL.Image.fromarray(values)


def test_sources_of_one_picture_agree(classifier, picture, tmp_path):
    picture.save(tmp_path / "a.png")
    expected = vv.explain(classifier, to_tensor(picture)[None], "cup")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), picture, np.asarray(picture), to_tensor(picture)):
        why = vv.explain(classifier, source, "cup")
        assert_close(why.relevance, expected.relevance)
        assert_close(why.picture, to_tensor(picture)[None].float())
        assert len(why) == 1


def test_several_pictures(classifier, picture, tmp_path):
    picture.save(tmp_path / "a.png")
    turned = picture.transpose(PIL.Image.Transpose.ROTATE_180)
    why = vv.explain(classifier, [tmp_path / "a.png", turned], ["cup", "dog"])
    assert_close(why[0].relevance, vv.explain(classifier, picture, "cup").relevance)
    assert_close(why[1].relevance, vv.explain(classifier, turned, "dog").relevance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_untrained_network_without_labels_or_bounds(dtype):
    module = network(channels=1, classes=10, dtype=dtype)
    inputs = torch.randn(2, 1, 32, 32, dtype=dtype)
    why = vv.explain(module, inputs, 7, 2)
    assert_close(why.relevance, vv.CLRP(module, foil=2).attribute(inputs, 7))
    assert why.relevance.dtype == dtype
    assert why.relevance.shape == inputs.shape
    assert [answer.name for answer in why.targets] == ["class 7"] * 2
    assert why[1].question() == "Why class 7, and not class 2?"
    low, high = inputs.amin((1, 2, 3), keepdim=True), inputs.amax((1, 2, 3), keepdim=True)
    assert_close(why.picture, ((inputs - low) / (high - low)).expand(2, 3, 32, 32).float())
    assert why.settings["model"] == "Sequential"
    assert why.settings["dtype"] == str(dtype)


def test_a_network_with_one_output(inputs):
    module = network(classes=1)
    why = vv.explain(module, inputs, foil="negated")
    assert_close(why.relevance, vv.CLRP(module, foil="negated").attribute(inputs, 0))
    assert why.counterparts == (None, None, None)
    assert "negated" in refusal(module, inputs)


def test_outputs_with_positions(inputs):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1)).double()
    why = vv.explain(module, inputs, 1)
    assert_close(why.relevance, vv.CLRP(module).attribute(inputs, 1))
    assert_close(
        torch.tensor([answer.probability for answer in why.targets]).double(),
        module(inputs).mean((2, 3)).softmax(1)[:, 1],
    )


def test_a_position_of_a_segmentation(inputs):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1)).double()
    scores = module(inputs)[:, :, 4, 6]
    why = vv.explain(module, inputs, 1, position=(4, 6))
    assert_close(why.relevance, vv.CLRP(module).attribute(inputs, 1, position=(4, 6)))
    assert [one.question() for one in why] == ["Why class 1 at position (4, 6)?"] * 3
    assert [answer.probability for answer in why.targets] == pytest.approx(scores.softmax(1)[:, 1].tolist())
    others = scores.index_fill(1, torch.tensor([1]), -torch.inf).argmax(1)
    assert [answer.index for answer in why.counterparts] == others.tolist()
    mask = torch.zeros(10, 8, dtype=torch.bool)
    mask[4, 6] = mask[2, 3] = True
    why = vv.explain(module, inputs, 1, 2, position=mask)
    assert why.question() == "Why class 1 where the mask is true, and not class 2?"
    mean = module(inputs)[:, :, mask].mean(2).softmax(1)
    assert [answer.probability for answer in why.targets] == pytest.approx(mean[:, 1].tolist())


@pytest.mark.parametrize("position", [3, torch.tensor(3), (3,)], ids=repr)
def test_a_position_among_tokens(position):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)).double().eval()
    tokens = torch.rand(2, 4, 6, dtype=torch.float64)
    why = vv.explain(module, list(tokens), layer="0", unit=2, position=position, foil=1)
    assert_close(why.relevance, vv.CLRP(module, layer="0", foil=1).attribute(tokens, 2, position=(3,)))
    activations = module[0](tokens)[:, 3, 2].tolist()
    assert [answer.probability for answer in why.targets] == pytest.approx(activations)
    assert why.settings["position"] == [3]
    assert why.question().endswith(" at position 3, and not unit 1?")


def test_a_single_logit_has_a_sigmoid(inputs):
    module = network(classes=1)
    why = vv.explain(module, inputs, foil="negated")
    expected = (1 / (1 + (-module(inputs)[:, 0]).exp())).tolist()
    assert [answer.probability for answer in why.targets] == pytest.approx(expected)
    assert [row[0].probability for row in why.top] == pytest.approx(expected)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.table = nn.Linear(6, 4), nn.Linear(3, 4)

    def forward(self, image, table):
        return self.image(image) + self.table(table)


def test_models_of_several_inputs_are_shown_the_way():
    a, b = torch.rand(2, 6), torch.rand(2, 3)
    for source in ((a, b), a, (a, a)):
        said = refusal(Two(), source)
        assert "takes 2 inputs (image, table)" in said
        assert "vv.CLRP(module).attribute((image, table), target=...)" in said
    first, second = vv.CLRP(Two()).attribute((a, b), target=1)
    assert (first.shape, second.shape) == (a.shape, b.shape)
    said = refusal(nn.Flatten(), (a, torch.rand(3, 3)))
    assert "vv.CLRP(module).attribute((a, b), target=...)" in said


def test_classes_are_the_strongest_and_those_asked_for(classifier, inputs):
    ranked = classifier.module(inputs)[0].argsort(descending=True).tolist()
    why = vv.explain(classifier, inputs[:1], ranked[4], ranked[2], top=2)
    assert [answer.index for answer in why.classes()] == [ranked[0], ranked[1], ranked[4], ranked[2]]
    why = vv.explain(classifier, inputs[:1], ranked[0], ranked[4], top=3)
    assert [answer.index for answer in why.classes()] == [*ranked[:3], ranked[4]]
    why = vv.explain(classifier, inputs[:1], layer=LAYER, unit=3, foil=1, top=2)
    assert [answer.index for answer in why.classes()] == ranked[:2]


def test_heatmap_is_the_sum_over_channels(classifier, inputs):
    why = vv.explain(classifier, inputs, 1, signed=True)
    assert_close(why.heatmap(), why.relevance[:, 0] + why.relevance[:, 1] + why.relevance[:, 2])


@pytest.mark.parametrize(("name", "option"), [("clrp", {}), ("grad-cam", {}), ("smoothgrad", QUICK["smoothgrad"])])
def test_the_same_twice(classifier, inputs, name, option):
    first, second = (vv.explain(classifier, inputs, 1, method=name, **option) for _ in range(2))
    assert torch.equal(first.relevance, second.relevance)


def test_under_no_grad_and_inference_mode(classifier, inputs):
    expected = vv.explain(classifier, inputs, 1).relevance
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            why = vv.explain(classifier, inputs, 1)
        assert torch.equal(why.relevance, expected)
        assert not why.relevance.requires_grad
    assert not vv.explain(classifier, inputs.clone().requires_grad_(), 1).relevance.requires_grad


@pytest.mark.parametrize("name", list(vv.methods()))
def test_model_and_inputs_are_left_as_they_were(inputs, name):
    module, before = network(), inputs.clone()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    vv.explain(module, inputs, 1, 3, method=name, **QUICK.get(name, {}))
    with pytest.raises(vv.InputError):
        vv.explain(module, inputs, 1, 99, method=name, **QUICK.get(name, {}))
    assert torch.equal(inputs, before)
    for key, value in module.state_dict().items():
        assert torch.equal(value, state[key])
    for part in module.modules():
        assert not part.training
        assert not part._forward_hooks
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_settings_say_how_it_was_made(classifier, inputs):
    why = vv.explain(classifier, inputs, 1, 3, rules="epsilon", normalize="sum", layer=None)
    assert why.settings["model"] == "toy"
    assert why.settings["method"] == "clrp"
    assert why.settings["rules"] == "epsilon"
    assert why.settings["normalize"] == "sum"
    assert why.settings["seed"] == "score"
    assert why.settings["signed"] is False
    assert why.settings["device"] == "cpu"
    assert why.settings["visavis"] == vv.__version__
    assert why.settings["torch"] == torch.__version__
    assert json.loads(json.dumps(dict(why.settings))) == dict(why.settings)


def test_a_relevance_that_is_not_finite_is_an_error(inputs):
    module = network()
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(vv.ModelError, match="not finite"):
        vv.explain(module, inputs, 1)


def test_half_precision_is_explained(inputs):
    module = network(dtype=torch.bfloat16)
    x = inputs.to(torch.bfloat16)
    relevance = vv.explain(module, x, 1, method="lrp", rules="deep-taylor").relevance
    assert relevance.dtype == torch.bfloat16
    exact = vv.explain(module.double(), x.double(), 1, method="lrp", rules="deep-taylor").relevance
    assert F.cosine_similarity(relevance.double().flatten(1), exact.flatten(1)).min() > 0.99


def test_a_model_that_ends_in_a_softmax_is_told_so(inputs):
    torch.manual_seed(0)
    scores = nn.Sequential(nn.Flatten(), nn.Linear(inputs[0].numel(), 4, dtype=inputs.dtype)).eval()
    with pytest.warns(UserWarning, match="ends in a softmax"):
        vv.explain(nn.Sequential(scores, nn.Softmax(1)), inputs, 1)
    vv.explain(scores, inputs, 1)  # and no other is: warnings are errors here


# ------------------------------------------------------------------------------- other outputs and other inputs


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1)
        self.double().eval()

    def forward(self, x):
        scores = self.second(self.first(x).relu())
        return {"out": scores, "boxes": scores.mean((2, 3))[:, :3]}


@pytest.mark.parametrize("name", list(vv.methods()))
def test_an_output_of_one_s_own(inputs, name):
    def worth(y):
        return 2 * y["out"].amax((2, 3)) - y["out"].mean((2, 3))

    few, signed = QUICK.get(name, {}), {"signed": True} if name.startswith("clrp") else {}
    why = vv.explain(Segmenter(), inputs, 4, method=name, output=worth, **few, **signed)
    expected = vv.method(name)(Segmenter(), output=worth, **few, **signed).attribute(inputs, 4)
    assert_close(why.relevance, expected)
    assert expected.abs().sum() > 0
    scores = worth(Segmenter()(inputs))[:, 4].detach()
    for picture, score in zip(why.as_dict()["pictures"], scores, strict=True):
        assert picture["target"] == {"index": 4, "name": "output 4", "score": pytest.approx(float(score))}
        assert picture["counterpart"] is None
        assert picture["top"] == []
    assert why.settings["explains"] == "output"
    by_probability = "other outputs by probability"
    foils = {"clrp": "all other outputs", "clrp-gamma": by_probability}
    foils["clrp-scales"] = "the ten strongest other outputs"
    assert why.foils[0] == foils.get(name, "")
    assert why[0].question() == "Why output 4?"


def test_an_output_that_the_labels_fit(inputs):
    classifier = vv.Classifier(Segmenter(), labels=NAMES)
    why = vv.explain(classifier, inputs, "zebra", output=lambda y: y["out"].mean((2, 3)))
    probabilities = Segmenter()(inputs)["out"].mean((2, 3)).softmax(1).detach()
    assert [answer.name for answer in why.targets] == ["zebra"] * 3
    assert_close(torch.tensor([a.probability for a in why.targets]).double(), probabilities[:, 3])
    assert why.settings["explains"] == "class"
    assert why.top[0][0].probability == pytest.approx(float(probabilities[0].max()))
    boxes = vv.explain(classifier, inputs, 1, 2, output="boxes")
    assert [boxes.targets[0].name, boxes.foils[0], boxes.counterparts[0].name] == ["output 1", "output 2", "output 2"]


def test_one_score_an_image(inputs):
    why = vv.explain(Segmenter(), inputs, method="lrp", output=lambda y: y["out"].mean((1, 2, 3)))
    assert [answer.name for answer in why.targets] == ["output 0"] * 3
    assert why.conserved.shape == (3,)
    assert '"negated"' in refusal(Segmenter(), inputs, output=lambda y: y["out"].mean((1, 2, 3)))


@pytest.mark.parametrize("name", ["clrp", "lrp"])
def test_a_region_of_a_segmentation(inputs, name):
    mask = torch.zeros(12, 10, dtype=torch.bool)
    mask[2:5, 3:9] = True
    for position, told in (((4, 2), [4, 2]), (mask, "a mask, 18 of 120"), (mask.numpy(), "a mask, 18 of 120")):
        why = vv.explain(Segmenter(), inputs, 2, method=name, position=position)
        assert_close(why.relevance, vv.method(name)(Segmenter()).attribute(inputs, 2, position=position))
        assert why.settings["position"] == told
        assert json.loads(json.dumps(dict(why.settings))) == dict(why.settings)
    seed = Segmenter()(inputs)["out"][:, 2].detach().abs().mul(mask).sum((1, 2))
    plain = vv.LRP(Segmenter()).attribute(inputs, 2, position=mask)
    assert_close(why.conserved, plain.flatten(1).sum(1) / seed)


def test_a_unit_in_a_model_that_has_no_classes(inputs):
    class Boxes(Segmenter):
        def forward(self, x):
            return {"boxes": super().forward(x)["boxes"]}

    why = vv.explain(Boxes(), inputs, layer="first", unit=1)
    assert_close(why.relevance, vv.CLRP(Boxes(), layer="first").attribute(inputs, 1))
    assert why.top == ((), (), ())


def signals():
    torch.manual_seed(2)
    convolutions = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(28, 3))
    return convolutions.double(), torch.randn(2, 2, 16, dtype=torch.float64)


def vectors():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double(), torch.randn(2, 6).double()


def videos():
    torch.manual_seed(2)
    convolutions = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3))
    return convolutions.double(), torch.randn(2, 3, 4, 6, 5).double()


@pytest.mark.parametrize("made", [signals, vectors, videos])
@pytest.mark.parametrize("name", [name for name in vv.methods() if name not in ("grad-cam", "clrp-scales")])
def test_what_is_no_picture(made, name, tmp_path):
    module, batch = made()
    why = vv.explain(module, batch, 1, method=name, **QUICK.get(name, {}))
    expected = vv.method(name)(module, **QUICK.get(name, {})).attribute(batch, 1)
    assert_close(why.relevance, expected)
    assert expected.abs().sum() > 0
    assert_close(why.heatmap(), expected if made is vectors else expected.sum(1))
    assert torch.equal(why.picture, batch)
    assert all(tensor.shape == why.heatmap().shape for tensor in why.maps.values())
    loaded = vv.Explanation.load(why.save(tmp_path / "why.safetensors"))
    assert torch.equal(loaded.relevance, why.relevance)
    assert torch.equal(loaded[1].heatmap(), why[1].heatmap())
    for draw in (why[0].plot, lambda: why[0].save(tmp_path / "why.png")):
        with pytest.raises(vv.InputError, match=r"a panel draws pictures, .* \(1, .* save everything as .safetensors"):
            draw()
    assert not (tmp_path / "why.png").exists()


def test_a_list_of_what_are_no_pictures():
    for made in (signals, vectors, videos):
        module, batch = made()
        whole = vv.explain(module, batch, 1).relevance
        assert_close(vv.explain(module, list(batch), 1).relevance, whole)
    tokens = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)).double()
    batch = torch.rand(2, 3, 6).double()
    assert_close(vv.explain(tokens, list(batch), 1).relevance, vv.CLRP(tokens).attribute(batch, 1))
    module, _ = vectors()
    assert "(6,) and (5,)" in refusal(module, [torch.ones(6), torch.ones(5)], 1)
    assert "torch.int64" in refusal(module, torch.ones(2, 6, dtype=torch.long), 1)
