"""The page of the experiments with explanation vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from page_text import filled


def page(measured: dict[str, Any], figures: dict[str, str], peers: dict[str, Any] | None) -> str:
    """Return the page as markdown.

    Args:
        measured: what `vectors_experiments.py` found.
        figures: the names of its figures.
        peers: what `vectors_peers.py` found; None: left out.
    """
    parts = [
        filled(_HEAD),
        *_iris(measured["iris"], figures["iris"]),
        *_digits(measured["digits"], figures["digits"]),
        *_tumours(measured["tumours"], figures["tumour"], figures["tumours"]),
    ]
    if peers is not None:
        parts += ["## Beside LIME and SHAP", filled(peers["reading"]), "\n".join(peers["table"])]
        parts.append(f"Made by\n\n```shell\n{peers['command']}\n```")
    said = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    parts.append(f"The page and its figures are made by\n\n```shell\n{measured['command']}\n```\n\nwith {said}.")
    return "\n\n".join(parts) + "\n"


_HEAD = """\
# Experiments with explanation vectors

Baehrens et al. 2010 explain k-NN on Iris, an SVM on the handwritten digits 2 and 8, and a Gaussian process on the
toxicity of compounds. Here are the first two on data that scikit-learn ships, and a random forest on the breast-cancer
data of Wisconsin in the place of the third, whose compounds it does not ship. How to make such vectors, and what they
do not say: [Any classifier](vectors.md)."""


def _iris(found: dict[str, Any], figure: str) -> list[str]:
    wide, best = found["bandwidth"], found["bandwidth_best"]
    names = found["features"]
    rows = [[name, *(f"{size:.3f}" for size in sizes)] for name, sizes in found["mean_size_by_class"].items()]
    return [
        "## Iris by k-NN",
        filled(
            f"k = 4, as in the paper; {found['accuracy']:.1%} right with each flower left out. The mimic's window is "
            f"{wide['width']:.2f} cm wide and agrees in {wide['agreement']:.1%} (the widest within one standard error "
            f"of the best), or {best['width']:.2f} cm and {best['agreement']:.1%} by the paper's rule, the best; the "
            f"paper has 0.26. Of {found['rows']} vectors {found['flat']} are next to zero: these flowers are far from "
            "any other class, and the figure shows the direction of the Hessian. Regions are those of flowers whose "
            "sepals are average, so some lie in another colour than they are called."
        ),
        f"![Flowers by petal length and width; arrows lead from versicolor to virginica and back]({figure})",
        "Mean size of each component, per cm:",
        table(["called", *names], rows),
    ]


def _digits(found: dict[str, Any], figure: str) -> list[str]:
    mean, low, high = found["cosine_with_svm"]
    wide = found["bandwidth"]
    rows = [
        [name, "–" if one["median"] is None else f"{one['median']:.1f}", f"{one['flipped']:.0%}"]
        for name, one in found["steps_to_flip"].items()
    ]
    return [
        "## 2 or 8, by an SVM",
        filled(
            f"RBF kernel; {found['accuracy']:.1%} right of {found['test']} digits that it has not seen. The mimic "
            f"knows the SVM's labels of the other half, is {wide['width']:.1f} grey levels wide and agrees in "
            f"{wide['agreement']:.1%}; around the digits explained in {found['agreement_around']:.1%} of the places. "
            "The SVM's own decision function can be differentiated: the cosine with that gradient, which the mimic "
            f"never saw, is {mean:.2f} (95 % interval {low:.2f} to {high:.2f}) over the digits."
        ),
        f"![Digits above, their vectors below: orange ink speaks for what the SVM says, blue ink against it]({figure})",
        "How far to go, in grey levels (Euclidean length; a pixel has 0 to 16), until the SVM says the other digit:",
        table(["way", "median", "flipped within 60"], rows),
    ]


def _tumours(found: dict[str, Any], bars: str, distributions: str) -> list[str]:
    wide = found["bandwidth"]
    strongest = ", ".join(f"{one['feature']} ({one['mean']:+.2f})" for one in found["strongest"])
    ks = [
        [name, f"{one['statistic']:.2f}", f"{one['pvalue']:.1e}", f"{one['inside']:+.2f}", f"{one['outside']:+.2f}"]
        for name, one in list(found["ks"].items())[:6]
    ]
    return [
        "## Tumours, by a random forest",
        filled(
            f"300 trees; {found['accuracy']:.1%} right of {found['test']} tumours that it has not seen, which are "
            f"explained by a mimic of the other half: {wide['width']:.2f} standard deviations wide, agreeing in "
            f"{wide['agreement']:.1%}, around the rows explained in {found['agreement_around']:.1%}; of "
            f"{found['below_threshold']} rows it is not to be trusted, for it differs there. Below, the tumour that "
            f"the forest is least sure of ({found['row_probability']:.0%} of malignant by its trees) among those where "
            "the mimic agrees."
        ),
        f"![Bars: what a standard deviation more of each feature does, with intervals]({bars})",
        filled(
            "The contrast log P(malignant)/P(benign) over all of these tumours: the features with the largest "
            f"components, per standard deviation, on average: {strongest}."
        ),
        filled(
            "Does the forest read a feature alike in tumours of both kinds? The components over tumours that are "
            "labelled malignant against those over benign ones, as the paper compares compounds with a toxicophore and "
            "without (Kolmogorov and Smirnov; the tests of all 30 features are not corrected for their number, and "
            "tell of this forest and these rows alone):"
        ),
        table(["feature", "largest distance", "p", "median, malignant", "median, benign"], ks),
        f"![Distributions of the component that differs most]({distributions})",
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts; numbers stand to the right."""
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |".replace("| -", "| −") for row in rows)])


__all__ = ["page", "table"]
