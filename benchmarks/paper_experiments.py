"""The five experiments of Gu, Yang, Tresp 2018 (CLRP): what each measures, tabulates and draws."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from paper_maps import (
    Part,
    Tell,
    cases_by_model,
    explainers,
    mapping_of,
    maps_of_models,
    measure,
    models_on,
    neurons_on,
    pairs_of,
    units_of,
)
from paper_page import Section, accuracies, alike_table, cell, cells_of, counted, shares_shown, table
from paper_pictures import curves, sheet
from torch import Tensor

import visavis as vv
from visavis.benchmarking.benchmark import benchmark, explainer_titles
from visavis.benchmarking.cases import cases_of
from visavis.benchmarking.results import counts
from visavis.benchmarking.runs import chosen_pictures
from visavis.datasets import ImageNet
from visavis.datasets.annotated import AnnotatedDataset, Sample
from visavis.evaluation import Case, baselines
from visavis.evaluation.base import logits_untouched
from visavis.evaluation.perturbation import FILLS
from visavis.files import make_folder
from visavis.plotting import save_figure

#: VGG16's first dense layer is the paper's; AlexNet's is its like; GoogLeNet has no dense layer but the last, so the
#: channels after its pooling stand in, which see the whole picture, too.
LAYERS = {
    "torchvision:vgg16": "classifier.0",
    "torchvision:alexnet": "classifier.1",
    "torchvision:googlenet": "avgpool",
}
SEEDS = {"uniform": "others", "logit": "logits"}


def open_pictures(given: argparse.Namespace, objects: int | None = None) -> ImageNet:
    """Return the data set, by a name that opens it again."""
    dataset = ImageNet(given.folder, boxes=given.boxes, objects=objects)
    options = {"boxes": given.boxes, "objects": objects}
    spelled = "&".join(f"{name}={str(value).replace('&', '%26')}" for name, value in options.items() if value)
    dataset.name = f"imagenet:{given.folder}{'?' * bool(spelled)}{spelled}"
    return dataset


@dataclass(frozen=True)
class Run:
    """What all experiments share.

    Attributes:
        arguments: the options.
        classifiers: the models, by the name that they were asked for by.
        dataset: all pictures.
        boxed: those of the pointing game.
        tell: told how far an experiment is.
    """

    arguments: argparse.Namespace
    classifiers: dict[str, vv.Classifier]
    dataset: AnnotatedDataset
    boxed: AnnotatedDataset | None
    tell: Tell

    @property
    def models(self) -> list[vv.Classifier]:
        return list(self.classifiers.values())

    @property
    def contrasts(self) -> dict[str, str]:
        """LRP, CLRP1 and CLRP2 as they are spelled, each with its title."""
        given = self.arguments
        rules = [] if given.rules is None else [f"rules={given.rules}"]
        summed = [] if given.normalize == "none" else [f"normalize={given.normalize}"]
        others = [] if given.seed_mode == "uniform" else [f"foil={SEEDS[given.seed_mode]}"]
        by_logit = ", by logit" if others else ""
        return {
            _spelled("lrp", rules): "LRP",
            _spelled("clrp", others + rules + summed): f"CLRP1 (others{by_logit})",
            _spelled("clrp", ["foil=negated", *rules, *summed]): "CLRP2 (negated)",
        }

    @property
    def everyone(self) -> dict[str, str]:
        """All methods of the paper as they are spelled, each with its title; then the baselines."""
        lrp, first, second = self.contrasts
        spelled = ["gradient", "deconvnet", "guided-backprop", lrp, "deep-taylor", first, second]
        return explainer_titles(spelled) | self.contrasts | baselines()

    def values(self, experiment: str) -> Path:
        """Return the folder of an experiment's values."""
        return make_folder(self.arguments.output / "values") / experiment

    def chosen_pictures(self) -> list[int]:
        """Return which pictures take part."""
        return chosen_pictures(len(self.dataset), self.arguments.limit, self.arguments.seed)

    def samples(self) -> Iterator[Sample]:
        """Give the pictures that take part, as far as they can be read."""
        for number in self.chosen_pictures():
            try:
                sample = self.dataset[number]
                sample.load()
            except vv.InputError:
                continue
            yield sample

    def words(self, metrics: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
        """Return what the values of an experiment that is no benchmark depend on."""
        given = self.arguments
        return {
            "made by": "python benchmarks/paper.py",
            "dataset": self.dataset.name,
            "pictures in the data set": len(self.dataset),
            "data": self.dataset.digest,
            "models": list(models),
            "methods": list(self.contrasts),
            "metrics": list(metrics),
            "limit": given.limit,
            "seed": given.seed,
            "classes": given.targets,
            "channels": given.channels,
            "device": self.models[0].device.type,
            "visavis": vv.__version__,
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
        }

    def benchmarked(
        self, experiment: str, methods: Sequence[str], metrics: Sequence[str], dataset: AnnotatedDataset
    ) -> Path:
        """Run the benchmark on all models, or take it up, and return its folder."""
        given = self.arguments
        return benchmark(
            dataset,
            self.models,
            methods,
            metrics,
            self.values(experiment),
            limit=given.limit,
            seed=given.seed,
            classes=given.targets,
            channels=given.channels,
            progress=self.tell,
        )

    def picture(self, name: str, number: int, *parts: str) -> Path:
        """Return the place of a figure."""
        stem = "-".join([name, f"{number:02d}", *(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") for part in parts)])
        return make_folder(self.arguments.output / "pictures") / f"{stem[:100]}.png"


def _spelled(name: str, options: Sequence[str]) -> str:
    return f"{name}:{','.join(options)}" if options else name


# -- the experiments ---------------------------------------------------------------------------------------------------


def classes(run: Run) -> Section:
    """Differences between classes: the maps of a target and of other classes on one picture."""
    metric = f"discriminativeness:most={run.arguments.others}"
    folder = run.benchmarked("classes", list(run.contrasts), [metric], run.dataset)
    names = {one.name: (one.name, metric) for one in run.models}
    alike = alike_table(cells_of(folder), names, run.contrasts | baselines(), "model", "cases")
    said = [
        (
            "How alike the map of a class is to those of other classes on the same picture: of the classes annotated "
            "in it, then of the model's strongest others. 1 is the same map. Lower tells classes apart better; noise "
            "does too, so that this says nothing of whether a map is right. Centre, Random and Edges never look at the "
            "network."
        ),
        "",
        *counted(counts(folder)),
    ]
    section = Section("Differences between classes", said, [alike])
    for one in run.models:
        for number, (sample, case) in enumerate(_first_cases(run, one), start=1):
            chosen = [case.target, *case.others[:3]]
            made = explainers(one, list(run.contrasts), run.arguments.channels)
            targets = torch.tensor(chosen, device=case.inputs.device)
            maps = [each.heatmaps_of_classes(case.inputs, targets) for each in made.values()]
            shares = logits_untouched(one, case.inputs)[0].softmax(0)
            columns = [f"{one.label(index)}\n{100 * float(shares[index]):.1f} %" for index in chosen]
            title = f"Several classes on {sample.name}, {one.name}"
            figure = sheet(_shown(one, case), _rows(run), columns, torch.stack(maps), title=title, shared=True)
            _draw(section, run.picture("classes", number, one.name), figure, title)
    return section


def neurons(run: Run) -> Section:
    """Differences between neurons of one layer that are strongly activated by one picture."""
    given, layers = run.arguments, _layers(run)
    parts = [
        Part(one.name, [one], neurons_on(one, layers[name], list(run.contrasts), given.channels, given.units))
        for name, one in run.classifiers.items()
    ]
    words = run.words(["neurons"], [one.name for one in run.models]) | {"units": given.units, "layers": layers}
    folder = run.values("neurons")
    measure(folder, words, parts, run.dataset, run.chosen_pictures(), run.tell)
    names = {f"{one.name}, {layers[name]}": (one.name, "neurons") for name, one in run.classifiers.items()}
    said = [
        (
            f"How alike the maps of the {given.units} most strongly activated neurons of one layer are, a mean over "
            "all their pairs. CLRP contrasts a neuron with the layer's others, or with itself, its incoming weights "
            "negated."
        ),
        "",
        *counted(counts(folder)),
    ]
    alike = alike_table(cells_of(folder), names, run.contrasts, "model and layer", "pictures")
    section = Section("Differences between neurons", said, [alike])
    for name, one in run.classifiers.items():
        made = explainers(one, list(run.contrasts), given.channels, layers[name])
        for number, sample in enumerate(_few(run.samples(), given.pictures), start=1):
            inputs = one.prepare(sample.load())
            try:
                units = units_of(one, layers[name], made, inputs, given.units)
            except vv.InputError:  # no two of them active: counted among the pictures that could not be used
                continue
            active = zip(units.numbers, units.activations, strict=True)
            columns = [f"neuron {unit}\nactivation {activation:.3g}" for unit, activation in active]
            title = f"Neurons of {layers[name]} on {sample.name}, {one.name}"
            maps = torch.stack([units.maps[text] for text in made])
            figure = sheet(one.picture(inputs)[0], _rows(run), columns, maps, title=title, shared=True)
            _draw(section, run.picture("neurons", number, one.name), figure, title)
    return section


def models(run: Run) -> Section:
    """Differences between models: the maps of one class on one picture."""
    given, pairs = run.arguments, pairs_of([one.name for one in run.models])
    everyone = ", ".join(one.name for one in run.models)
    measured = models_on(run.models, run.dataset, list(run.contrasts), given.channels, given.targets)
    folder = run.values("models")
    part = Part(everyone, run.models, measured)
    measure(folder, run.words(list(pairs), [everyone]), [part], run.dataset, run.chosen_pictures(), run.tell)
    said = ["How alike the maps of one class on one picture by two models are.", "", *counted(counts(folder))]
    names = {title: (everyone, title) for title in pairs}
    alike = alike_table(cells_of(folder), names, run.contrasts, "models", "cases")
    section = Section("Differences between models", said, [alike])
    made = {one.name: explainers(one, list(run.contrasts), given.channels) for one in run.models}
    mappings = {one.name: mapping_of(run.dataset, one) for one in run.models}
    found = (
        (sample, next(iter(shared.values())))
        for sample in run.samples()
        if (shared := cases_by_model(sample, run.models, mappings, given.targets)[0])
    )
    for number, (sample, cases) in enumerate(_few(found, given.pictures), start=1):
        by_method = maps_of_models(cases, made)
        maps = torch.stack([torch.stack(list(each.values())) for each in by_method.values()])
        first = run.models[0]
        title = f"{first.label(cases[first.name].target)} on {sample.name}"
        columns = [
            f"{one.name}\n{100 * float(logits_untouched(one, case.inputs)[0].softmax(0)[case.target]):.1f} %"
            for one, case in ((one, cases[one.name]) for one in run.models)
        ]
        shown = _shown(first, cases[first.name])
        figure = sheet(shown, _rows(run), columns, maps, title=title, shared=False)
        _draw(section, run.picture("models", number), figure, title)
    return section


def pointing(run: Run) -> Section:
    """The pointing game: the maximum, and all of the foreground that holds p % of the energy, in the box."""
    given = run.arguments
    maximum, energy = f"pointing:tolerance={given.tolerance:g}", "energy-pointing"
    methods = [text for text in run.everyone if text not in baselines()]
    assert run.boxed is not None
    folder = run.benchmarked("pointing", methods, [maximum, energy], run.boxed)
    cells, titles = cells_of(folder), run.everyone
    at = accuracies(folder, energy, given.shares)
    hits, by_share = [], []
    places = shares_shown(given.shares)
    for one in run.models:
        for method, title in titles.items():
            found, area = (cells.get((one.name, method, metric, "")) for metric in (maximum, energy))
            if found is not None or area is not None:
                count = str(max(each.count for each in (found, area) if each is not None))
                hits.append([one.name, title, cell(found), cell(area), count])
            if (one.name, method) in at:
                by_share.append([one.name, title, *(cell(at[one.name, method][place]) for place in places)])
    said = [
        "Whether a map's maximum lies in the box; and whether its foreground does, the fewest pixels, largest first, "
        "that hold the share p of its energy. The area under that curve is over p from 0 to 1. Higher is better. "
        "Centre, Random and Edges never look at the network." + _same_as_deep_taylor(run),
        "",
        *counted(counts(folder)),
    ]
    heads = [f"p = {100 * given.shares[place]:g} %" for place in places]
    tables = [
        table(["model", "method", "maximum in the box", "area under the curve", "cases"], hits, 2),
        table(["model", "method", *heads], by_share, 2),
    ]
    section = Section("Pointing game", said, tables)
    for number, one in enumerate(run.models, start=1):
        lines: dict[str, list[float]] = {
            title: [each.mean for each in at[one.name, method]]
            for method, title in titles.items()
            if (one.name, method) in at
        }
        if lines:
            title = f"Accuracy against p, {one.name}"
            figure = curves(lines, given.shares, list(baselines().values()), title)
            _draw(section, run.picture("pointing", number, one.name), figure, title)
    return section


def ablation(run: Run) -> Section:
    """The ablation study: the drop of the score without the patch about the maximum, and without random patches."""
    given = run.arguments
    metric = f"ablation:size={given.patch},fill={given.fill},score={given.score},samples={given.samples}"
    methods = [text for text in run.everyone if text not in baselines()]
    folder = run.benchmarked("ablation", methods, [metric], run.dataset)
    cells, rows = cells_of(folder), []
    for one in run.models:
        for method, title in run.everyone.items():
            found, random = (cells.get((one.name, method, metric, key)) for key in ("", "random"))
            if found is not None:
                rows.append([one.name, title, cell(found), cell(random), str(found.count)])
    said = [
        f"By how much the {given.score} of the class drops when the {given.patch} × {given.patch} pixels about "
        f"the map's maximum are replaced ({FILLS[given.fill]}), and when patches about random pixels are, "
        f"{given.samples} a picture and the same for every map. Higher is better. Centre, Random and Edges never look "
        "at the network." + _same_as_deep_taylor(run),
        "",
        *counted(counts(folder)),
    ]
    heads = ["model", "method", "drop about the maximum", "drop about random pixels", "cases"]
    return Section("Ablation study", said, [table(heads, rows, 2)])


def _same_as_deep_taylor(run: Run) -> str:
    if run.arguments.rules not in (None, "deep-taylor"):
        return ""
    return " LRP has the paper's rules, which are Deep Taylor's where a model is of convolutions: two rows, one map."


def _first_cases(run: Run, classifier: vv.Classifier) -> Iterator[tuple[Sample, Case]]:
    """Give the first case of each of the first few pictures that have one."""
    mapping = mapping_of(run.dataset, classifier)
    found = (
        (sample, cases[0])
        for sample in run.samples()
        if (cases := cases_of(sample, classifier, mapping, which=run.arguments.targets)[0])
    )
    return _few(found, run.arguments.pictures)


def _few(found: Iterator[Any], most: int) -> Iterator[Any]:
    # zip takes from the range first: no further picture is read than is drawn.
    return (one for _, one in zip(range(most), found, strict=False))


def _rows(run: Run) -> list[str]:
    return list(run.contrasts.values())


def _shown(classifier: vv.Classifier, case: Case) -> Tensor:
    return classifier.picture(case.inputs)[0]


def _draw(section: Section, place: Path, figure: Any, title: str) -> None:
    save_figure(figure, place)
    section.pictures.append((place, title))


def _layers(run: Run) -> dict[str, str]:
    return {name: (LAYERS | run.arguments.layer)[name] for name in run.classifiers}


#: The experiments, by name, in the paper's order.
EXPERIMENTS: Mapping[str, Callable[[Run], Section]] = {
    "classes": classes,
    "neurons": neurons,
    "models": models,
    "pointing": pointing,
    "ablation": ablation,
}
