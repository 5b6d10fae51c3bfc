"""What is no seed, number or factor is refused in a sentence, whatever type it has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from visavis.datasets.generated import Scenes
from visavis.errors import InputError
from visavis.shape_texture.dimensionality import Dimensionality, check_options, dimensionality
from visavis.shape_texture.neurons import remove_neurons
from visavis.shape_texture.options import check_draws, check_index, check_numbers, check_seed
from visavis.shape_texture.pairs import ScenePairs, check_factor


def unchecked(function: Any) -> Any:
    """A function as users have it, whose annotations nothing checks."""
    return getattr(function, "__wrapped__", function)


def latents() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    chance = torch.Generator().manual_seed(0)
    one, other, third = (torch.rand(5, 3, generator=chance) for _ in range(3))
    return {"shape": (one, other), "texture": (one, third)}


@pytest.mark.parametrize("seed", [1.5, 2.0, -1, 2**64, "1", None], ids=str)
def test_what_is_no_seed(seed: object) -> None:
    with pytest.raises(InputError, match=f"the seed is a whole number from 0 to 2⁶⁴ − 1, not {seed}"):
        check_seed(seed)


def test_numbers_of_numpy_and_torch_are_whole() -> None:
    for one in (np.int64(3), torch.tensor(3), 3):
        check_seed(one)
        check_draws(one)
        check_index(one, 4, "pair")
        check_numbers(one, one, "pairs")


def test_what_is_no_whole_number() -> None:
    with pytest.raises(InputError, match=r"draws is 2\.5, but 0, for no interval, or a whole number from 2"):
        check_draws(2.5)
    with pytest.raises(InputError, match=r"draws is 0, but a whole number from 2"):
        check_draws(0, none=False)
    with pytest.raises(InputError, match=r"number of a pair is a whole number from 0 to 3, not 1\.0"):
        check_index(1.0, 4, "pair")
    with pytest.raises(InputError, match=r"2\.5 pairs were asked for, but a whole number from 1"):
        check_numbers(2.5, 0, "pairs")
    with pytest.raises(InputError, match="the factor is 'colour', but 'shape' or 'texture'"):
        check_factor("colour")


def test_pairs_take_whole_numbers_and_factors() -> None:
    pairs = ScenePairs(2, scenes=Scenes(1, size=16))
    with pytest.raises(InputError, match=r"2\.5 pairs were asked for"):
        unchecked(ScenePairs.__init__)(pairs, 2.5)
    with pytest.raises(InputError, match=r"the seed is .* not 1\.5"):
        unchecked(ScenePairs.__init__)(pairs, 2, seed=1.5)
    with pytest.raises(InputError, match="the factor is 'x'"):
        unchecked(ScenePairs.scene_pair)(pairs, "x", 0)
    with pytest.raises(InputError, match="the number of a pair"):
        unchecked(ScenePairs.scene_pair)(pairs, "shape", 0.5)


def test_removal_and_dimensions_take_whole_numbers() -> None:
    found: Dimensionality = dimensionality(latents(), draws=0)
    for words, options in {
        r"counts are \[1\.5\], but whole numbers": {"counts": [1.5]},
        r"orders is 1\.5": {"orders": 1.5},
        r"draws is 2\.5": {"draws": 2.5},
        r"seed .* not 1\.5": {"seed": 1.5},
    }.items():
        with pytest.raises(InputError, match=words):
            unchecked(remove_neurons)(torch.nn.Linear(3, 2), "", [], found, **options)
    for words, options in {r"draws is 2\.5": {"draws": 2.5}, r"seed .* not 1\.5": {"seed": 1.5}}.items():
        with pytest.raises(InputError, match=words):
            unchecked(check_options)("sum_cov", **{"draws": 0, "seed": 0, **options})
