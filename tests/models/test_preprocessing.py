"""Pictures become what networks trained on ImageNet take, unless the user says otherwise."""

import numpy as np
import PIL.Image
import pytest
import torch
from torch.testing import assert_close

from visavis.classifier import pixel_bounds
from visavis.errors import InputError
from visavis.models.preprocessing import CentreCrop

MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)


def noise(size=(300, 400)):
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_the_defaults_are_torchvisions_for_imagenet():
    from torchvision.models import ResNet50_Weights

    expected = ResNet50_Weights.IMAGENET1K_V1.transforms(antialias=True)
    picture = noise()
    assert_close(CentreCrop()(picture), expected(picture))


def test_size_and_colours():
    # Of 64 x 32 the middle is grey, 32 wide; scaled to a short side of 16, 14 are left of it.
    array = np.full((32, 64, 3), 255, np.uint8)
    array[:, 16:48] = 51
    tensor = CentreCrop(14, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))(PIL.Image.fromarray(array))
    assert tensor.shape == (3, 14, 14)
    assert_close(tensor[:, 7, 7], torch.tensor([0.2, 0.0, -0.05]))
    low, high = pixel_bounds(CentreCrop(14, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)))
    assert_close(low.flatten(), torch.tensor([-0.2, -0.8, -0.15]))
    assert_close(high.flatten(), torch.tensor([1.8, 3.2, 0.35]))


def test_interpolation():
    picture = noise()
    assert not torch.equal(CentreCrop(32, interpolation="bicubic")(picture), CentreCrop(32)(picture))


def test_it_tells_what_it_does():
    said = str(CentreCrop(96, (0.5,) * 3, (0.25,) * 3))
    assert said == "cropped to 96 × 96 pixels, mean 0.5, 0.5, 0.5, standard deviation 0.25, 0.25, 0.25"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "1 to 8192 pixels, not 0"),
        ({"size": 100_000}, "not 100000"),
        ({"mean": (0.5, 0.5)}, "the mean of the colours is three finite numbers, not 0.5, 0.5"),
        ({"mean": ()}, "not nothing"),
        ({"std": (1.0, float("nan"), 1.0)}, "the standard deviation of the colours is three finite numbers"),
        ({"std": (1.0, 0.0, 1.0)}, "above 0, but this is 1, 0, 1"),
    ],
)
def test_what_cannot_be(options, said):
    with pytest.raises(InputError, match=said):
        CentreCrop(**options)
