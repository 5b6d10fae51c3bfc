"""The experiments of Baehrens et al. 2010 from data that scikit-learn ships: flowers, digits, tumours.

Iris by a k-NN classifier, the digits 2 against 8 by an SVM, and the Wisconsin breast-cancer data by a random forest, in
the place of compounds and their toxicity. Each has its figure and its numbers, on one page.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import LeaveOneOut, cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from vectors_page import page

from visavis.blackbox import ExplanationVectors, LowAgreementWarning, Vectors
from visavis.errors import VisavisError
from visavis.evaluation.statistics import summary
from visavis.files import check_place, write_bytes
from visavis.plotting.saving import save_figure
from visavis.reports.vectors import bars_figure, compared, distribution_figure, images_figure, plane_figure

Floats = NDArray[np.float64]
SEED = 0


def iris(figure: Path) -> dict[str, Any]:
    """k-NN with k = 4, as in the paper's section 3; four features in cm, so the window is as wide in each."""
    data = load_iris()
    rows, labels = data.data, data.target_names[data.target]
    classifier = KNeighborsClassifier(4).fit(rows, labels)
    right = cross_val_score(KNeighborsClassifier(4), rows, labels, cv=LeaveOneOut()).mean()
    vectors = explained(classifier, rows, list(data.feature_names), scale="none")
    by_class = {
        str(name): np.abs(vectors.values[vectors.said == name]).mean(0).tolist() for name in np.unique(vectors.said)
    }
    title = "Iris by k-NN: what would make it another flower"
    drawn = plane_figure(vectors, classifier.predict, (2, 3), points=rows, labels=labels, title=title)
    save_figure(drawn, figure)
    paper = ExplanationVectors(classifier, scale="none", bandwidth="best").fit(rows)
    return {
        "accuracy": float(right),
        "bandwidth": numbers_of(vectors_source(classifier, rows, scale="none")),
        "bandwidth_best": numbers_of(paper),
        "features": list(data.feature_names),
        "mean_size_by_class": by_class,
        "flat": int(vectors.flat.sum()),
        "rows": len(rows),
        "agreement_around": float(np.mean(vectors.agreement)),
    }


def digits(figure: Path) -> dict[str, Any]:
    """An SVM with an RBF kernel on 2 against 8, as in the paper's section 4; 8 × 8 pixels from 0 to 16."""
    data = load_digits()
    chosen = np.isin(data.target, (2, 8))
    train, test, train_labels, test_labels = train_test_split(
        data.data[chosen], data.target[chosen], test_size=0.5, random_state=SEED, stratify=data.target[chosen]
    )
    machine = SVC(gamma=0.001, C=10).fit(train, train_labels)
    vectors = explained(machine, train, None, scale="none", new=test)
    true = svm_gradient(machine, test) * np.where(vectors.said == machine.classes_[1], -1.0, 1.0)[:, None]
    alike = cosines(-vectors.log_odds_gradient, true)
    show = first_of_each(vectors, 4)
    save_figure(
        images_figure(part(vectors, show), (8, 8), title="2 or 8? Which ink would change the SVM's mind"), figure
    )
    ways = {
        "along the vector": -vectors.log_odds_gradient,
        "along the SVM's own gradient": true,
        "at random": np.random.default_rng(SEED).standard_normal(test.shape),
        "towards the mean of the other class": towards_other(train, train_labels, test, vectors.said),
    }
    return {
        "accuracy": float(machine.score(test, test_labels)),
        "bandwidth": numbers_of(vectors_source(machine, train, scale="none")),
        "test": len(test),
        "flat": int(vectors.flat.sum()),
        "agreement_around": float(np.mean(vectors.agreement)),
        "cosine_with_svm": as_list(alike),
        "steps_to_flip": {name: flips(machine.predict, test, vectors.said, way) for name, way in ways.items()},
    }


def tumours(bars: Path, distributions: Path) -> dict[str, Any]:
    """A random forest, as in the place of the paper's section 5; half of the rows are held out and explained."""
    data = load_breast_cancer()
    labels = data.target_names[data.target]
    train, test, train_labels, test_labels = train_test_split(
        data.data, labels, test_size=0.5, random_state=SEED, stratify=labels
    )
    forest = RandomForestClassifier(300, random_state=SEED).fit(train, train_labels)
    model = quiet(ExplanationVectors(forest, random_state=SEED).fit, train)
    odds = named(quiet(model.contrast, test, "benign", target="malignant"), data.feature_names)
    # The held-out row that the forest is least sure of, among those whose mimic agrees.
    sure = np.abs(forest.predict_proba(test)[:, 0] - 0.5)
    trusted = odds.agrees & (odds.agreement >= model.threshold)
    doubtful = int(np.flatnonzero(trusted)[sure[trusted].argmin()])
    one = named(quiet(model.explain, test[[doubtful]], draws=1000), data.feature_names)
    save_figure(bars_figure(one, most=12, title=f"A held-out tumour: what speaks for {one.said[0]}?"), bars)
    features = [str(name) for name in data.feature_names]
    tests = {name: compared(odds, name, test_labels == "malignant") for name in features}
    strongest = np.argsort(-np.abs(odds.per_deviation).mean(0))
    most = max(tests.values(), key=lambda found: found.statistic)
    names = ("labelled malignant", "labelled benign")
    words = f"{most.feature}: does the forest read it alike in both?"
    save_figure(distribution_figure(most, names, quantity="log P(malignant)/P(benign)", title=words), distributions)
    return {
        "accuracy": float(forest.score(test, test_labels)),
        "bandwidth": numbers_of(model),
        "test": len(test),
        "agreement_around": float(np.mean(odds.agreement)),
        "below_threshold": int((~trusted).sum()),
        "row": doubtful,
        "row_probability": float(forest.predict_proba(test[[doubtful]])[0, 0]),
        "strongest": [
            {"feature": features[place], "mean": float(odds.per_deviation[:, place].mean())} for place in strongest[:8]
        ],
        "ks": {
            name: {
                "statistic": found.statistic,
                "pvalue": found.pvalue,
                "inside": float(np.median(found.inside)),
                "outside": float(np.median(found.outside)),
            }
            for name, found in sorted(tests.items(), key=lambda pair: -pair[1].statistic)
        },
    }


