"""The study of a layer's units on a data set of any size: what each does, what it is needed for, and several together.

After Zhou, Sun, Bau, Torralba 2018 (arXiv 1806.02891). Sums over pictures are in memory, and one batch. What is found
does not depend on where a run was cut: batches are the same each time, and are summed in the same order.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visavis.benchmarking.runs import chosen_pictures, classes_between, raising, random_numbers_kept, weights_digest
from visavis.classifier import Classifier
from visavis.datasets.annotated import AnnotatedDataset
from visavis.datasets.registry import open_dataset
from visavis.devices import choose_device
from visavis.errors import InputError
from visavis.models import load_model
from visavis.models.own_model import ModelOptions
from visavis.unit_runs.pictures import Batch, batches
from visavis.unit_runs.state import Expected, State, StateFolder, read_state, write_state
from visavis.units.ablation import Ablation, tally
from visavis.units.above import Above
from visavis.units.activations import Activations, summed, weights_of
from visavis.units.attributes import attribute
from visavis.units.cumulative import doubling, orders
from visavis.units.last import last_layer
from visavis.units.layer import Layer, layer_of
from visavis.units.removal import VALUES, check_units, predictions
from visavis.version import __version__

#: Takes how much of this run's work is done, how much there is, and what is at work.
Progress = Callable[[int, int, str], None]
#: How many pictures are gone through at a time.
BATCH = 16
#: In how many random orders several units are removed.
DRAWS = 5
# A run that is killed loses the work of so many seconds, and of a batch.
_SECONDS = 10.0
_PARTS = {"activations": "what units do", "singly": "one by one", "together": "several at once"}


@dataclass(frozen=True, eq=False)
class Found:
    """What a study of units has found.

    Attributes:
        words: what it was, as JSON holds it.
        classifier: the model.
        layer: whose units.
        dataset: on which pictures.
        chosen: which of them, by number.
        activations: what all units do.
        singly: the ablation of each unit that was asked for.
        ordered_by: the name of the attribute that units were removed in the order of.
        curves: the ablation of more and more units, in "descending", "ascending" and "random" order; of the last there
            are DRAWS, one after the other.
        counts: how many are removed at each point of the curves.
        passed: the pictures that were passed over, each with the reason.
    """

    words: Mapping[str, Any]
    classifier: Classifier
    layer: Layer
    dataset: AnnotatedDataset
    classes: Mapping[str, tuple[int, ...]]
    chosen: tuple[int, ...]
    activations: Activations
    singly: Ablation
    ordered_by: str
    curves: Mapping[str, Ablation]
    counts: tuple[int, ...]
    passed: tuple[tuple[str, str], ...]

    @property
    def units(self) -> tuple[int, ...]:
        """The units that were ablated one by one."""
        return tuple(one for (one,) in self.singly.sets)


def study(
    dataset: AnnotatedDataset | str,
    model: str | Classifier,
    layer: str | Layer | None,
    folder: str | os.PathLike[str],
    *,
    units: Sequence[int] | None = None,
    value: str = "zero",
    order: str = "correlation",
    limit: int | None = None,
    seed: int = 0,
    batch: int = BATCH,
    device: str | None = None,
    options: ModelOptions | None = None,
    progress: Progress | None = None,
) -> Found:
    """Study the units of a layer on a data set, and keep what is found in a folder.

    A run that was ended, at any moment, is taken up by the same call, and comes to the same numbers as one that was
    not. A picture that cannot be used is passed over, and named.

    Args:
        dataset: an annotated data set, or its spelling as `open_dataset` takes it.
        model: a name as `load_model` takes it, or a classifier with preprocessing.
        layer: whose units; None: the last layer with positions.
        folder: for the results, new or of the same run.
        units: those that are ablated one by one; None: all.
        value: "zero" or "mean", what activations are replaced by.
        order: the name of an attribute; units are removed in its order, the reverse, and at random.
        limit: how many pictures, drawn at random; None: all.
        seed: of the draws.
        batch: how many pictures at a time.
        device: for a model that is given by name; by default the best there is.
        options: what comes along with a model that is given by name.
        progress: told from time to time.

    Raises:
        InputError: an argument is not as described, the folder is of another run, or no picture can be used.
        ModelError: the model cannot be loaded, or fails.
        OutputError: the folder cannot be written, or another run is at work in it.
    """
    if value not in VALUES:
        raise InputError(f"units are replaced by {' or '.join(VALUES)}, not by {value!r}")
    if batch < 1 or (limit is not None and limit < 1):
        raise InputError(f"batch and limit are whole numbers of at least 1, not {batch} and {limit}")
    attribute(order)
    if order == "alignment":
        raise InputError("concept alignment needs masks of concepts, which a run over a data set has not; name another")
    opened = open_dataset(dataset) if isinstance(dataset, str) else dataset
    chosen = chosen_pictures(len(opened), limit, seed)
    if isinstance(model, str):
        along = {} if options is None else options.arguments(model)
        classifier = load_model(model, device=str(choose_device(device)), **along)
    else:
        classifier = model
    classes = classes_between(opened, classifier)
    with random_numbers_kept(classifier.device), raising(classifier, model, options):
        meant = layer_of(layer) if layer is not None else Layer(_last(classifier, opened, chosen))
        torch.manual_seed(seed)  # for models that draw
        run = _Run(opened, classifier, classes, chosen, meant, batch, progress)
        words = {
            "dataset": dataset if isinstance(dataset, str) else opened.name,
            "pictures in the data set": len(opened),
            "data": opened.digest,
            "model": model if isinstance(model, str) else model.name,
            "layer": meant.path,
            "call": meant.call,
            "heads": meant.heads,
            "dimension of units": meant.unit_dim,
            "units": None if units is None else [int(unit) for unit in units],
            "value": value,
            "order": order,
            "limit": limit,
            "seed": seed,
            "pictures a batch": batch,
            "device": classifier.device.type,
            "visavis": __version__,
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "numpy": np.__version__,
            **({} if options is None else options.words()),
        }
        with StateFolder(folder, words) as results:
            weights = weights_digest(classifier)
            return run.through(results, weights, words, units, value, order, seed)


class _Run:
    """One call of `study`, while it is worked on."""

    def __init__(
        self,
        dataset: AnnotatedDataset,
        classifier: Classifier,
        classes: Mapping[str, tuple[int, ...]],
        chosen: Sequence[int],
        layer: Layer,
        batch: int,
        progress: Progress | None,
    ) -> None:
        self.dataset, self.classifier, self.classes = dataset, classifier, classes
        self.chosen, self.layer, self.batch, self.progress = chosen, layer, batch, progress
        self.above = Above(classifier, layer)
        #: Whether the weights that make the units have been looked up, which is done once.
        self.weighed = False
        #: Predictions of what was done before, and of all.
        self.before, self.total = 0, 0

    def through(
        self,
        results: StateFolder,
        weights: str,
        words: Mapping[str, Any],
        units: Sequence[int] | None,
        value: str,
        order: str,
        seed: int,
    ) -> Found:
        """Go through the pictures: what units do, without each, and without more and more."""
        first = self._part(results, "activations", weights, Expected(), partial(self._seen, units, order))
        seen = first.activations
        if seen is None:
            reason = f", as {first.passed[0][0]}: {first.passed[0][1]}" if first.passed else ""
            raise InputError(f"none of the {len(self.chosen)} pictures of {self.dataset.name} can be used{reason}")
        units_there = len(seen.maximum)
        instead = seen.value_means if value == "mean" else torch.zeros(units_there, dtype=torch.float64)
        singly = [[int(unit)] for unit in (range(units_there) if units is None else units)]
        counts = doubling(units_there)
        values = attribute(order).of(seen)
        ranked = orders(values, seed=seed)
        drawn = [orders(values, seed=seed + number)["random"] for number in range(DRAWS)]
        together = [
            list(one[:count]) for one in (ranked["descending"], ranked["ascending"], *drawn) for count in counts
        ]
        self.before = len(self.chosen)
        self.total = len(self.chosen) * (1 + len(singly) + len(together))
        without = {"singly": singly, "together": together}
        parts: dict[str, Ablation] = {}
        for name, sets in without.items():
            ablated = partial(self._ablated, sets, instead)
            expected = Expected(tuple(map(tuple, sets)), seen)
            state = self._part(results, name, weights, expected, ablated)
            assert state.ablation is not None
            parts[name] = state.ablation
            self.before += len(self.chosen) * len(sets)
        ends = {"descending": (0, 1), "ascending": (1, 2), "random": (2, 2 + DRAWS)}
        curves = {
            name: parts["together"].of_sets(slice(begin * len(counts), end * len(counts)))
            for name, (begin, end) in ends.items()
        }
        return Found(
            words,
            self.classifier,
            self.layer,
            self.dataset,
            self.classes,
            tuple(self.chosen),
            seen,
            parts["singly"],
            order,
            curves,
            counts,
            first.passed,
        )

    def _part(
        self,
        results: StateFolder,
        name: str,
        weights: str,
        expected: Expected,
        of_batch: Callable[[Batch, Callable[[int], None]], Ablation | Activations],
    ) -> State:
        """Go through the pictures that a part of the run has not seen, and return what it has found of all.

        Args:
            results: where it is kept.
            name: of the part.
            weights: the digest of the model's.
            expected: what is known of it beforehand.
            of_batch: finds it of one batch, and tells how many predictions were made.
        """
        state = read_state(results, name, weights, len(self.chosen), expected)
        runs = len(expected.sets) if expected.sets is not None else 1
        passed = list(state.passed)
        field = "activations" if name == "activations" else "ablation"
        written = time.monotonic()
        taken = batches(
            self.dataset,
            self.chosen,
            self.batch,
            self.classifier,
            self.classes,
            lambda picture, reason: passed.append((picture, reason)),
            done=state.done,
        )
        for end, batch in taken:
            if batch is not None:
                found: Any = of_batch(batch, partial(self._tell, name, state.done * runs))
                so_far = getattr(state, field)
                state = replace(state, **{field: found if so_far is None else so_far + found})
            state = replace(state, done=end, passed=tuple(passed))
            if end == len(self.chosen) or time.monotonic() - written > _SECONDS:
                write_state(results, name, weights, state)
                written = time.monotonic()
        return state

    def _tell(self, name: str, done: int, made: int) -> None:
        if self.progress is not None:
            self.progress(self.before + done + made, max(self.total, self.before + done + made), _PARTS[name])

    def _seen(self, units: Sequence[int] | None, order: str, batch: Batch, told: Callable[[int], None]) -> Activations:
        kept = self.above.keep(batch.inputs)
        check_units(units or (), kept)  # before hours are spent on the rest
        told(len(batch.labels))
        found = summed(kept, batch.labels)
        if not self.weighed:
            found, self.weighed = replace(found, weights=weights_of(self.above, batch.inputs)), True
        if len(batch.labels) > 1 and bool((found.counts > 0).sum() > 1):
            attribute(order).of(found)  # which may not be defined for such a layer
        return found

    def _ablated(self, sets: list[list[int]], instead: Tensor, batch: Batch, told: Callable[[int], None]) -> Ablation:
        (found,) = predictions(self.above, [(batch.inputs, batch.labels)], sets, instead, told)
        return tally(self.layer.path, found)


def _last(classifier: Classifier, dataset: AnnotatedDataset, chosen: Sequence[int]) -> str:
    """Return the layer that is studied where none is named, by the first picture that can be read."""
    for number in chosen:
        try:
            inputs = classifier.prepare(dataset[number].load())
        except InputError:
            continue
        return last_layer(classifier.module, inputs)
    raise InputError(f"none of the {len(chosen)} pictures of {dataset.name} can be read")


__all__ = ["BATCH", "DRAWS", "Found", "Progress", "study"]
