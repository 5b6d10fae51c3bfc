"""The networks of the study of shape and texture: one small network, taught by the shape, the texture, or both.

All see the same generated pictures of one grey object on a ground; only the labels differ. So what differs between the
networks is what they were asked for.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import scenes
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from safetensors.torch import save
from torch import Tensor, nn

from visavis.datasets import Scenes
from visavis.files import make_folder, write_bytes
from visavis.labels import Labels

#: Categories: i is the i-th shape, or the i-th texture, or both.
SHAPES = ("disc", "square", "triangle", "star", "heart", "cross")
TEXTURES = ("stripes", "checks", "dots", "bricks", "grid", "zigzag")
#: What all pictures are drawn with. The object is of one colour, so that its texture is its pattern alone.
KINDS: dict[str, Any] = {
    "shapes": SHAPES,
    "textures": TEXTURES,
    "colours": ("grey",),
    "ground_colours": ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown"),
    "sizes": (0.5, 0.7),
    "periods": (0.14, 0.2),
    "turn": 180,
}
SIZE = 40
WIDTHS = (16, 32, 64, 32)
#: The layers that are looked at: the ReLU after each convolution; and the last of them, whose units are removed.
LAYERS = ("relu1", "relu2", "relu3", "relu4")
LAST = LAYERS[-1]
#: What labels depend on, and how many steps a network learns. Of the random one the last linear layer alone learns.
STEPS = {"shape": 600, "both": 900, "texture": 250}
HEAD_STEPS = 1500
RANDOM = "random"
NETWORKS = ("shape", "both", RANDOM, "texture")
WORDS = {
    "shape": "labels by shape alone",
    "both": "labels by shape and texture",
    RANDOM: "random weights, a head by both",
    "texture": "labels by texture alone",
}


@dataclass(frozen=True)
class Plan:
    """How networks learn.

    Attributes:
        training: how many pictures they learn from.
        share: of the steps of `STEPS`.
        rate: the greatest learning rate.
        batch: pictures in a batch.
        checkpoints: at which shares of the steps weights are kept.
    """

    training: int = 4000
    share: float = 1.0
    rate: float = 4e-3
    batch: int = 64
    checkpoints: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)

    def steps(self, kind: str) -> int:
        """Return how many steps a network learns."""
        return max(1, round(self.share * STEPS[kind]))


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures (N, 3, S, S), uint8, with the number of the shape and of the texture, (N,), int64."""

    pictures: Tensor
    shapes: Tensor
    textures: Tensor

    def inputs(self) -> Tensor:
        """Return them as the networks take them."""
        return scenes.normalised(self.pictures)

    def labels(self, kind: str) -> Tensor:
        """Return the classes by what a network's labels depend on; those of the random one's head are by both."""
        if kind in ("both", RANDOM):
            return self.shapes * len(TEXTURES) + self.textures
        return self.textures if kind == "texture" else self.shapes


def scenes_of(count: int, seed: int, classes: str | tuple[str, ...] = "shape") -> Scenes:
    """Return generated pictures."""
    return Scenes(count, size=SIZE, seed=seed, classes=classes, **KINDS)


def drawn(count: int, seed: int) -> Pictures:
    """Draw pictures whose shape and texture are independent."""
    data = scenes_of(count, seed, ("texture", "shape"))
    pictures = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    shapes, textures = (torch.empty(count, dtype=torch.int64) for _ in range(2))
    for index in range(count):
        item = data[index]
        pictures[index] = (item.picture * 255).round().to(torch.uint8)
        texture, shape = data.names[int(item.label)].split(" ")
        shapes[index], textures[index] = SHAPES.index(shape), TEXTURES.index(texture)
    return Pictures(pictures, shapes, textures)


def classes_of(kind: str) -> tuple[str, ...]:
    """Return what a network's classes are called."""
    if kind in ("both", RANDOM):
        return tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)
    return TEXTURES if kind == "texture" else SHAPES


