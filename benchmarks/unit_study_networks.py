"""The networks of the study of units: one small convolutional network, with and without batch norm and dropout."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import scenes
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from safetensors.torch import save
from torch import Tensor, nn
from unit_study_data import Images

from visavis.files import make_folder, write_bytes

#: The layer whose units are studied: the ReLU after the last convolution.
LAYER = "relu4"
#: By name: whether there is batch norm (after each convolution), and dropout (before each linear layer).
VARIANTS = {
    "plain": (False, False),
    "batch norm": (True, False),
    "dropout": (False, True),
    "both": (True, True),
}
#: The probability of dropout.
DROPOUT = 0.3
_WIDTHS, _HIDDEN = (16, 32, 64, 64), 128


@dataclass(frozen=True)
class Training:
    """How networks learn.

    Attributes:
        steps: in how many batches.
        rate: the greatest learning rate: it rises over the first tenth of the steps, then falls to 0.
        batch: pictures in a batch.
        decay: AdamW's weight decay.
        flip: whether pictures are mirrored at random.
    """

    steps: int
    rate: float = 2e-3
    batch: int = 64
    decay: float = 0.05
    flip: bool = False


def convolutional(classes: int, *, batch_norm: bool, dropout: bool) -> nn.Sequential:
    """Return four convolutions and two linear layers, for pictures of 32 px.

    Its end is AlexNet's: the last convolution's maps, here 6 × 6, are pooled and go into linear layers.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for number, width in enumerate(_WIDTHS, 1):
        last = number == len(_WIDTHS)
        layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=0 if last else 1, bias=not batch_norm)
        if batch_norm:
            layers[f"norm{number}"] = nn.BatchNorm2d(width)
        layers[f"relu{number}"] = nn.ReLU()
        if number != len(_WIDTHS) - 1:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        channels = width
    layers["flatten"] = nn.Flatten()
    if dropout:
        layers["drop5"] = nn.Dropout(DROPOUT)
    layers["linear5"], layers["relu5"] = nn.Linear(9 * channels, _HIDDEN), nn.ReLU()
    if dropout:
        layers["drop6"] = nn.Dropout(DROPOUT)
    layers["linear6"] = nn.Linear(_HIDDEN, classes)
    return nn.Sequential(layers)


def untrained(variant: str, classes: int, seed: int) -> nn.Module:
    """Return the network of a variant with first weights by seed."""
    batch_norm, dropout = VARIANTS[variant]
    build = partial(convolutional, batch_norm=batch_norm, dropout=dropout)
    return scenes.built(scenes.Network(build, rate=0, steps=0), classes, seed)


def train(variant: str, classes: int, images: Images, training: Training, seed: int, console: Console) -> nn.Module:
    """Return the network, trained to name the classes. Variants of one seed see the same batches."""
    module = untrained(variant, classes, seed).train()
    optimiser = torch.optim.AdamW(module.parameters(), weight_decay=training.decay)
    chance = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # what dropout draws from
    for step in track(range(training.steps), f"{variant}, seed {seed}", console=console, transient=True):
        share = step / training.steps
        optimiser.param_groups[0]["lr"] = training.rate * min(10 * share, (1 - share) / 0.9)
        batch = torch.randint(len(images), (training.batch,), generator=chance)
        inputs = scenes.normalised(images.pictures[batch])
        if training.flip and torch.rand((), generator=chance) < 0.5:
            inputs = inputs.flip(3)
        loss = F.cross_entropy(module(inputs), images.labels[batch])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
    return module.eval()


def predicted(module: nn.Module, images: Images) -> Tensor:
    """Return the predicted classes, (N,)."""
    with torch.inference_mode():
        return torch.cat([module(scenes.normalised(one)).argmax(1) for one in images.pictures.split(250)])


def trained(
    variant: str,
    classes: int,
    images: Images,
    training: Training,
    seed: int,
    folder: Path | None,
    source: str,
    console: Console,
) -> nn.Module:
    """Return a trained network, in eval mode: from the folder where it is there, else trained, and kept there.

    Args:
        variant: of VARIANTS.
        classes: how many.
        images: to train on.
        training: how.
        seed: of first weights, batches and dropout.
        folder: where weights are kept; None: nowhere.
        source: what the images are, all of it, in words.
        console: for the progress.

    Raises:
        InputError: the folder's file is none of this network's, or was trained otherwise.
        OutputError: the weights cannot be written.
    """
    recipe = json.dumps({"variant": variant, "images": source, "count": len(images), "seed": seed, **asdict(training)})
    path = None if folder is None else make_folder(folder) / f"{variant.replace(' ', '-')}-{seed}.safetensors"
    if path is not None and path.exists():
        return scenes.loaded(path, untrained(variant, classes, seed), recipe)
    start = time.perf_counter()
    module = train(variant, classes, images, training, seed, console)
    console.print(f"{variant}, seed {seed}: trained in {time.perf_counter() - start:.0f} s")
    if path is not None:
        write_bytes(path, save(module.state_dict(), {"recipe": recipe}))
    return module
