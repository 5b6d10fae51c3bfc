"""One of several calls of a layer: what is ablated is that call, and what lies above begins there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models.resnet import BasicBlock

from units.networks import alive, naive, pictures, resnet, without
from units.test_above import Counts
from visavis.errors import InputError, ModelError
from visavis.units import Above, Layer, Way, activations, incoming_norms


class Shared(nn.Module):
    """A dense layer that is called again and again, and an activation beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 4)
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x.mean((2, 3))))
        for _ in range(len(x)):
            x = x + self.act(self.again(x))
        return self.head(x)


class Residual(nn.Module):
    """Two of ResNet's blocks, narrow: each calls its one relu twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 6, 3), nn.Linear(8, 4)
        around = nn.Sequential(nn.Conv2d(6, 8, 1, stride=2), nn.BatchNorm2d(8))
        self.blocks = nn.Sequential(BasicBlock(6, 6), BasicBlock(6, 8, stride=2, downsample=around))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.first(x)).mean((2, 3)))


def residual() -> nn.Module:
    torch.manual_seed(0)
    return alive(Residual())


def shared() -> nn.Module:
    torch.manual_seed(0)
    return Shared().double().eval()


#: Network, layer, which call, and which that is from 0.
CASES = [
    *((residual, f"blocks.{block}.relu", call, call % 2) for block in (0, 1) for call in (0, 1, -1, -2)),
    (resnet, "layer4.0.relu", 0, 0),
    *((shared, "again", call, call % 3) for call in (0, 1, 2, -1, -3)),
    *((shared, "act", call, call % 4) for call in (0, 2, -1)),
    (residual, "blocks.1.bn1", 0, 0),
    (residual, "blocks.1.bn1", -1, 0),
]


@pytest.mark.parametrize(("build", "layer", "call", "place"), CASES)
def test_as_the_plain_loop(build: object, layer: str, call: int, place: int) -> None:
    module, inputs = build(), pictures(3, 16)
    kept = Above(module, Layer(layer, call=call)).keep(inputs)
    with torch.no_grad():
        assert_close(kept.logits, module(inputs.clone()), rtol=1e-12, atol=1e-12)
    values = torch.linspace(-1, 2, kept.units, dtype=inputs.dtype)
    sets = [[0], [kept.units - 1], [0, 1, 3]]
    expected = torch.cat([naive(module, layer, inputs, units, 1, values, place) for units in sets])
    for _ in range(2):
        found = kept.run(kept.changed([torch.tensor(units) for units in sets], values))
        assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found, kept.logits.repeat(3, 1), rtol=1e-6, atol=1e-9)
    # After the first `act` it is yet to be read off the batch how often the loop goes on.
    assert kept.way is (Way.ONE if (layer, place) == ("act", 0) else Way.MANY)


@pytest.mark.parametrize(("call", "convolutions"), [(0, 2), (1, 0), (-2, 2), (-1, 0)])
def test_what_is_below_does_not_run_again(call: int, convolutions: int) -> None:
    """Between a block's two relus lie its second convolution, and the one around both."""
    kept = Above(residual(), Layer("blocks.1.relu", call=call)).keep(pictures())
    changed = kept.changed([torch.tensor([0]), torch.tensor([1])], torch.zeros(kept.units))
    kept.run(changed)
    with Counts() as counts:
        kept.run(changed)
    assert counts.calls["convolution"] == convolutions


def test_ablation_of_a_call() -> None:
    module, inputs = residual(), pictures(4, 16)
    labels = torch.tensor([0, 1, 2, 3])
    each = [without(module, Layer("blocks.1.relu", call=call), (inputs, labels), [[5], [2]])[1] for call in (0, 1)]
    for call, found in enumerate(each):
        for place, unit in enumerate((5, 2)):
            logits = naive(module, "blocks.1.relu", inputs, [unit], 1, torch.zeros(8), call)
            confidence = logits.softmax(1).gather(1, labels[:, None])[:, 0].float()
            assert_close(found[place], confidence)
    assert not torch.equal(*each)
    seen: list[Tensor] = []
    module.blocks[1].relu.register_forward_hook(lambda _, __, output: seen.append(output.detach().clone()))
    module(inputs)
    for call in (0, 1):
        found = activations(residual(), Layer("blocks.1.relu", call=call), (inputs, labels))
        assert_close(found.mean, seen[call].mean((0, 2, 3)))


def test_weights_that_make_the_units_of_a_call() -> None:
    module, inputs = residual(), pictures(1, 16)
    first = module.blocks[0].conv1.weight.detach().abs().sum((1, 2, 3))
    for call in (0, -2):
        assert_close(incoming_norms(Above(module, Layer("blocks.0.relu", call=call)), inputs), first)
    for call in (1, -1):
        with pytest.raises(InputError, match="no weights of their own, as they are made by `add_`"):
            incoming_norms(Above(module, Layer("blocks.0.relu", call=call)), inputs)


def test_refusals() -> None:
    module, inputs = residual(), pictures(2, 16)
    with pytest.raises(ModelError, match=r"called 2 times .* say which call is meant, by Layer\(\.\.\., call=0\)"):
        Above(module, "blocks.0.relu").keep(inputs)
    for call in (2, -3):
        with pytest.raises(InputError, match=rf"2 times .* no call={call}; there are 0 to 1, or -2 to -1 from the end"):
            Above(module, Layer("blocks.0.relu", call=call)).keep(inputs)
    module.spare = nn.Identity().eval()
    for call in (0, -1):
        with pytest.raises(InputError, match=rf"'spare' is called 0 times in a forward pass, .* no call={call}$"):
            Above(module, Layer("spare", call=call)).keep(inputs)


def test_a_call_from_the_end_that_moves() -> None:
    above = Above(shared(), Layer("again", call=-1))
    above.keep(pictures(3, 16))
    with pytest.raises(ModelError, match="not called equally often on all inputs"):
        above.keep(pictures(2, 16))
    above = Above(shared(), Layer("again", call=1))
    inputs, values = pictures(2, 16), torch.zeros(6, dtype=torch.float64)
    above.keep(pictures(3, 16))
    kept = above.keep(inputs)
    expected = naive(shared(), "again", inputs, [2], 1, values, 1)
    assert_close(kept.run(kept.changed([torch.tensor([2])], values)), expected)
