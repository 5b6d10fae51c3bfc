"""A copy that has learnt nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.shape_texture.encoders import copy_of, random_encoder


def trained() -> nn.Sequential:
    one = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        for value in (*one.parameters(), *one.buffers()):
            if value.is_floating_point():
                value.fill_(7)
    one[1].num_batches_tracked.fill_(9)
    return one.train()


def test_all_is_drawn_anew_and_the_model_is_left() -> None:
    one = trained()
    drawn = torch.random.get_rng_state()
    found = random_encoder(one, seed=3)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(bool((value == 7).all()) for value in one.parameters())
    assert int(one[1].num_batches_tracked) == 9
    torch.manual_seed(3)
    linear, norm, conv = nn.Linear(4, 2), nn.BatchNorm2d(4), nn.Conv2d(3, 4, 3)
    for module, own in ((linear, found[4]), (norm, found[1]), (conv, found[0])):
        for name, value in module.state_dict().items():
            assert torch.equal(own.state_dict()[name], value), name
    assert found.training
    again, other = random_encoder(one, seed=3), random_encoder(one, seed=4)
    assert torch.equal(again[0].weight, found[0].weight)
    assert not torch.equal(other[0].weight, found[0].weight)


def test_a_classifier_keeps_all_but_its_parameters() -> None:
    given = Classifier(trained(), labels=["a", "b"], name="net")
    found = random_encoder(given, seed=3)
    assert (found.name, found.labels) == ("net", given.labels)
    assert torch.equal(found.module[0].weight, random_encoder(given.module, seed=3)[0].weight)
    assert bool((given.module[0].weight == 7).all())


def test_attention_resets_itself_whole() -> None:
    one = nn.MultiheadAttention(4, 2)
    with torch.no_grad():
        for value in one.parameters():
            value.fill_(7)
    found = random_encoder(one)
    assert not any(bool((value == 7).any()) for value in found.parameters())
    # What the layer as a whole does comes after what its parts do.
    assert bool((found.out_proj.bias == 0).all())


class Token(nn.Module):
    """With a parameter of its own, which nothing resets."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(3))
        self.linear = nn.Linear(3, 3)

    def forward(self, rows: Tensor) -> Tensor:
        return self.linear(rows + self.token)


def test_what_nothing_resets_is_named() -> None:
    one = nn.Sequential(Token(), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ModelError, match=r"0\.token, 1\.parametrizations\.weight\.original0"):
        random_encoder(one)
    with pytest.raises(InputError, match="from 0 to 2⁶⁴ − 1, not -1"):
        random_encoder(Token(), seed=-1)


def test_what_cannot_be_copied_is_refused() -> None:
    one = nn.Linear(2, 2)
    one.lock = (value for value in range(3))  # type: ignore[assignment]
    with pytest.raises(ModelError, match="cannot be copied"):
        random_encoder(one)


class Refusing(nn.Linear):
    def __deepcopy__(self, memo: object) -> None:
        raise ValueError("there is one of me")


class Asking(nn.Linear):
    """Draws its parameters only if it is told how."""

    def __init__(self) -> None:
        super().__init__(2, 2)

    def reset_parameters(self, deviation: float | None = None) -> None:
        if deviation is None and hasattr(self, "made"):
            raise TypeError("how wide?")
        self.made = True


class Needing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def reset_parameters(self, deviation: float) -> None:
        nn.init.normal_(self.weight, std=deviation)


def test_a_copy_or_reset_that_fails_in_its_own_way_is_refused() -> None:
    with pytest.raises(ModelError, match=r"Refusing cannot be copied [(]there is one of me[)]"):
        random_encoder(nn.Sequential(Refusing(2, 2))[0])
    for one, said in ((Asking(), "how wide"), (Needing(), "missing 1 required positional argument: 'deviation'")):
        with pytest.raises(ModelError, match=f"{type(one).__name__} cannot draw its parameters anew: .*{said}"):
            random_encoder(nn.Sequential(one))


def test_copies_made_in_inference_mode_can_be_trained() -> None:
    one = trained()
    with torch.inference_mode():
        within, kept, born = random_encoder(one, seed=3), copy_of(one), trained()
    expected = random_encoder(one, seed=3).state_dict()
    for found in (within, random_encoder(born, seed=3)):
        assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())
    for found in (within, kept, copy_of(born)):
        assert not any(value.is_inference() for value in (*found.parameters(), *found.buffers()))
    assert all(value.is_inference() for value in born.parameters())
