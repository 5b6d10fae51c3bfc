"""What the words of a run stand for: which pictures, which explainers, whose classes; and which weights, by digest."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from visavis.classifier import Classifier
from visavis.datasets.annotated import AnnotatedDataset
from visavis.datasets.mapping import class_map
from visavis.errors import InputError
from visavis.evaluation.explainers import Baseline, MethodExplainer, baseline, baselines
from visavis.evaluation.spelling import method_of
from visavis.models import source_of
from visavis.models.own_model import ModelOptions, running


def chosen_pictures(count: int, limit: int | None, seed: int) -> list[int]:
    """Return which of so many pictures are measured, rising.

    Args:
        count: how many the data set has.
        limit: how many are drawn at random; None: all. A smaller draw is part of a larger one of the same seed.
        seed: of the draw.

    Raises:
        InputError: there are none.
    """
    if not count:
        raise InputError("the data set has no pictures; name another folder or part")
    if limit is None or limit >= count:
        return list(range(count))
    drawn: list[int] = np.random.default_rng(seed).permutation(count)[:limit].tolist()
    return sorted(drawn)


def classes_between(dataset: AnnotatedDataset, classifier: Classifier) -> dict[str, tuple[int, ...]]:
    """Return the model's classes that each class of a data set comprises.

    Raises:
        InputError: the model's classes have no names, or none of them is found.
    """
    if classifier.labels is None:
        raise InputError(
            f"the classes of {classifier.name} have no names to find those of {dataset.name} by; give it labels"
        )
    return class_map(dataset.classes, classifier.labels, dataset.vocabulary)


def explainers_on(
    classifier: Classifier, methods: Iterable[str], channels: str = "sum"
) -> list[MethodExplainer | Baseline]:
    """Return methods, as they are spelled, on a model, and the baselines.

    Args:
        classifier: the model.
        methods: NAME or NAME:OPTION=VALUE,OPTION=VALUE.
        channels: of `explainers.CHANNELS`: how an attribution becomes a map.

    Raises:
        InputError: there is no such method or option.
    """
    made: list[MethodExplainer | Baseline] = []
    for text in methods:
        cls, options = method_of(text)
        made.append(MethodExplainer(cls(classifier, **options), text, _title(cls.title, text), channels=channels))
    return [*made, *(baseline(name) for name in baselines())]


def explainer_titles(methods: Sequence[str]) -> dict[str, str]:
    """Return what tables call each method, as it is spelled, and each baseline."""
    return {text: _title(method_of(text)[0].title, text) for text in methods} | baselines()


def _title(title: str, text: str) -> str:
    _, colon, options = text.partition(":")
    return f"{title} ({options.replace(',', ', ')})" if colon and options else title


def weights_digest(classifier: Classifier) -> str:
    """Return a digest of all parameters and buffers of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.module.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def check_weights(name: str, digest: str, before: Sequence[str | None], folder: Path) -> None:
    """Refuse a model whose weights are not those that shards were made with.

    Args:
        name: of the model.
        digest: of its weights.
        before: the digest that each shard was made with; None where it is not done.
        folder: of the results.

    Raises:
        InputError: they differ.
    """
    if any(known not in (None, digest) for known in before):
        raise InputError(
            f"the weights of {name!r} are not those that '{folder}' was begun with, so that the numbers would not go "
            "together; name another folder, or give the same weights"
        )


def random_numbers_kept(device: torch.device) -> AbstractContextManager[None]:
    """Keep the random numbers of whoever called, on the CPU and on a model's device."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def raising(
    classifier: Classifier, model: str | Classifier, options: ModelOptions | None
) -> AbstractContextManager[None]:
    """Turn what a model of the user's own raises while it runs into one sentence; see `own_model.running`."""
    if isinstance(model, str) and (options or source_of(model)[0].runs_code):
        return running(classifier, model, None if options is None else options.size)
    return contextlib.nullcontext()


__all__ = [
    "check_weights",
    "chosen_pictures",
    "classes_between",
    "explainer_titles",
    "explainers_on",
    "raising",
    "random_numbers_kept",
    "weights_digest",
]
