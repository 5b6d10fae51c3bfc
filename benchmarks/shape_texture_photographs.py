"""Shape and texture in an ImageNet network: dimensions of its stages on photographs laid out in textures.

The photographs of a labelled folder are laid out in the patches of textures by quilting: of generated ones, and of
those photographs of the folder whose labels `--textures` names. Shape pairs are one photograph in two textures, texture
pairs two photographs of different classes in one texture. The same is asked of the architecture with random weights.
Islam et al. 2021 stylised with AdaIN, whose weights are not free to ship: pass your own with --encoder and --decoder.

On the way, cue conflict: a photograph of one class in the texture of another, among the classes of the folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from page_text import filled
from rich.console import Console
from shape_texture_study import shares
from torch import Tensor
from unit_study_results import rounded, text_of

import visavis as vv
from visavis.datasets.annotated import AnnotatedDataset
from visavis.datasets.mapping import class_map
from visavis.datasets.registry import open_dataset
from visavis.files import check_place, write_bytes
from visavis.plotting.saving import save_figure
from visavis.reports.shape_texture import dimension_bars
from visavis.shape_texture import (
    AdaIN,
    CueConflict,
    CueConflicts,
    Dimensionality,
    Pairs,
    Quilting,
    ShapeBias,
    TransferPairs,
    layer_dimensionality,
    random_encoder,
    shape_bias,
    stages,
)
from visavis.shape_texture.pairs import FACTORS, Factor
from visavis.shape_texture.transferred import Transfer

TEXTURES = ("n03598930", "n03000247", "n04417672", "n04435653", "n07802026", "n07753275", "n07760859", "n09256479")
"""By default: jigsaw puzzle, chain mail, thatch, tile roof, hay, pineapple, custard apple, coral reef."""
SIZE = 224


class Kept(Pairs):
    """Pairs whose images are made once, and kept as bytes."""

    def __init__(self, pairs: Pairs, console: Console) -> None:
        self.name = pairs.name
        self._images: dict[Factor, list[tuple[Tensor, Tensor]]] = {}
        for factor in FACTORS:
            self._images[factor] = [
                (_bytes(one), _bytes(other))
                for one, other in (pairs.pair(factor, index) for index in range(pairs.count(factor)))
            ]
            console.print(f"{len(self._images[factor])} pairs of one {factor}: {pairs.name}", highlight=False)

    def count(self, factor: Factor) -> int:
        """Return how many pairs share a factor."""
        return len(self._images[factor])

    def pair(self, factor: Factor, index: int) -> tuple[Tensor, Tensor]:
        """Return both images of a pair."""
        one, other = self._images[factor][index]
        return one.float() / 255, other.float() / 255


def _bytes(image: Tensor) -> Tensor:
    return (image * 255).round().to(torch.uint8)


class LaidOut(CueConflicts):
    """Photographs of one class in the texture of a photograph of another."""

    def __init__(self, dataset: AnnotatedDataset, textures: Sequence[int], count: int, transfer: Transfer) -> None:
        self.name, self.names = f"{dataset.name} in textures of its own", tuple(dataset.classes)
        self._dataset, self._textures, self._transfer = dataset, list(textures), transfer
        shapes = [index for index in range(len(dataset)) if index not in set(textures)]
        step = max(1, len(shapes) // count)
        self._shapes = shapes[::step][:count]

    def __len__(self) -> int:
        return len(self._shapes)

    def cues(self, index: int) -> tuple[str, str]:
        """Return the categories of the shape and of the texture."""
        return self._label(self._shapes[index]), self._label(self._textures[index % len(self._textures)])

    def __getitem__(self, index: int) -> CueConflict:
        own, texture = self._shapes[index], self._textures[index % len(self._textures)]
        image = self._transfer(self._image(own), self._image(texture), None)
        return CueConflict(image, *self.cues(index), self._dataset.name_of(own))

    def _label(self, index: int) -> str:
        label = self._dataset[index].label
        assert label is not None
        return label

    def _image(self, index: int) -> Tensor:
        from torchvision.transforms import v2

        picture = self._dataset[index].load()
        crop = v2.Compose(
            [v2.Resize(SIZE, antialias=True), v2.CenterCrop(SIZE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        )
        return crop(picture)


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Do what the command line asks for."""
    for place in (arguments.json, arguments.page):
        if place is not None:
            check_place(place)
    dataset = open_dataset(arguments.dataset)
    transfer = _transfer(arguments)
    model = vv.load_model(arguments.model)
    random = random_encoder(model, seed=0)
    layers = stages(model.module, torch.zeros(1, 3, SIZE, SIZE))
    own = [index for index in range(len(dataset)) if dataset[index].label in arguments.textures]
    if len(own) < 2:
        raise vv.InputError(
            f"the data set has {len(own)} pictures of the classes that --textures names; two are needed"
        )
    sources: dict[str, Any] = {"generated textures": None, "textures of photographs": [dataset[i].load() for i in own]}
    found: dict[str, dict[str, dict[str, Dimensionality]]] = {}
    for name, textures in sources.items():
        made = TransferPairs(dataset, textures, arguments.pairs, transfer=transfer, size=SIZE, seed=0)
        pairs = Kept(made, console)
        found[name] = {
            which: layer_dimensionality(network, layers, pairs, draws=1000)
            for which, network in (("ImageNet weights", model), ("random weights", random))
        }
        for which, each in found[name].items():
            for path, one in each.items():
                console.print(f"{name}, {which}, {path}: {one}", highlight=False)
    bias = _bias(model, dataset, own, arguments.pairs, transfer)
    console.print(str(bias), highlight=False)
    if arguments.json is not None:
        document = {
            "model": model.name,
            "pairs": arguments.pairs,
            "bias": {"value": bias.bias, "low": bias.low, "high": bias.high, "decisions": bias.counts},
            "dimensions": {
                name: {which: {path: shares(one) for path, one in each.items()} for which, each in of.items()}
                for name, of in found.items()
            },
        }
        write_bytes(arguments.json, (json.dumps(rounded(document), indent=1) + "\n").encode())
    if arguments.page is not None:
        _write_page(arguments.page, arguments, model.name, found, bias)


