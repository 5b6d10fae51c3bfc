"""The models that the speed benchmark knows: how each is built, with random weights, and what images it takes."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

#: The models by the name that the command line takes, with the name that pages and pictures print.
MODELS = {
    "vgg16": "VGG16",
    "resnet50": "ResNet50",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "convnext_tiny": "ConvNeXt-T",
    "vit_b_16": "ViT-B/16",
}
#: Side of the images, in pixels, unless others are asked for.
SIDE = 224
#: The models whose positions are learned for one side.
ONE_SIDE = {"vit_b_16": SIDE}
#: The bounds of pixels normalised as torchvision's weights want it, over all channels.
BOUNDS = (-2.1179, 2.64)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which models run, and on what."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's threads on the CPU")
    parser.add_argument(
        "--models",
        nargs="+",
        default=["vgg16", "resnet50"],
        choices=MODELS,
        metavar="MODEL",
        help=f"of {', '.join(MODELS)} (vgg16 resnet50)",
    )
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of weights and inputs (float32)")


def network(name: str) -> nn.Module:
    """Return a model with random weights, the same at every call."""
    torch.manual_seed(0)
    if name == "efficientnet_lite0":
        import timm

        module: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    else:
        from torchvision import models

        module = models.get_model(name, weights=None)
    return module.eval().requires_grad_(False)


def pictures(batch: int, side: int) -> Tensor:
    """Return as many normalised images of noise, (batch, 3, side, side), the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.empty(batch, 3, side, side).uniform_(*BOUNDS, generator=generator)


def refusal(name: str, side: int) -> str:
    """Return why a model takes no images of that side; empty if it does."""
    only = ONE_SIDE.get(name, side)
    return "" if only == side else f"the model takes images of {only} px only"