def labels_of(kind: str) -> Labels:
    """Return the names of a network's classes."""
    return Labels(classes_of(kind))


def categories(kind: str) -> dict[str, list[int]]:
    """Return the class of each category: of labels by both, that in which shape and texture are of the category."""
    step = len(TEXTURES) + 1 if kind in ("both", RANDOM) else 1
    return {f"{TEXTURES[place]} {SHAPES[place]}": [place * step] for place in range(len(SHAPES))}


def untrained(kind: str, seed: int) -> nn.Sequential:
    """Return the network with first weights by seed, in eval mode."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    torch.manual_seed(seed)
    for number, width in enumerate(WIDTHS, 1):
        layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers[f"norm{number}"] = nn.BatchNorm2d(width)
        layers[f"relu{number}"] = nn.ReLU()
        if number <= 2:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        channels = width
    layers["mean"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["linear"] = nn.Linear(channels, len(classes_of(kind)))
    return nn.Sequential(layers).eval()


def trained(
    kind: str, images: Pictures, plan: Plan, seed: int, console: Console
) -> tuple[nn.Sequential, dict[int, dict[str, Tensor]]]:
    """Return a trained network, in eval mode, and its weights at the checkpoints, by the step.

    Of the random network the layers stay as they are, and the last linear layer learns from what they say.
    """
    module = untrained(kind, seed).train()
    if kind == RANDOM:
        return with_head(module.eval(), images, seed), {}
    steps, labels = plan.steps(kind), images.labels(kind)
    wanted = {round(share * steps) for share in plan.checkpoints}
    states: dict[int, dict[str, Tensor]] = {}
    optimiser = torch.optim.AdamW(module.parameters(), weight_decay=0.05)
    chance = torch.Generator().manual_seed(seed)
    for step in track(range(steps + 1), f"{kind}, seed {seed}", console=console, transient=True):
        if step in wanted:
            states[step] = {name: one.clone() for name, one in module.state_dict().items()}
        if step == steps:
            break
        share = step / steps
        optimiser.param_groups[0]["lr"] = plan.rate * min(10 * share + 1 / steps, (1 - share) / 0.9)
        batch = torch.randint(len(labels), (plan.batch,), generator=chance)
        inputs = scenes.normalised(images.pictures[batch])
        if torch.rand((), generator=chance) < 0.5:
            inputs = inputs.flip(3)
        loss = F.cross_entropy(module(inputs), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
    return module.eval(), states


def with_head(module: nn.Sequential, images: Pictures, seed: int) -> nn.Sequential:
    """Train the last linear layer of a network on what the layers below say of all pictures; return the network."""
    with torch.no_grad():
        latents = torch.cat([module[:-1](scenes.normalised(one)) for one in images.pictures.split(250)])
    mean, deviation = latents.mean(0), latents.std(0).clamp(min=1e-6)
    labels = images.labels(RANDOM)
    torch.manual_seed(seed)
    head = nn.Linear(latents.shape[1], len(classes_of(RANDOM)))
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.05, weight_decay=0.0)
    known = (latents - mean) / deviation
    for _ in range(HEAD_STEPS):
        loss = F.cross_entropy(head(known), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        # The same on latents as they are.
        own = module[-1]
        own.weight.copy_(head.weight / deviation)
        own.bias.copy_(head.bias - (head.weight * (mean / deviation)).sum(1))
    return module


def write_checkpoints(folder: Path, kind: str, seed: int, plan: Plan, states: Mapping[int, dict[str, Tensor]]) -> Path:
    """Write the weights at the checkpoints into a folder of their own, and return it.

    Raises:
        OutputError: they cannot be written.
    """
    place = make_folder(folder / f"{kind}-{seed}")
    recipe = json.dumps({"kinds": KINDS, "size": SIZE, "kind": kind, "seed": seed, **asdict(plan)})
    for step, state in states.items():
        write_bytes(place / f"step-{step}.safetensors", save(state, {"recipe": recipe}))
    return place
