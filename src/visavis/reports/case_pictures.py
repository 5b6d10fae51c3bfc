"""The pictures of the best, median and worst cases: made where data set and model are at hand, and then kept.

    pictures/0123456789abcdef.jpg   one case of one method on one model of one run

Results hold values and no maps, so a picture opens the data set and the model again, as the words of the run spell
them, and makes the map that was measured. What is kept needs neither. Nothing here changes the results.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visavis.benchmarking.cases import PassedOver
from visavis.benchmarking.measuring import cases_at, maps_of
from visavis.benchmarking.runs import (
    chosen_pictures,
    classes_between,
    explainers_on,
    random_numbers_kept,
    weights_digest,
)
from visavis.benchmarking.shard_tables import text_kept
from visavis.classifier import Classifier
from visavis.datasets.annotated import AnnotatedDataset
from visavis.datasets.registry import open_dataset
from visavis.devices import choose_device
from visavis.errors import InputError, VisavisError
from visavis.evaluation.base import Case
from visavis.evaluation.explainers import baselines
from visavis.files import make_folder
from visavis.models import load_model, source_of
from visavis.models.own_model import ModelOptions, running
from visavis.reports.case_ranks import Ranked, best_median_worst
from visavis.reports.thumbnails import Thumbnail, read_thumbnail, thumbnail
from visavis.run_folder import fingerprint, put, refuse_link

PICTURES = "pictures"
#: A page of more grows too large to send.
AT_MOST = 240
# Other drawing, other files.
_DRAWING = 1
# In seconds: what is half written for longer, nobody writes any more.
_LEFT_BEHIND = 3600

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Shown:
    """A case as the page shows it.

    Attributes:
        ranked: which it is.
        picture: of it; None where there is none.
        reason: why there is none.
    """

    ranked: Ranked
    picture: Thumbnail | None = None
    reason: str = ""


@dataclass(frozen=True)
class Gallery:
    """The cases of a model that are shown.

    Attributes:
        model: of which.
        metric: by which they are the best, the median and the worst, as the run spells it.
        rows: of each method, in the order of the run.
        note: why pictures are missing, one sentence; "" where none is, or each says so itself.
    """

    model: str
    metric: str
    rows: dict[str, list[Shown]]
    note: str = ""


def galleries(
    folder: str | os.PathLike[str],
    words: Mapping[str, Any],
    metric: str,
    higher: bool,
    *,
    dataset: AnnotatedDataset | None = None,
    models: Sequence[Classifier] = (),
    runs_code: bool = False,
    progress: Progress | None = None,
) -> list[Gallery]:
    """Return the cases of each model to show, with their pictures; those that are missing are made if that goes.

    Args:
        folder: of the results.
        words: of the run.
        metric: by which cases are chosen, as the run spells it.
        higher: whether higher is better.
        dataset: that of the run; None: it is opened as the words spell it.
        models: those of the run that are no names, or are loaded already; others are loaded by their names.
        runs_code: whether a model may be built by code that its name chooses.
        progress: told how many pictures of this call are made, how many are to be made, and of what.

    Raises:
        InputError: the folder holds no results, or a file is damaged.
        OutputError: a picture cannot be written, or the folder of the pictures is a link.
    """
    refuse_link(Path(folder) / PICTURES)
    ranked = [one for one in best_median_worst(folder, metric, higher) if one.method not in baselines()]
    names, methods = list(words["models"]), list(words["methods"])
    ranked.sort(key=lambda one: (names.index(one.model), methods.index(one.method)))
    shown = {one: Shown(one, read_thumbnail(_place(folder, words, one))) for one in ranked[:AT_MOST]}
    missing = [one for one, each in shown.items() if each.picture is None]
    _clear(Path(folder) / PICTURES)
    notes: dict[str, str] = {}
    workshop = _Workshop(words, dataset, {one.name: one for one in models}, runs_code)
    for name in dict.fromkeys(one.model for one in missing):
        wanted = [one for one in missing if one.model == name]
        try:
            maker = workshop.maker(name, wanted[0].weights)
        except VisavisError as error:
            notes[name] = _sentence(error)
            continue
        for one in wanted:
            shown[one] = _made(maker, one, _place(folder, words, one))
            if progress is not None:
                progress(missing.index(one) + 1, len(missing), f"{name}, {one.method}, pictures")
    for one in ranked[AT_MOST:]:
        shown[one] = Shown(one, reason=f"a page has at most {AT_MOST} pictures")
    return [
        Gallery(
            name,
            metric,
            {method: row for method in methods if (row := [shown[one] for one in ranked if one[:2] == (name, method)])},
            notes.get(name, ""),
        )
        for name in names
    ]


def _made(maker: Callable[[Ranked], Thumbnail], one: Ranked, place: Path) -> Shown:
    """Return a case with its picture, which is written; or with the reason why there is none."""
    try:
        picture = maker(one)
    except VisavisError as error:
        return Shown(one, reason=_sentence(error))
    make_folder(place.parent)
    put(place, picture.jpeg)
    return Shown(one, picture)


def _clear(pictures: Path) -> None:
    """Remove the halves of pictures that killed reports left; one that another report is at work on stays."""
    for left in pictures.glob("*.jpg.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > _LEFT_BEHIND:
                left.unlink()


def _sentence(error: VisavisError) -> str:
    return str(error).rstrip(". ")


def _place(folder: str | os.PathLike[str], words: Mapping[str, Any], one: Ranked) -> Path:
    """Return where a picture is kept: its name tells it from those of any other run, model, weights and method."""
    told = [fingerprint(words), one.model, one.weights, one.method, one.case, _DRAWING]
    return Path(folder) / PICTURES / f"{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]}.jpg"


class _Workshop:
    """Opens what a run was on, when a picture needs it; the data set once."""

    def __init__(
        self, words: Mapping[str, Any], dataset: AnnotatedDataset | None, models: Mapping[str, Classifier], code: bool
    ) -> None:
        self.words, self.dataset, self.models, self.runs_code = words, dataset, models, code

    def maker(self, name: str, weights: str) -> Callable[[Ranked], Thumbnail]:
        """Return what makes the pictures of a model.

        Raises:
            VisavisError: the data set or the model cannot be opened, or is another than that of the run.
        """
        if name not in self.models and source_of(name)[0].runs_code and not self.runs_code:
            raise InputError(
                f"building {name} runs code, which a report does not do; start the benchmark again with the same "
                "words, and it makes them"
            )
        dataset = self._opened()
        classifier = self.models[name] if name in self.models else self._loaded(name)
        if weights_digest(classifier) != weights:
            raise InputError(f"the weights of {name} are not those that were measured")
        return _Maker(self.words, dataset, classifier, None if name in self.models else name)

    def _opened(self) -> AnnotatedDataset:
        if self.dataset is None:
            try:
                self.dataset = open_dataset(str(self.words["dataset"]))
            except InputError as error:
                raise InputError(f"pictures need the data set, and it cannot be opened: {error}") from error
        count = int(self.words["pictures in the data set"])
        if len(self.dataset) != count:
            raise InputError(
                f"{self.words['dataset']} has {len(self.dataset)} pictures, but had {count} when it was measured"
            )
        if "data" in self.words and self.dataset.digest != self.words["data"]:
            raise InputError(f"{self.words['dataset']} has been edited since, or is another than the one measured")
        return self.dataset

    def _loaded(self, name: str) -> Classifier:
        try:
            device = choose_device(str(self.words["device"]))
        except VisavisError:  # of another machine
            device = choose_device(None)
        return load_model(name, device=str(device), **ModelOptions.from_words(self.words).arguments(name))


class _Maker:
    """Makes the pictures of one model; the cases of a picture are kept for the next one's sake."""

    def __init__(
        self, words: Mapping[str, Any], dataset: AnnotatedDataset, classifier: Classifier, model: str | None
    ) -> None:
        self.words, self.dataset, self.classifier, self.model = words, dataset, classifier, model
        self.chosen = chosen_pictures(len(dataset), words["limit"], int(words["seed"]))
        self.mapping = classes_between(dataset, classifier)
        self.explainers = {
            each.name: each for each in explainers_on(classifier, words["methods"], words.get("channels", "sum"))
        }
        self.known: tuple[str, list[Case], list[PassedOver]] = ("", [], [])

    def __call__(self, one: Ranked) -> Thumbnail:
        with random_numbers_kept(self.classifier.device), self._raising():
            cases = self._cases(one)
            passed: list[PassedOver] = []
            for case, heat in maps_of(cases, self.explainers[one.method], int(self.words["seed"]), passed):
                if text_kept(case.name) == one.case:
                    if case.target != one.target:
                        raise InputError("the network takes it for another class than when it was measured")
                    picture = self.classifier.picture(case.inputs)[0]
                    return thumbnail(picture, case.boxes, heat, self.classifier.label(case.target))
        raise InputError(next((each.reason for each in passed), "the data set has no such case any more"))

    def _raising(self) -> contextlib.AbstractContextManager[None]:
        """Turn whatever the model raises into one sentence, so that the report goes on."""
        if self.model is None:
            return contextlib.nullcontext()
        return running(self.classifier, self.model, self.words.get("size"))

    def _cases(self, one: Ranked) -> list[Case]:
        if self.known[0] != one.picture:
            self.known = (one.picture, *self._looked_up(one))
        _, cases, passed = self.known
        if not cases:
            raise InputError(passed[0].reason if passed else "the data set has no such picture any more")
        return cases

    def _looked_up(self, one: Ranked) -> tuple[list[Case], list[PassedOver]]:
        which = str(self.words["classes"])
        for number in self.chosen[one.first : one.last + 1]:
            try:
                name = self.dataset[number].name
            except InputError:
                continue
            if text_kept(name) == one.picture:
                return cases_at(self.dataset, number, self.classifier, self.mapping, which)
        return [], []


__all__ = ["AT_MOST", "PICTURES", "Gallery", "Shown", "galleries"]
