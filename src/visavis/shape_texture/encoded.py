"""Where in a network shape and texture are encoded: the dimensionality of its layers, one by one and all together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.shape_texture.dimensionality import Dimensionality, check_options, dimensionality
from visavis.shape_texture.images import Prepare, whole_images
from visavis.shape_texture.latents import Latents
from visavis.shape_texture.options import Progress
from visavis.shape_texture.pairs import FACTORS, Factor, Pairs
from visavis.units.layer import Layer

#: What all layers together are called.
ALL = "all"
_BATCH = 32


def layer_dimensionality(
    model: nn.Module | Classifier,
    layers: Sequence[str | Layer],
    pairs: Pairs,
    *,
    prepare: Prepare | None = None,
    estimator: str = "sum_cov",
    draws: int = 1000,
    seed: int = 0,
    batch_size: int = _BATCH,
    progress: Progress | None = None,
) -> dict[str, Dimensionality]:
    """Estimate how many dimensions of each layer encode shape and texture, and of all layers side by side.

    Args:
        model: run in eval mode whatever mode it is in, and left as it was.
        layers: paths of modules, or `Layer`s, as for `Latents`.
        pairs: images that share one factor.
        prepare: makes inputs of images; None: the normalisation of a `Classifier` with preprocessing, without its
            cropping; of other models, the images as they are.
        estimator, draws, seed: as for `dimensionality`.
        batch_size: images in a forward pass.
        progress: is told how many images are done, of how many, and of what.

    Returns:
        By the path of the layer, in their order; of several also "all".

    Raises:
        InputError: no such layers or estimator; there are fewer than two pairs of a factor; a layer holds NaN or
            infinity; of several layers one is called "all".
        ModelError: the model fails, or hides what it computes.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, but at least 1 was expected")
    check_options(estimator, draws, seed)
    latents = Latents(model, layers)
    ready = whole_images(model) if prepare is None else prepare
    found = {factor: _of_pairs(latents, pairs, factor, ready, batch_size, progress) for factor in FACTORS}
    paths = [one.path for one in latents.layers]
    by_layer: dict[str, dict[str, tuple[Tensor, Tensor]]] = {
        path: {factor: (first[path], second[path]) for factor, (first, second) in found.items()} for path in paths
    }
    if len(paths) > 1:
        if ALL in paths:
            raise InputError(f"a layer is called {ALL!r}, as all layers together are; ask for it alone")
        by_layer[ALL] = {
            factor: (torch.cat([first[path] for path in paths], 1), torch.cat([second[path] for path in paths], 1))
            for factor, (first, second) in found.items()
        }
    return {path: dimensionality(both, estimator=estimator, draws=draws, seed=seed) for path, both in by_layer.items()}


def _of_pairs(
    latents: Latents,
    pairs: Pairs,
    factor: Factor,
    prepare: Prepare,
    batch_size: int,
    progress: Progress | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the latents of both images of all pairs of a factor."""
    count = pairs.count(factor)
    if count < 2:
        raise InputError(f"there are {count} pairs that share the {factor}, but at least two were expected")
    half = max(1, batch_size // 2)

    def batches() -> Iterator[Tensor]:
        for start in range(0, count, half):
            drawn = [pairs.pair(factor, index) for index in range(start, min(start + half, count))]
            yield prepare(torch.stack([image for pair in drawn for image in pair]))
            if progress is not None:
                progress(start + len(drawn), count, f"pairs of one {factor}")

    both = latents.of_all(batches())
    for path, one in both.items():
        if not bool(one.isfinite().all()):
            raise InputError(
                f"layer {path!r} holds NaN or infinity on pairs that share the {factor}; look at the model's weights "
                "and the range of its inputs"
            )
    return {path: one[0::2] for path, one in both.items()}, {path: one[1::2] for path, one in both.items()}


__all__ = ["ALL", "layer_dimensionality"]