def explained(
    classifier: Any, rows: Floats, names: list[str] | None, *, scale: str, new: Floats | None = None
) -> Vectors:
    """Explain rows by a mimic of others, or of the same."""
    model = vectors_source(classifier, rows, scale=scale)
    found = quiet(model.explain, rows if new is None else new)
    return found if names is None else named(found, names)


def vectors_source(classifier: Any, rows: Floats, *, scale: str) -> ExplanationVectors:
    return quiet(ExplanationVectors(classifier, scale=scale, random_state=SEED).fit, rows)


def quiet(call: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """Call without the warnings of low agreement: the page says where it is low."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LowAgreementWarning)
        return call(*given, **options)


def named(vectors: Vectors, names: Any) -> Vectors:
    return replace(vectors, names=tuple(map(str, names)))


def part(vectors: Vectors, places: list[int]) -> Vectors:
    """Return some of the vectors."""
    each = ("rows", "values", "log_odds_gradient", "targets", "said", "probabilities", "agreement", "agrees", "flat")
    kept = {name: getattr(vectors, name)[places] for name in (*each, "directions", "curvatures")}
    return replace(vectors, **kept)


def first_of_each(vectors: Vectors, count: int) -> list[int]:
    """Return the places of the first so many of each class that are not flat."""
    return [
        int(place)
        for name in np.unique(vectors.said)
        for place in np.flatnonzero((vectors.said == name) & ~vectors.flat)[:count]
    ]


def svm_gradient(machine: SVC, rows: Floats) -> Floats:
    """Return the gradient of the decision function Σ α_i exp(−γ‖x − x_i‖²) + b, by its formula."""
    found = np.zeros_like(rows)
    for weight, vector in zip(machine.dual_coef_[0], machine.support_vectors_, strict=True):
        apart = rows - vector
        kernel = np.exp(-machine.gamma * (apart**2).sum(1))
        found += weight * kernel[:, None] * -2 * machine.gamma * apart
    return found


def cosines(first: Floats, second: Floats) -> Floats:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(1) / lengths)


def towards_other(train: Floats, labels: NDArray[Any], rows: Floats, said: NDArray[Any]) -> Floats:
    means = {name: train[labels == name].mean(0) for name in np.unique(labels)}
    one, other = means
    return np.stack([means[other if name == one else one] - row for name, row in zip(said, rows, strict=True)])


def flips(predict: Callable[[Floats], NDArray[Any]], rows: Floats, said: NDArray[Any], ways: Floats) -> dict[str, Any]:
    """Return how far one must go along a way until the classifier says another class: in grey levels, by length."""
    far = np.full(len(rows), np.inf)
    unit = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    for step in np.arange(0.5, 60.5, 0.5):
        changed = predict(rows + step * unit) != said
        far = np.where(changed & np.isinf(far), step, far)
    return {
        "median": float(np.median(far)) if np.isfinite(np.median(far)) else None,
        "flipped": float(np.isfinite(far).mean()),
    }


def numbers_of(model: ExplanationVectors) -> dict[str, float]:
    return {"width": float(model.bandwidth_), "agreement": float(model.agreement_)}


def as_list(values: Floats) -> list[float]:
    found = summary([float(one) for one in values])
    return [found.mean, found.low, found.high]


def run(arguments: argparse.Namespace) -> None:
    """Do all three, and write the figures, the page and the numbers."""
    folder: Path = arguments.docs
    check_place(folder / "explanation-vectors.md")
    check_place(arguments.output)
    names = ("iris", "digits", "tumour", "tumours")
    places = {name: folder / f"explanation-vectors-{name}.png" for name in names}
    measured = {
        "command": "python benchmarks/vectors_experiments.py",
        "versions": {name: version(name) for name in ("scikit-learn", "torch", "numpy", "scipy")},
        "iris": iris(places["iris"]),
        "digits": digits(places["digits"]),
        "tumours": tumours(places["tumour"], places["tumours"]),
    }
    write_bytes(arguments.output, (json.dumps(measured, indent=1) + "\n").encode())
    peers = json.loads(arguments.peers.read_text()) if arguments.peers.is_file() else None
    text = page(measured, {name: place.name for name, place in places.items()}, peers)
    write_bytes(folder / "explanation-vectors.md", text.encode())
    print(f"written: {folder / 'explanation-vectors.md'}, {len(places)} figures, {arguments.output}")


def main() -> None:
    """Run the command line."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=here.parent / "docs", help="folder of the page and the figures")
    parser.add_argument(
        "--output", type=Path, default=here / "measured" / "explanation-vectors.json", help="the numbers"
    )
    parser.add_argument(
        "--peers", type=Path, default=here / "measured" / "vectors-peers.json", help="what vectors_peers.py wrote"
    )
    try:
        run(parser.parse_args())
    except VisavisError as error:
        sys.exit(f"vectors_experiments.py: {error}")


if __name__ == "__main__":
    main()
