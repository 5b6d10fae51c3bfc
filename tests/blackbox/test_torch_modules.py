"""Torch modules: their own gradient by autograd, in any shape of rows, and not a bit of them changed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from blackbox.plain import blobs
from visavis.blackbox import ExplanationVectors
from visavis.errors import ModelError


class Scores(nn.Module):
    """A small network of a smooth kind, whose last layer gives so many scores."""

    def __init__(self, scores: int, *, squeeze: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, scores))
        self.body[2].running_mean.normal_()
        self.squeeze = squeeze

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.body(inputs)
        return scores[:, 0] if self.squeeze else scores


def probabilities(module: nn.Module, given: Tensor) -> Tensor:
    scores = module(given)
    scores = scores[:, None] if scores.dim() == 1 else scores
    if scores.shape[1] == 1:
        return torch.cat([1 - scores.sigmoid(), scores.sigmoid()], 1)
    return scores.softmax(1)


def state(module: nn.Module) -> list[Any]:
    kept: list[Any] = []
    for part in module.modules():
        kept += [part.training, len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks)]
        kept.append(dict(vars(part)).keys())
    kept += [(name, one.detach().clone().numpy().tobytes()) for name, one in module.state_dict().items()]
    return kept + [(one.requires_grad, one.grad) for one in module.parameters()]


MODULES = {
    "three": Scores(3).double(),
    "two": Scores(2).double(),
    "one column": Scores(1).double(),
    "one score": Scores(1, squeeze=True).double(),
    "float32": Scores(3),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("training", [False, True])
def test_by_autograd(name: str, training: bool) -> None:
    module = copy.deepcopy(MODULES[name]).eval()
    module.train(training)
    module.body[2].eval()
    # What had a gradient keeps it.
    probabilities(module, torch.randn(4, 3, dtype=module.body[0].weight.dtype))[:, 0].sum().backward()
    grads = [one.grad.clone() for one in module.parameters()]
    kept, rows = state(module), blobs(6, 3, 2, seed=1)[0]
    vectors = ExplanationVectors(module).fit(blobs(30, 3, 2)[0] * 3)
    found = vectors.explain(rows)
    given = torch.from_numpy(rows).to(module.body[0].weight.dtype).requires_grad_()
    expected = probabilities(module, given)
    top = expected.argmax(1)
    (slope,) = torch.autograd.grad((1 - expected[range(6), top.tolist()]).sum(), given, retain_graph=True)
    close = {"rtol": 1e-4, "atol": 1e-6} if name == "float32" else {"rtol": 1e-9, "atol": 1e-13}
    np.testing.assert_allclose(found.values, slope, **close)
    np.testing.assert_allclose(found.probabilities, expected.detach(), **close)
    assert found.said.tolist() == top.tolist()
    assert found.exact
    turned = vectors.contrast(rows, foil=0, target=1)
    (slope,) = torch.autograd.grad((expected[:, 1].log() - expected[:, 0].log()).sum(), given)
    np.testing.assert_allclose(turned.values, slope, **close)
    assert str(state(module)) == str(kept)
    assert all(torch.equal(one.grad, grad) for one, grad in zip(module.parameters(), grads, strict=True))


def test_pictures_through_a_convolution() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    module = module.double().eval()
    pictures = torch.randn(5, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    found = ExplanationVectors(module).fit(torch.randn(20, 2, 6, 7)).explain(pictures)
    expected = probabilities(module, pictures)
    own = expected.max(1).values
    (slope,) = torch.autograd.grad((1 - own).sum(), pictures)
    np.testing.assert_allclose(found.shaped, slope, rtol=1e-9, atol=1e-14)
    assert found.shape == (2, 6, 7)
    assert pictures.grad is None


def test_a_classifier_with_names() -> None:
    module = MODULES["three"].eval()
    classifier = vv.Classifier(module, labels=["ash", "beech", "cedar"])
    rows = blobs(6, 3, 2, seed=1)[0]
    named = ExplanationVectors(classifier).fit(blobs(30, 3, 2)[0])
    numbered = ExplanationVectors(module).fit(blobs(30, 3, 2)[0])
    np.testing.assert_array_equal(named.explain(rows).values, numbered.explain(rows).values)
    names = ["ash", "beech", "cedar"]
    assert named.explain(rows).said.tolist() == [names[one] for one in numbered.explain(rows).said]
    one, other = named.contrast(rows, "cedar", target="ash"), numbered.contrast(rows, 2, target=0)
    np.testing.assert_array_equal(one.values, other.values)


def test_many_rows_are_given_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from visavis.blackbox import asked, exact

    module, rows = MODULES["three"].eval(), 3 * blobs(11, 3, 2)[0]
    whole = ExplanationVectors(module).fit(rows).explain(rows)
    sizes: list[int] = []
    monkeypatch.setattr(asked, "BY_MODULE", 4)
    handle = module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    found = ExplanationVectors(module, gradients="mimic", probes=0).fit(rows)._ask(rows)
    handle.remove()
    assert max(sizes) == 4
    assert found.tolist() == whole.said.tolist()
    monkeypatch.setattr(exact, "BY_MODULE", 4)
    parts = ExplanationVectors(module).fit(rows).explain(rows)
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-12, atol=1e-15)


@pytest.mark.filterwarnings("ignore::visavis.blackbox.LowAgreementWarning")
@pytest.mark.parametrize("name", ["three", "one score"])
def test_a_module_can_be_mimicked_too(name: str) -> None:
    module, seen = MODULES[name].eval(), 3 * blobs(60, 3, 2)[0]
    found = ExplanationVectors(module, gradients="mimic", bandwidth=1.0).fit(seen)
    own = probabilities(module, torch.from_numpy(seen)).argmax(1)
    assert sorted(found._labels.tolist()) == sorted(own.tolist())
    assert found.explain(seen[:3]).said.tolist() == own[:3].tolist()
    assert not found.exact_


def test_what_is_no_classifier() -> None:
    rows = torch.randn(4, 2, 6, 6)
    with pytest.raises(ModelError, match=r"gives .*\(2, 3, 4, 4\), but logits"):
        ExplanationVectors(nn.Conv2d(2, 3, 3)).fit(rows)
    with pytest.raises(ModelError, match=r"its part 'body\.2' is in training mode"):
        ExplanationVectors(Scores(3).train()).fit(rows.reshape(-1, 3))
    with pytest.raises(ModelError, match=r"fails on rows of shape \(2, 2, 6, 6\)"):
        ExplanationVectors(nn.Conv2d(5, 3, 3)).fit(rows)
