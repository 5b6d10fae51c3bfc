"""The page of the study of shape and texture: what each measure says of the four networks, and figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from page_text import filled
from shape_texture_measures import BAND, MEASURES, RANDOM_SETS, Estimate, Measured
from shape_texture_networks import LAST, NETWORKS, RANDOM, SHAPES, SIZE, TEXTURES, WORDS, scenes_of
from shape_texture_study import Study, verdicts

from visavis.files import check_place, write_bytes
from visavis.plotting.saving import save_figure
from visavis.reports.shape_texture import (
    RemovalCurve,
    RemovalPanel,
    bias_against_dimensions,
    conflict_figure,
    dimension_bars,
    dimension_curves,
    readout_masks,
    removal_curves,
)
from visavis.shape_texture import SceneSegments

_TITLES = {"shape": "by shape", "both": "by both", RANDOM: "random weights", "texture": "by texture"}
_SHOWN = 3

_HEAD = """\
# Shape or texture: four networks

Does a network go by shape or by texture, and do the ways of asking agree? Four networks of one architecture (four
convolutions, {size} px, the last with {units} units) see the same kind of generated pictures: a grey object with one
of {shapes} shapes and one of {textures} textures, on a coloured ground. One learned to name the shape, one the
texture, one both ({classes} classes), and one has random weights, on which a linear layer was taught both.
Dimensionality, the removal of neurons and read-outs are after Islam et al. 2021, cue conflict after Geirhos et al.
2019; the words are those of [shape or texture](shape-texture.md).

Intervals are 95 %, by bootstrap of what was measured on: pairs, pictures, test images. **They say how far a number
would move with other pictures, not with another training**: of each kind there is one network, seed {seed}. An end of
the shape bias where all decisions are for one cue is that of Clopper and Pearson.
"""
_DIMENSIONS = """\
## Dimensions

How many of the last layer's dimensions encode shape, and texture. The estimator's softmax gives each 21 % where a
layer encodes neither, as the random network shows."""
_TRAINING = """\
The same over the training of each network:"""
_REMOVAL = """\
## Without the neurons of a factor

A unit counts as a shape unit where its score for shape is the larger one, and above 0, as a texture unit likewise;
removed units are replaced by their mean. Accuracy by the network's own labels; "as many at random" is the mean of
{sets} sets:"""
_MISSED = """\
In the networks by shape and by texture all units, or nearly all, are of one factor, so that removing them leaves
nothing, and any ranking would say as much. The network by both is where the choice matters: its shape units are missed
by {shape} more than as many at random, its texture units by {texture}."""
_CURVES = """\
Removed one after another, by rank, things are less clear. The network by texture loses nothing by any order until few
units are left, for each of its units tells textures apart, and the order by texture is not worse for it than others.
Ranks by covariance put units of large activations first, which need not be those that the head relies on."""
_READOUT = """\
## Read-outs

A head of one convolution on the last layer, whose units are standardised first, names what is at each pixel: the
background or one of six classes, once by shape and once by texture. mIoU:"""
_CONFLICT = """\
## Cue conflict

Pictures whose shape is of one category and whose texture is of another. Of the network by both, a category's class is
that in which shape and texture agree, such as "{example}". Decisions:"""
_BIAS = """\
Shape bias against dimensions of the last layer:"""
_CONTRAST = """\
## In pixels

