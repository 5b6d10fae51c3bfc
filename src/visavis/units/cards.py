"""What a unit responds to: the images on which it fires most, where it fires, what it sees there, and why it fires.

The why is a contrastive map (CLRP; Gu, Yang, Tresp 2018) of the unit at the position, against the layer's other units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.explanation import over_channels
from visavis.methods import CLRP
from visavis.units.above import Above
from visavis.units.data import BATCH, Data, batches
from visavis.units.layer import Layer, layer_of
from visavis.units.receptive import receptive_fields

# Maps that are made at a time.
_MAPS = 8
# In place of a label where there is none.
_UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Firing:
    """An image on which a unit fires strongly.

    Attributes:
        unit: which.
        image: its number in the data, from 0.
        label: its class; None where the data have no labels.
        value: of the unit, the largest over its positions.
        position: where that is: (y, x) in a map, (token,), or () of units without positions; the first of several.
        positions: how many there are along each of these dimensions.
        inputs: the image as the model took it, (C, H, W) or (...), on the CPU.
    """

    unit: int
    image: int
    label: int | None
    value: float
    position: tuple[int, ...]
    positions: tuple[int, ...]
    inputs: Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """What a unit saw when it fired.

    Attributes:
        firing: when.
        picture: the image as the network saw it, (3, H, W), 0 to 1, on the CPU.
        field: the receptive field of the position that fired, x0, y0, x1, y1 in pixels of the picture, half-open.
        heat: (H, W), at least 0, on the CPU: what speaks for this unit, there, rather than for the layer's others.
    """

    firing: Firing
    picture: Tensor
    field: tuple[int, int, int, int]
    heat: Tensor


def strongest(
    model: nn.Module | Classifier,
    layer: str | Layer,
    data: Data | Tensor | Iterable[Tensor],
    units: Sequence[int],
    *,
    count: int = 6,
    progress: Callable[[int], None] | None = None,
) -> tuple[tuple[Firing, ...], ...]:
    """Return the images on which each unit's maximal activation is largest, the largest first; of equal ones the first.

    The data are gone through once, and of the images only those are held that are among some unit's largest so far.

    Args:
        model, layer: as for `ablate`.
        data: as for `ablate`; or without labels: all inputs (N, ...), or batches of them.
        units: which.
        count: how many images of each, at least 1; fewer where there are fewer.
        progress: is told how many images have been gone through.

    Raises:
        InputError, ModelError: as for `ablate`; the units' values are NaN.
    """
    if count < 1:
        raise InputError(f"a unit is shown on at least one image, not on {count}")
    if not units:
        return ()
    above = Above(model, layer)
    best: list[list[Firing]] = [[] for _ in units]
    images = 0
    for inputs, labels in batches(_labelled(data), above.module):
        kept = above.keep(inputs)
        for unit in units:
            if not 0 <= unit < kept.units:
                raise InputError(f"there is no unit {unit} in layer {above.layer!r}, which has {kept.units} units")
        values = kept.coordinates[:, list(units)].cpu()
        if bool(values.isnan().any()):
            raise ModelError(f"activations of layer {above.layer!r} are NaN, of which none is the largest")
        positions = tuple(values.shape[2:])
        most, flat = values.reshape(*values.shape[:2], -1).max(2)
        held: dict[int, Tensor] = {}
        for row, unit in enumerate(units):
            new = []
            # No more than so many of a batch can be among them; what is not larger than the last of all is not held.
            for item in most[:, row].argsort(descending=True, stable=True)[:count].tolist():
                value = float(most[item, row])
                if len(best[row]) == count and value <= best[row][-1].value:
                    break
                if item not in held:
                    held[item] = inputs[item].detach().to("cpu", copy=True)
                label = int(labels[item])
                at = _unravelled(int(flat[item, row]), positions)
                known = None if label == _UNLABELLED else label
                new.append(Firing(int(unit), images + item, known, value, at, positions, held[item]))
            best[row] = sorted(best[row] + new, key=lambda one: -one.value)[:count]
        images += len(inputs)
        if progress is not None:
            progress(images)
    return tuple(map(tuple, best))


def firing_maps(
    model: nn.Module | Classifier,
    layer: str | Layer,
    firings: Sequence[Firing],
    *,
    foil: Any = "others",
    **options: Any,
) -> list[Tensor]:
    """Return why units fire where they do: the CLRP map of each, (H, W), on the CPU, contrasted with other units.

    Args:
        model, layer: as for `strongest`.
        firings: F of them, of images of one size.
        foil: what a unit is contrasted with, at its position: "others", all of the layer's other units alike, or what
            else `CLRP` takes that holds for any.
        options: what else `CLRP` takes, such as `rules`.

    Raises:
        InputError: the layer is given another basis, heads or a call: its units are not a layer's own output.
        ModelError, UnsupportedOperationError: the model cannot be explained.
    """
    which = layer_of(layer)
    if which.basis is not None or which.heads is not False or which.call is not None:
        raise InputError(
            "maps are of a layer's own units, not of another basis, attention heads or one of several calls; give the "
            "layer by its path"
        )
    found: list[Tensor] = []
    if not firings:
        return found
    device = _device(model)
    unit_dim = Above(model, which).keep(firings[0].inputs[None].to(device)).unit_dim
    clrp = CLRP(model, layer=which.path, unit_dim=unit_dim, foil=foil, **options)
    for start in range(0, len(firings), _MAPS):
        some = firings[start : start + _MAPS]
        inputs = torch.stack([one.inputs for one in some]).to(device)
        where: Tensor | None = None
        if some[0].positions:
            where = torch.zeros(len(some), *some[0].positions, dtype=torch.bool)
            for item, one in enumerate(some):
                where[(item, *one.position)] = True
        relevance = clrp.attribute(inputs, [one.unit for one in some], position=where)
        found += list(over_channels(relevance).detach().cpu())
    return found


def unit_cards(
    model: nn.Module | Classifier,
    layer: str | Layer,
    data: Data | Tensor | Iterable[Tensor],
    units: Sequence[int],
    *,
    count: int = 6,
    foil: Any = "others",
    progress: Callable[[int], None] | None = None,
) -> tuple[tuple[Seen, ...], ...]:
    """Return, of each unit, the pictures on which it fires most, with what it sees there and why it fires.

    Args:
        model, layer, data, units, count, progress: as for `strongest`; the inputs are pictures (B, C, H, W) of one
            size.
        foil: as for `firing_maps`.

    Raises:
        InputError, ModelError, UnsupportedOperationError: as for `strongest`, `firing_maps` and `receptive_fields`.
    """
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    rows = strongest(model, layer, data, units, count=count, progress=progress)
    firings = [one for row in rows for one in row]
    if not firings:
        return ()
    places = [(one.unit, one.position) for one in firings]
    apart = list(dict.fromkeys(places))
    fields = receptive_fields(model, layer, firings[0].inputs[None].to(_device(model)), apart).tolist()
    maps = firing_maps(model, layer, firings, foil=foil)
    seen = iter(
        Seen(one, classifier.picture(one.inputs[None])[0], tuple(fields[apart.index(place)]), heat)
        for one, place, heat in zip(firings, places, maps, strict=True)
    )
    return tuple(tuple(next(seen) for _ in row) for row in rows)


def _labelled(data: Data | Tensor | Iterable[Tensor]) -> Any:
    """Return batches of inputs and labels, which are −1 where there are none."""
    if isinstance(data, Tensor):
        return _with_none(torch.split(data, BATCH))
    if isinstance(data, tuple):
        return data
    return _with_none(data)


def _with_none(data: Iterable[Any]) -> Iterator[Any]:
    for batch in data:
        yield (batch, torch.full((len(batch),), _UNLABELLED)) if isinstance(batch, Tensor) else batch


def _unravelled(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    found: list[int] = []
    for size in reversed(shape):
        flat, place = divmod(flat, size)
        found.append(place)
    return tuple(reversed(found))


def _device(model: nn.Module | Classifier) -> torch.device:
    module = model.module if isinstance(model, Classifier) else model
    return next((one.device for one in (*module.parameters(), *module.buffers())), torch.device("cpu"))


__all__ = ["Firing", "Seen", "firing_maps", "strongest", "unit_cards"]
