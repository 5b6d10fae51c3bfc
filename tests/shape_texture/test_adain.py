"""Adaptive instance normalisation against its equation, and what its files must hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from visavis.errors import InputError, ModelError
from visavis.shape_texture.adain import AdaIN, adaptive_instance_normalization

# Each convolution's place in the published files, with its channels, in and out; "halve" and "double" in between.
ENCODER = (
    (0, 3, 3),
    (2, 3, 64),
    (5, 64, 64),
    "halve",
    (9, 64, 128),
    (12, 128, 128),
    "halve",
    (16, 128, 256),
    (19, 256, 256),
    (22, 256, 256),
    (25, 256, 256),
    "halve",
    (29, 256, 512),
)
DECODER = (
    (1, 512, 256),
    "double",
    (5, 256, 256),
    (8, 256, 256),
    (11, 256, 256),
    (14, 256, 128),
    "double",
    (18, 128, 128),
    (21, 128, 64),
    "double",
    (25, 64, 64),
    (28, 64, 3),
)
# Those of the whole VGG-19 beyond relu4_1; shapes do not matter, for they are not read.
BEYOND = (32, 35, 38, 42, 45, 48, 51)
State = dict[str, Tensor]


def random_state(steps: tuple[str | tuple[int, int, int], ...], seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for step in steps:
        if isinstance(step, str):
            continue
        place, before, after = step
        side = 1 if place == 0 else 3
        scale = (2 / (before * side**2)) ** 0.5
        state[f"{place}.weight"] = torch.randn(after, before, side, side, generator=generator) * scale
        state[f"{place}.bias"] = torch.randn(after, generator=generator) * 0.1
    return state


ENCODED, DECODED = random_state(ENCODER, 1), random_state(DECODER, 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    torch.save(ENCODED, folder / "vgg.pth")
    save_file(DECODED, folder / "decoder.safetensors")
    return folder / "vgg.pth", folder / "decoder.safetensors"


@pytest.fixture(scope="module")
def adain(files: tuple[Path, Path]) -> AdaIN:
    return AdaIN(*files)


def run(steps: tuple[str | tuple[int, int, int], ...], state: State, images: Tensor, last: int | None) -> Tensor:
    """Run a network in float64; the last convolution is not rectified, nor is the first, 1 × 1."""
    values = images.double()
    for step in steps:
        if step == "halve":
            rest = (0, values.shape[3] % 2, 0, values.shape[2] % 2)
            values = F.max_pool2d(F.pad(values, rest, value=-torch.inf), 2)
        elif step == "double":
            values = values.repeat_interleave(2, 2).repeat_interleave(2, 3)
        elif not isinstance(step, str):
            weight, bias = (state[f"{step[0]}.{kind}"].double() for kind in ("weight", "bias"))
            if step[0]:
                values = F.pad(values, (1, 1, 1, 1), mode="reflect")
            values = F.conv2d(values, weight, bias)
            if step[0] not in (0, last):
                values = values.clamp(min=0)
    return values


def image(seed: int, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def by_equation(content: Tensor, style: Tensor) -> Tensor:
    """Return equation 8, channel by channel, of (C, H, W)."""
    found = torch.empty_like(content)
    for channel in range(len(content)):
        x, y = content[channel].flatten(), style[channel].flatten()
        sigma_x, sigma_y = (
            (((one - one.sum() / len(one)) ** 2).sum() / (len(one) - 1) + 1e-5) ** 0.5 for one in (x, y)
        )
        found[channel] = sigma_y * (content[channel] - x.sum() / len(x)) / sigma_x + y.sum() / len(y)
    return found


def test_features_are_those_of_the_equation() -> None:
    generator = torch.Generator().manual_seed(0)
    content, style = (torch.randn(1, 5, *size, generator=generator, dtype=torch.float64) for size in ((4, 3), (2, 6)))
    found = adaptive_instance_normalization(content, 3 * style + 1)
    assert_close(found[0], by_equation(content[0], 3 * style[0] + 1))


def test_networks_are_those_of_the_release(adain: AdaIN) -> None:
    images = torch.stack([image(1, 17, 26)])
    features = adain.encode(images)
    assert features.shape == (1, 512, 3, 4)
    assert_close(features.double(), run(ENCODER, ENCODED, images, None), rtol=1e-4, atol=1e-4)
    assert_close(adain.decode(features).double(), run(DECODER, DECODED, features, 28), rtol=1e-4, atol=1e-4)


def test_an_image_is_decoded_from_normalised_features(files: tuple[Path, Path], adain: AdaIN) -> None:
    content, style = image(1, 18, 21), image(2)
    x, y = (adain.encode(one[None])[0].double() for one in (content, style))
    wholly = by_equation(x, y)
    for alpha, transfer in ((1.0, adain), (0.4, AdaIN(*files, alpha=0.4)), (0.0, AdaIN(*files, alpha=0.0))):
        mixed = alpha * wholly + (1 - alpha) * x
        expected = adain.decode(mixed[None].float())[0, :, :18, :21].clamp(0, 1).double()
        assert 0.1 < (expected > 0).double().mean() * (expected < 1).double().mean() < 1
        assert_close(transfer(content, style, None).double(), expected, rtol=1e-3, atol=1e-4)
    as_it_is = adain.decode(adain.encode(content[None]))[0, :, :18, :21].clamp(0, 1)
    assert_close(transfer(content, style, None), as_it_is)


def test_the_rest_of_a_masked_image_stays_bit_for_bit(adain: AdaIN) -> None:
    content, style = image(1), image(2)
    mask = torch.zeros(16, 24, dtype=torch.bool)
    mask[4:10, 8:20] = True
    laid = adain(content, style, mask)
    assert torch.equal(laid[:, ~mask], content[:, ~mask])
    assert torch.equal(laid[:, mask], adain(content, style, None)[:, mask])


def test_the_whole_network_and_names_of_a_wrapper_are_accepted(tmp_path: Path, files: tuple[Path, Path]) -> None:
    more = {f"{place}.{kind}": torch.ones(2) for place in BEYOND for kind in ("weight", "bias")}
    torch.save(ENCODED | more, tmp_path / "whole.pt")
    torch.save({f"module.{key}": value for key, value in DECODED.items()}, tmp_path / "decoder.pt")
    plain, other = AdaIN(*files), AdaIN(tmp_path / "whole.pt", tmp_path / "decoder.pt")
    assert torch.equal(plain(image(1), image(2), None), other(image(1), image(2), None))


def test_random_numbers_and_weights_stay_as_they_are(files: tuple[Path, Path]) -> None:
    before = torch.get_rng_state()
    network = AdaIN(*files)
    assert torch.equal(before, torch.get_rng_state())
    parts = [*network.encoder.parameters(), *network.decoder.parameters()]
    assert not any(one.requires_grad for one in parts)


def test_files_that_do_not_fit_are_refused(tmp_path: Path, files: tuple[Path, Path]) -> None:
    encoder, decoder = files
    with pytest.raises(ModelError, match=r"do not fit 'AdaIN's encoder'.*vgg_normalised\.pth as encoder"):
        AdaIN(decoder, encoder)
    torch.save(ENCODED | {"32.weight": torch.ones(2)}, tmp_path / "some.pt")
    with pytest.raises(ModelError, match=r"1 unexpected \(32\.weight\)"):
        AdaIN(tmp_path / "some.pt", decoder)
    torch.save(DECODED | {"28.bias": torch.ones(4)}, tmp_path / "four.pt")
    with pytest.raises(ModelError, match=r"do not fit 'AdaIN's decoder': 1 of another shape \(28\.bias, \(4,\)"):
        AdaIN(encoder, tmp_path / "four.pt")
    with pytest.raises(ModelError, match="does not exist"):
        AdaIN(tmp_path / "none.pt", decoder)
    torch.save(DECODED | {"28.bias": torch.full((3,), torch.nan)}, tmp_path / "nan.pt")
    with pytest.raises(ModelError, match="not finite"):
        AdaIN(encoder, tmp_path / "nan.pt")(image(1), image(2), None)


def test_images_that_do_not_fit_are_refused(adain: AdaIN, files: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="alpha is 2"):
        AdaIN(*files, alpha=2)
    with pytest.raises(InputError, match=r"the texture is \(3, 15, 40\)"):
        adain(image(1), image(2, 15, 40), None)
    with pytest.raises(InputError, match=r"the content is \(16, 24\)"):
        adain(image(1)[0], image(2), None)
    with pytest.raises(InputError, match="outside"):
        adain(image(1) * 2, image(2), None)
    with pytest.raises(InputError, match=r"the mask is torch\.float32"):
        adain(image(1), image(2), torch.ones(16, 24))