What speaks for the shape's class rather than for the texture's, and the other way round, in the network by both
(CLRP). Below, where the relevance lies on the mean over {maps} pictures: within {band:g} px of the outline, inside the
object, and on the ground; a map that is the same everywhere has the shares of the last row. What speaks for
the texture lies more inside than what speaks for the shape; both lie at the outline more than chance has it, and what
speaks for the shape is on the ground too."""


def write_page(place: Path, found: Study) -> None:
    """Write the page, and its figures beside it.

    Raises:
        OutputError: a place cannot be written.
    """
    figures = {
        f"{place.stem}-dimensions.svg": dimension_bars(
            {_TITLES[kind]: found.networks[kind].dimensionality[LAST] for kind in NETWORKS},
            title="How much of the last layer encodes shape, how much texture?",
        ),
        f"{place.stem}-training.svg": dimension_curves(
            [100 * share for share in next(iter(found.training.values()))],
            {_TITLES[kind]: list(each.values()) for kind, each in found.training.items()},
            unit="% of the training",
            title="When does the last layer come to encode shape, and texture?",
        ),
        f"{place.stem}-removal.svg": removal_curves(
            [_panel(kind, found.networks[kind]) for kind in NETWORKS], layer=LAST
        ),
        f"{place.stem}-readouts.png": _masks(found),
        f"{place.stem}-bias.svg": _bias(found),
        f"{place.stem}-conflicts.png": conflict_figure(found.networks["both"].maps),
    }
    for name, figure in figures.items():
        check_place(place.parent / name)
        save_figure(figure, place.parent / name)
    write_bytes(place, "\n".join([*_page(found, list(figures)), ""]).encode())


def _page(found: Study, figures: list[str]) -> Iterator[str]:
    networks = found.networks
    yield filled(
        _HEAD.format(
            size=SIZE,
            units=networks["shape"].dimensionality[LAST].units,
            shapes=len(SHAPES),
            textures=len(TEXTURES),
            classes=len(SHAPES) * len(TEXTURES),
            seed=found.seed,
        )
    )
    command = "python benchmarks/shape_texture_study.py --page shape-texture-study.md"
    yield f"\n```shell\n{command}   # {found.seconds:.0f} s\n```\n"
    yield "| network | right | " + " | ".join(MEASURES.values()) + " |"
    yield "|" + " --- |" * (2 + len(MEASURES))
    for kind in NETWORKS:
        one = networks[kind]
        cells = [_cell(one.numbers[name]) for name in MEASURES]
        yield f"| {WORDS[kind]} | {one.accuracy:.1%} | {' | '.join(cells)} |"
    yield ""
    for verdict in verdicts(networks):
        apart = "no two intervals of the three that learned overlap" if verdict.apart else "intervals overlap"
        between = "lies" if verdict.between else "does not lie"
        yield f"- *{verdict.measure}*: {apart}; the random network {between} between those by shape and by texture."
    yield f"\n{filled(_DIMENSIONS)}\n\n![shares of the last layer's dimensions]({figures[0]})\n"
    yield f"{filled(_TRAINING)}\n\n![shares over the training]({figures[1]})\n"
    yield f"{filled(_REMOVAL.format(sets=RANDOM_SETS))}\n"
    yield "| network | as it is | without its shape units | as many at random | without its texture units | as many |"
    yield "|" + " --- |" * 6
    for kind in NETWORKS:
        one = networks[kind]
        cells = [
            f"{each.accuracy:.1%} (without {each.units}) | {each.others:.1%}"
            for each in (one.without["shape"], one.without["texture"])
        ]
        yield f"| {WORDS[kind]} | {one.accuracy:.1%} | {' | '.join(cells)} |"
    missed = [_cell(one.missed) for one in networks["both"].without.values()]
    yield f"\n{filled(_MISSED.format(shape=missed[0], texture=missed[1]))}"
    yield f"\n{filled(_CURVES)}\n\n![accuracy against units removed]({figures[2]})\n"
    yield f"{filled(_READOUT)}\n"
    yield "| network | classes by shape | classes by texture |\n| --- | --- | --- |"
    for kind in NETWORKS:
        each = networks[kind].readouts
        cells = [_cell(Estimate(one.miou, one.low, one.high)) for one in (each["shape"], each["texture"])]
        yield f"| {WORDS[kind]} | {' | '.join(cells)} |"
    yield f"\n![masks read out beside the truth]({figures[3]})\n"
    yield f"{filled(_CONFLICT.format(example=f'{TEXTURES[0]} {SHAPES[0]}'))}\n"
    yield "| network | for the shape | for the texture | for neither | shape bias |\n| --- | --- | --- | --- | --- |"
    for kind in NETWORKS:
        one = networks[kind]
        yield f"| {WORDS[kind]} | {' | '.join(map(str, one.bias.counts))} | {_cell(one.numbers['cue conflict'])} |"
    yield f"\n{filled(_BIAS)}\n\n![shape bias against dimensions]({figures[4]})\n"
    yield f"{filled(_CONTRAST.format(maps=min(found.sizes.maps, found.sizes.conflicts), band=BAND))}\n"
    yield f"![maps of both cues]({figures[5]})\n"
    yield "| network, map | at the outline | inside | on the ground |\n| --- | --- | --- | --- |"
    for kind in ("shape", "both", "texture"):
        for cue in ("shape", "texture"):
            yield f"| {WORDS[kind]}, for the {cue} | {_shares(networks[kind].edges[cue])} |"
    yield f"| the same everywhere | {_shares(networks['both'].edges['flat'])} |"


def _cell(one: Estimate) -> str:
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})".replace("-", "−")


def _shares(edges: tuple[float, float, float]) -> str:
    return " | ".join("–" if np.isnan(one) else f"{one:.0%}" for one in edges)


def _panel(kind: str, one: Measured) -> RemovalPanel:
    lines = {
        name if name == RANDOM else f"top {name}": RemovalCurve(
            curve.accuracy, torch.stack([curve.low, curve.high], -1)
        )
        for name, curve in one.removal.curves.items()
    }
    return RemovalPanel(_TITLES[kind], one.removal.counts, lines, one.accuracy)


def _bias(found: Study) -> Figure:
    of = [found.networks[kind] for kind in NETWORKS]
    last = [one.dimensionality[LAST] for one in of]
    shares = {factor: [float(one.shares[one.factors.index(factor)]) for one in last] for factor in ("shape", "texture")}
    return bias_against_dimensions(
        [_TITLES[kind] for kind in NETWORKS],
        [one.bias.bias for one in of],
        [(one.bias.low, one.bias.high) for one in of],
        shares["shape"],
        shares["texture"],
        layer="the last layer",
    )


def _masks(found: Study) -> Figure:
    """Draw test pictures beside what the read-outs of shape say of them."""
    tested = SceneSegments(scenes_of(_SHOWN, found.seed + 2000))
    items = [tested[place] for place in range(_SHOWN)]
    of = {_TITLES[kind]: found.networks[kind].readouts["shape"] for kind in NETWORKS}
    return readout_masks(
        [image.permute(1, 2, 0).numpy() for image, _ in items],
        [labels.numpy() for _, labels in items],
        {name: [one.predict(image[None])[0].numpy() for image, _ in items] for name, one in of.items()},
        tested.names,
        scores={name: one.miou for name, one in of.items()},
        title="What a head reads out of the last layer: where is the object, and which shape has it?",
    )
