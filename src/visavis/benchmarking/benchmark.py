"""Every method on every model by every metric, over a data set of any size, a shard of pictures at a time.

Results do not depend on where a run was cut: a shard is measured by itself, and what is random in a case is seeded by
the case's name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visavis.benchmarking.cases import CLASSES
from visavis.benchmarking.measuring import case_seed, measure
from visavis.benchmarking.runs import (
    check_weights,
    chosen_pictures,
    classes_between,
    explainer_titles,
    explainers_on,
    raising,
    random_numbers_kept,
    weights_digest,
)
from visavis.benchmarking.shards import Folder, Shard
from visavis.classifier import Classifier
from visavis.datasets.annotated import AnnotatedDataset
from visavis.datasets.registry import open_dataset
from visavis.devices import choose_device
from visavis.errors import InputError
from visavis.evaluation.base import Explainer, metrics
from visavis.evaluation.explainers import baselines, checked_channels
from visavis.evaluation.spelling import method_of, metric_of, split
from visavis.models import load_model
from visavis.models.own_model import ModelOptions
from visavis.version import __version__

#: Takes how much of this run's work is done, how much there is, and what is at work.
Progress = Callable[[int, int, str], None]
#: A measurement of time does not repeat; whoever wants it asks for it.
ON_REQUEST = ("cost",)
#: How many pictures a shard has at most, and into how many shards a run of fewer pictures is cut.
SHARD = 16


def usual_metrics() -> tuple[str, ...]:
    """Return the names of the metrics that give the same numbers each time."""
    return tuple(name for name in metrics() if name not in ON_REQUEST)


def benchmark(
    dataset: AnnotatedDataset | str,
    models: Sequence[str | Classifier],
    methods: Sequence[str],
    metrics: Sequence[str],
    folder: str | os.PathLike[str],
    *,
    limit: int | None = None,
    seed: int = 0,
    classes: str = "present",
    channels: str = "sum",
    shard: int | None = None,
    device: str | None = None,
    options: ModelOptions | None = None,
    progress: Progress | None = None,
) -> Path:
    """Measure methods, and the baselines, on models, and return the folder with the results.

    One shard of pictures is in memory at a time. A run that was ended, at any moment, is taken up by the same call: it
    loses no shard that was done, counts nothing twice, and comes to the same numbers as one that was not ended. What
    cannot be used (a damaged picture, a class that the model has not) is passed over, and kept with its reason.

    Args:
        dataset: an annotated data set, or its spelling as `open_dataset` takes it.
        models: names as `load_model` takes them, or classifiers with preprocessing, each of a name of its own.
        methods: NAME or NAME:OPTION=VALUE,OPTION=VALUE. The baselines are measured in any case.
        metrics: likewise.
        folder: for the results, new or of the same run; see `shards`.
        limit: how many pictures, drawn at random; None: all. A smaller draw is part of a larger one of the same seed.
        seed: of the draw, and of all that is random in the metrics.
        classes: of CLASSES: which classes in a picture are explained.
        channels: of CHANNELS: how an attribution becomes a map.
        shard: how many pictures are written at a time; None: a sixteenth of all, 16 at most.
        device: for models that are given by name; by default the best there is.
        options: what comes along with the model, where it is one that is given by name.
        progress: told after each picture and explainer.

    Raises:
        InputError: an argument is not as described, the folder is of another run, or a model's weights are not those
            that the folder was begun with.
        ModelError, UnsupportedOperationError: a model cannot be loaded, or a method cannot explain it.
        OutputError: the folder cannot be written, as when the disk is full, or another run is at work in it.
    """
    opened = open_dataset(dataset) if isinstance(dataset, str) else dataset
    names = [one if isinstance(one, str) else one.name for one in models]
    spelled, measured = split(methods), split(metrics)
    _check(names, measured, limit, shard, seed, classes)
    checked_channels(channels)
    along = {} if options is None else _along(options, models)
    for text in spelled:
        method_of(text)
    measures = {text: metric_of(text) for text in measured}
    chosen = chosen_pictures(len(opened), limit, seed)
    pictures = max(1, min(SHARD, math.ceil(len(chosen) / SHARD))) if shard is None else shard
    given = next((one for one in models if isinstance(one, Classifier)), None)
    place = choose_device(device) if given is None else given.device
    words = {
        "dataset": dataset if isinstance(dataset, str) else opened.name,
        "pictures in the data set": len(opened),
        "data": opened.digest,
        "models": names,
        "methods": list(spelled),
        "metrics": list(measured),
        "limit": limit,
        "seed": seed,
        "classes": classes,
        "pictures a shard": pictures,
        "device": place.type,
        "visavis": __version__,
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "numpy": np.__version__,
        **({} if channels == "sum" else {"channels": channels}),
        **({} if options is None else options.words()),
    }
    with Folder(folder, words) as results:
        shards = [
            [Shard(number, name, at, min(at + pictures, len(chosen)) - 1) for at in range(0, len(chosen), pictures)]
            for number, name in enumerate(names)
        ]
        done = {one: results.weights(one) for several in shards for one in several}
        left = sum(one.last - one.first + 1 for one, weights in done.items() if weights is None)
        count = len(spelled) + len(baselines())
        tell = _Told(progress, left * count)
        for several, model in zip(shards, models, strict=True):
            missing = [one for one in several if done[one] is None]
            if not missing:
                continue
            classifier = load_model(model, device=str(place), **along) if isinstance(model, str) else model
            digest = weights_digest(classifier)
            check_weights(several[0].name, digest, [done[one] for one in several], results.path)
            explainers = explainers_on(classifier, spelled, channels)
            mapping = classes_between(opened, classifier)
            for one in missing:
                numbers = chosen[one.first : one.last + 1]
                with random_numbers_kept(classifier.device), raising(classifier, model, options):
                    rows, passed, cases = measure(
                        opened, numbers, classifier, mapping, explainers, measures, seed, classes, tell
                    )
                results.write(one, digest, rows, passed, cases)
    return Path(folder)


def _check(
    names: Sequence[str], measured: Sequence[str], limit: int | None, shard: int | None, seed: int, classes: str
) -> None:
    if not names or not measured:
        raise InputError(f"a benchmark takes at least one {'metric' if names else 'model'}; name one")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two models are called {twice!r}; give each a name of its own")
    if (shard is not None and shard < 1) or (limit is not None and limit < 1):
        raise InputError(f"limit and pictures a shard are whole numbers of at least 1, not {limit} and {shard}")
    if seed < 0:
        raise InputError(f"a seed is a whole number from 0, not {seed}")
    if classes not in CLASSES:
        raise InputError(f"there is no choice of classes {classes!r}; there are {', '.join(CLASSES)}")


def _along(options: ModelOptions, models: Sequence[str | Classifier]) -> dict[str, Any]:
    """Return what the one model is loaded with."""
    if not options:
        return {}
    if len(models) != 1 or not isinstance(models[0], str):
        raise InputError(
            f"weights, labels, size, mean and std are for one model that is given by name, not for {len(models)}; "
            "run each by itself, in a folder of its own"
        )
    return options.arguments(models[0])


class _Told:
    """Counts what is done of a run."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, count: int, what: str) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total, what)


__all__ = [
    "ON_REQUEST",
    "SHARD",
    "Explainer",
    "Progress",
    "benchmark",
    "case_seed",
    "explainer_titles",
    "usual_metrics",
    "weights_digest",
]
