"""The values of a shard of pictures: its cases, the map that each explainer makes of them, what each metric says of it.

What is random in a case is seeded by the case's name, so that nothing depends on what was measured before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from visavis.benchmarking.cases import PassedOver, cases_of
from visavis.benchmarking.shard_tables import Value
from visavis.classifier import Classifier
from visavis.datasets.annotated import AnnotatedDataset
from visavis.errors import InputError, ModelError, SameClassError, UnsupportedOperationError, VisavisError
from visavis.evaluation.base import Case, Context, Metric
from visavis.evaluation.explainers import Baseline, MethodExplainer


def measure(
    dataset: AnnotatedDataset,
    numbers: Sequence[int],
    classifier: Classifier,
    mapping: Mapping[str, tuple[int, ...]],
    explainers: Sequence[MethodExplainer | Baseline],
    measures: Mapping[str, Metric],
    seed: int,
    which: str,
    tell: Callable[[int, str], None],
) -> tuple[list[Value], list[PassedOver], int]:
    """Return the values of a shard, what was passed over in it, and how many cases it has."""
    passed: list[PassedOver] = []
    pictures: list[list[Case]] = []
    for number in numbers:
        cases, reasons = cases_at(dataset, number, classifier, mapping, which)
        passed += reasons
        if cases:
            pictures.append(cases)
    tell((len(numbers) - len(pictures)) * len(explainers), classifier.name)
    rows: list[Value] = []
    for explainer in explainers:
        # What metrics keep is of a shard: it neither grows nor depends on what came before.
        context = Context(classifier, explainer)
        for cases in pictures:
            for case, heatmap in maps_of(cases, explainer, seed, passed):
                context.seed = case_seed(seed, case.name)
                rows += _values(case, heatmap, context, measures, passed)
            tell(1, f"{classifier.name}, {explainer.name}")
    return rows, passed, sum(map(len, pictures))


def cases_at(
    dataset: AnnotatedDataset, number: int, classifier: Classifier, mapping: Mapping[str, tuple[int, ...]], which: str
) -> tuple[list[Case], list[PassedOver]]:
    """Return the decisions to explain on a picture of a data set, and what was passed over; see `cases_of`.

    A picture that cannot be used has no cases, and its reason.
    """
    name: str | None = None
    try:
        sample = dataset[number]
        name = sample.name
        return cases_of(sample, classifier, mapping, which=which)
    except (ModelError, UnsupportedOperationError):
        raise
    except InputError as error:
        return [], [PassedOver(name or dataset.name_of(number), "", str(error))]


def case_seed(seed: int, name: str) -> int:
    """Return the seed of a case: a hash of its name and the run's, whatever stands before it."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()[:7], "little")


def maps_of(
    cases: Sequence[Case], explainer: MethodExplainer | Baseline, seed: int, passed: list[PassedOver]
) -> Iterator[tuple[Case, Tensor]]:
    """Give the map of each case of a picture, all made at once where that goes."""
    targets = torch.tensor([case.target for case in cases], device=cases[0].inputs.device)
    try:
        torch.manual_seed(case_seed(seed, cases[0].picture))
        heatmaps = explainer.heatmaps_of_classes(cases[0].inputs, targets)
    except (ModelError, UnsupportedOperationError) as error:
        raise type(error)(f"{explainer.name} on {cases[0].picture!r}: {error}") from error
    except InputError as error:
        if len(cases) > 1:
            for case in cases:
                yield from maps_of([case], explainer, seed, passed)
        else:
            # A class that the method contrasts with itself, say.
            reason = "target and foil are the same class" if isinstance(error, SameClassError) else str(error)
            passed.append(PassedOver(cases[0].picture, cases[0].name, reason, explainer.name))
        return
    yield from zip(cases, heatmaps, strict=True)


def _values(
    case: Case, heatmap: Tensor, context: Context, measures: Mapping[str, Metric], passed: list[PassedOver]
) -> Iterator[Value]:
    for text, measure in measures.items():
        if not all(case.has(need) for need in measure.needs):
            continue
        try:
            torch.manual_seed(context.seed)
            found = measure.values_of(case, heatmap, context)
        except (ModelError, UnsupportedOperationError):
            raise
        except VisavisError as error:
            passed.append(PassedOver(case.picture, case.name, str(error), context.explainer.name, text))
            continue
        for key, value in found.items():
            yield Value(
                case.picture,
                case.name,
                context.explainer.name,
                text,
                key,
                float(value),
                case.target,
                case.difficult,
            )


__all__ = ["case_seed", "cases_at", "maps_of", "measure"]