def _bias(
    model: vv.Classifier, dataset: AnnotatedDataset, own: Sequence[int], count: int, transfer: Transfer
) -> ShapeBias:
    assert model.labels is not None
    classes = class_map(dataset.classes, model.labels, dataset.vocabulary)
    known = {name: list(indices) for name, indices in classes.items() if indices}
    return shape_bias(model, LaidOut(dataset, own, count, transfer), categories=known)


def _transfer(arguments: argparse.Namespace) -> Transfer:
    if (arguments.encoder is None) != (arguments.decoder is None):
        raise vv.InputError("AdaIN takes both --encoder and --decoder")
    return Quilting() if arguments.encoder is None else AdaIN(arguments.encoder, arguments.decoder)


_HEAD = """\
# Shape or texture in an ImageNet network

Islam et al. 2021 find in ImageNet's ResNets twice as many texture dimensions as shape dimensions, and more so in
early layers than in late ones (of a ResNet50, from the first to the last stage: shape 12.5 % to 17.0 %, texture 42.2
% to 33.8 %). Here {model} is asked the same, at the last layer of each resolution, on {pairs} pairs of each factor:
photographs (one a class, 400 of ImageNet's classes) laid out in textures by [quilting](shape-texture.md), of
generated patterns and of {textures} photographs of textures. Nothing here was stylised with AdaIN, as in the paper,
whose weights cannot be shipped. Intervals are 95 %, by bootstrap of the pairs.
"""


def _write_page(
    place: Path,
    arguments: argparse.Namespace,
    model: str,
    found: Mapping[str, Mapping[str, Mapping[str, Dimensionality]]],
    bias: ShapeBias,
) -> None:
    lines = [
        filled(_HEAD.format(model=model, pairs=arguments.pairs, textures=len(arguments.textures))),
        "",
        "```shell",
        "python benchmarks/shape_texture_photographs.py 'folder:FOLDER?label=wnid' \\",
        f"    --pairs {arguments.pairs} --page shape-texture-photographs.md{' --notes NOTES' * bool(arguments.notes)}",
        "```",
        "",
        "| textures | weights | layer | shape | texture | of |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, of in found.items():
        for which, each in of.items():
            for path, one in each.items():
                cells = [
                    f"{share:.1%} ({low:.1%} to {high:.1%})"
                    for share, low, high in zip(one.shares[:2], one.low, one.high, strict=False)
                ]
                lines.append(f"| {name} | {which} | `{path}` | {' | '.join(cells)} | {one.units} |")
    for number, (name, of) in enumerate(found.items(), 1):
        figure = f"{place.stem}-{number}.svg"
        save_figure(dimension_bars(of["ImageNet weights"], title=f"{model}, {name}"), place.parent / figure)
        lines += ["", f"![dimensions of each stage, {name}]({figure})"]
    shape, texture, neither = bias.counts
    lines += [
        "",
        filled(
            f"Cue conflict: of {len(bias.decisions)} photographs of one class in the texture of a photograph of "
            f"another, decided among {len(bias.names)} classes, {shape} are for the shape, {texture} for the texture, "
            f"{neither} for neither: shape bias {bias.bias:.2f} ({bias.low:.2f} to {bias.high:.2f}). "
            "Quilting keeps less of the shape than the style transfer of Geirhos et al. 2019: this is not their number."
        ),
        "",
    ]
    if arguments.notes is not None:
        lines += ["## What was found", "", text_of(arguments.notes).rstrip("\n"), ""]
    write_bytes(place, "\n".join(lines).encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="labelled photographs, such as folder:FOLDER?label=wnid")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--textures", nargs="+", default=list(TEXTURES), help="classes whose photographs are textures")
    parser.add_argument("--pairs", type=int, default=200, help="of each factor (200)")
    parser.add_argument("--encoder", help="AdaIN's VGG weights, in place of quilting")
    parser.add_argument("--decoder", help="AdaIN's decoder weights")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    parser.add_argument("--page", type=Path, help="write a page there, and its figures beside it")
    parser.add_argument("--notes", type=Path, help="a text for the page: what a reader made of the numbers")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    try:
        run(_parser().parse_args(words), Console())
    except vv.VisavisError as error:
        sys.exit(f"shape_texture_photographs.py: {error}")


if __name__ == "__main__":
    main()
