"""Explanation vectors beside LIME and SHAP, on the same points, where the true gradient of P(A) is known.

A is what the classifier says of a row. Each case has a classifier whose ∇P(A) is known by a formula of its own, rows
that everyone may learn from, and other rows that are explained. What is compared with what:

- Visavis: −ζ = ∇P(A), of the mimic by its direction, which ∇ log odds has too and which does not underflow. Exact where
  the classifier's gradient is known; the mimic of the known rows as the classifier labels them; and that mimic after
  `.sample(1000, near=rows)`.
- Finite differences: central ones of P(A), of a thousandth of a standard deviation. Where smooth
  probabilities are to be had nothing else is needed; they are the yardstick.
- LIME: `LimeTabularExplainer` on the known rows, `discretize_continuous=False`, all features, else as it comes (5,000
  draws around the mean of the data, weighted by how near they are). It fits its lines to features that are divided by
  their standard deviation, so a coefficient is divided by that to be a derivative. "LIME at the row" draws around the
  row (`sample_around_instance=True`).
- SHAP: `KernelExplainer`, the background being 50 k-means of the known rows. Its values φ share P(A)(x) − mean P(A)
  among features and are no gradients, so two things are asked of them: are the slopes φ_i / (x_i − mean_i), with the
  mean of the background, the gradient ("SHAP slopes"); and are the values themselves gradient_i × (x_i − mean_i), as
  they are for a linear function ("SHAP values")? By itself SHAP gives values to ten features at most; "all features"
  is `l1_reg=False`, where there are more than ten.

LIME and SHAP are made for probabilities, and the mimic asks for labels alone; so both run on labels too, as
probabilities of 0 and 1.

Measured are the cosine with the true gradient, per standard deviation of the known rows (a feature that does not vary
counts nothing): its median over the rows and the 95 % interval of that by bootstrap; how often signs agree, each
weighted by the size of the true component (the cosine also of the steeper half of the rows alone, for where P(A) hardly
changes its direction says little); how many rows the classifier was asked about for each that was explained,
what was asked once being shared among them; and the processor time for each, set-up shared likewise, over the mimic's.
An answer of zeros has the cosine 0; rows whose true gradient is 0 are left out. In a round all run in turn; what goes
row by row (LIME, SHAP) explains its part of the rows in each, all others explain all, and the ratio is the median over
rounds; the mimic of rows around each, by far the slowest, takes part in the first alone. One thread. Machines are
shared with others, so times are rough.

    python benchmarks/vectors_peers.py --output benchmarks/measured/vectors-peers.json     # three minutes
    python benchmarks/vectors_peers.py --cases gp2 quadratic --points 10 --repeats 1
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.datasets import load_breast_cancer, load_digits, make_classification, make_moons
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn

from visavis.blackbox import ExplanationVectors
from visavis.errors import InputError, VisavisError
from visavis.evaluation.statistics import summary
from visavis.files import check_place, write_bytes

Floats = NDArray[np.float64]
# Of the finite differences, in standard deviations.
_STEP = 1e-3
_DRAWS = 2000
_PACKAGES = ("visavis", "lime", "shap", "scikit-learn", "torch", "numpy", "scipy")


@dataclass(frozen=True, eq=False)
class Case:
    """A classifier of two classes, 0 and 1, whose gradient is known.

    Attributes:
        title: for the table.
        predict: rows (n, d) → labels (n,).
        predict_proba: rows → probabilities (n, 2).
        gradient: rows → ∇P(1), (n, d), by a formula of its own.
        known: rows that may be learned from.
        points: rows that are explained.
        exact: the classifier as Visavis knows its gradient; None where it does not.
        scale: of `ExplanationVectors`.
    """

    title: str
    predict: Callable[[Floats], NDArray[np.int64]]
    predict_proba: Callable[[Floats], Floats]
    gradient: Callable[[Floats], Floats]
    known: Floats
    points: Floats
    exact: Any = None
    scale: str = "standard"

    @property
    def spread(self) -> Floats:
        """The standard deviation of each feature; 0 for one that does not vary."""
        return np.asarray(self.known.std(0) * (np.ptp(self.known, axis=0) > 0))


def tumours(points: int, seed: int) -> Case:
    """Logistic regression on the breast-cancer data: 30 features, many alike, of very different units."""
    data = load_breast_cancer()
    known, rest, labels, _ = train_test_split(
        data.data, data.target, test_size=0.5, random_state=seed, stratify=data.target
    )
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(known, labels)
    scaler, line = model[0], model[1]

    def gradient(rows: Floats) -> Floats:
        odds = (rows - scaler.mean_) / scaler.scale_ @ line.coef_[0] + line.intercept_[0]
        return np.asarray((expit(odds) * expit(-odds))[:, None] * (line.coef_[0] / scaler.scale_))

    return Case("linear, tumours (30)", model.predict, model.predict_proba, gradient, known, _some(rest, points), model)


def gaussian_process(rows: Floats, labels: NDArray[np.int64], points: int, title: str) -> Case:
    """A Gaussian process with an RBF kernel; all rows but the first 200 are there to be explained."""
    known, rest = rows[:200], rows[200:]
    kernel = ConstantKernel(1.0) * RBF(1.0)
    model = GaussianProcessClassifier(kernel).fit(known, labels[:200])
    return Case(
        title,
        model.predict,
        model.predict_proba,
        lambda given: gp_gradient(model.base_estimator_, given),
        known,
        _some(rest, points),
        model,
    )


def moons(points: int, seed: int) -> Case:
    """Two moons that overlap."""
    rows, labels = make_moons(600, noise=0.3, random_state=seed)
    return gaussian_process(rows, labels, points, "Gaussian process, moons (2)")


def clouds(points: int, seed: int) -> Case:
    """Two clouds for each of two classes, in five features."""
    rows, labels = make_classification(600, 5, n_informative=5, n_redundant=0, random_state=seed)
    return gaussian_process(rows, labels, points, "Gaussian process, clouds (5)")


def gp_gradient(model: Any, rows: Floats) -> Floats:
    """Return ∇P(1) of scikit-learn's binary Gaussian process with the kernel c · RBF(ℓ), by its formula.

    P = Σ_k s_k/2 erf(a_k f/√(1 + 2 a_k² v)) + const., of the latent mean f and variance v (Williams & Barber 1998).
    """
    shares = np.array([-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654])
    scales = np.array([0.41, 0.4, 0.37, 0.44, 0.39])
    height, length = model.kernel_.k1.constant_value, model.kernel_.k2.length_scale
    found = np.empty_like(rows)
    for place, row in enumerate(rows):
        apart = row - model.X_train_
        star = height * np.exp(-(apart**2).sum(1) / (2 * length**2))
        slopes = -star[:, None] * apart / length**2
        inner = np.linalg.solve(model.L_, model.W_sr_ * star)
        mean, variance = star @ (model.y_train_ - model.pi_), height - inner @ inner
        of_mean = slopes.T @ (model.y_train_ - model.pi_)
        of_variance = -2 * slopes.T @ (model.W_sr_ * np.linalg.solve(model.L_.T, inner))
        width = np.sqrt(1 + 2 * scales**2 * variance)
        bell = shares * np.exp(-((scales * mean / width) ** 2)) / np.sqrt(np.pi)
        by_mean, by_variance = (bell * scales / width).sum(), -(bell * scales**3 * mean / width**3).sum()
        found[place] = by_mean * of_mean + by_variance * of_variance
    return found


def quadratic(points: int, seed: int) -> Case:
    """The logistic function of a quadratic form of ten independent normal features; Visavis does not know it."""
    generator = np.random.default_rng(seed)
    square, line = generator.standard_normal((10, 10)), generator.standard_normal(10)
    form = square + square.T
    form, line = 2 * form / np.linalg.norm(form), 2 * line / np.linalg.norm(line)

    def odds(rows: Floats) -> Floats:
        return np.asarray(((rows @ form) * rows).sum(1) - np.trace(form) + rows @ line)

    def probabilities(rows: Floats) -> Floats:
        return np.stack([expit(-odds(rows)), expit(odds(rows))], 1)

    def gradient(rows: Floats) -> Floats:
        return np.asarray((expit(odds(rows)) * expit(-odds(rows)))[:, None] * (2 * rows @ form + line))

    known, rest = generator.standard_normal((500, 10)), generator.standard_normal((400, 10))

    def predict(rows: Floats) -> NDArray[np.int64]:
        return np.asarray(odds(rows) > 0, dtype=np.int64)

    known, rest = generator.standard_normal((500, 10)), generator.standard_normal((400, 10))
    return Case("quadratic form (10)", predict, probabilities, gradient, known, _some(rest, points))


def digits(points: int, seed: int) -> Case:
    """A network of one hidden layer on the digits 2 and 8; pixels are alike in unit, so none is scaled."""
    data = load_digits()
    chosen = np.isin(data.target, (2, 8))
    known, rest, labels, _ = train_test_split(
        data.data[chosen] / 16, data.target[chosen] == 8, test_size=0.5, random_state=seed, stratify=data.target[chosen]
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)).double()
    wanted = torch.tensor(labels).long()
    # By hand: torch's optimisers take seconds to load.
    for _ in range(300):
        loss = nn.functional.cross_entropy(network(torch.tensor(known)), wanted)
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for weights, slope in zip(network.parameters(), slopes, strict=True):
                weights.sub_(0.5 * slope)

    def probabilities(rows: Floats) -> Floats:
        with torch.no_grad():
            return np.asarray(network(torch.tensor(rows)).softmax(1).numpy())

    def gradient(rows: Floats) -> Floats:
        given = torch.tensor(rows, requires_grad=True)
        return np.asarray(torch.autograd.grad(network(given).softmax(1)[:, 1].sum(), given)[0].numpy())

    return Case(
        "network, digits (64)",
        lambda rows: probabilities(rows).argmax(1),
        probabilities,
        gradient,
        known,
        _some(rest, points),
        network.eval(),
        scale="none",
    )


def _some(rows: Floats, points: int) -> Floats:
    if points > len(rows):
        raise InputError(f"a case has {len(rows)} rows to explain; --points is {points}")
    return rows[:points]


CASES: dict[str, Callable[[int, int], Case]] = {
    "tumours": tumours,
    "gp2": moons,
    "gp5": clouds,
    "quadratic": quadratic,
    "digits": digits,
}


@dataclass(eq=False)
class Counted:
    """A case's classifier, and how many rows it was asked about."""

    case: Case
    asked: int = 0

    def labels(self, rows: Floats) -> NDArray[np.int64]:
        """Return the labels (n,)."""
        self.asked += len(rows)
        return self.case.predict(rows)

    def probabilities(self, rows: Floats) -> Floats:
        """Return probabilities (n, 2)."""
        self.asked += len(rows)
        return self.case.predict_proba(rows)

    def certainties(self, rows: Floats) -> Floats:
        """Return labels as probabilities of 0 and 1, (n, 2)."""
        return np.asarray(np.eye(2)[self.labels(rows)])


@dataclass(frozen=True, eq=False)
class Answer:
    """What a contestant says of rows.

    Attributes:
        slopes: (m, d), as ∇P(A), per unit of each feature; of any length.
        values: (m, d), SHAP's.
        apart: (m, d), from SHAP's mean to the row.
    """

    slopes: Floats
    values: Floats | None = None
    apart: Floats | None = None


Explain = Callable[[Floats], Answer]


@dataclass(frozen=True)
class Contestant:
    """Someone who explains.

    Attributes:
        title: for the table.
        asks: for what it asks the classifier.
        start: takes a case, its counted classifier and a seed, and returns what explains rows.
        row_by_row: whether it explains each row by itself.
        title_of_values: of the row of the table for what is no gradient.
        once: whether it takes part in the first round alone.
    """

    title: str
    asks: str
    start: Callable[[Case, Counted, int], Explain]
    row_by_row: bool = False
    title_of_values: str = ""
    once: bool = False


def exact(case: Case, counted: Counted, seed: int) -> Explain:
    """Visavis, of the classifier's own gradient."""
    return _visavis(ExplanationVectors(case.exact, gradients="exact", scale=case.scale, device="cpu").fit(case.known))


def mimic(case: Case, counted: Counted, seed: int) -> Explain:
    """Visavis, of labels alone."""
    options: dict[str, Any] = {"gradients": "mimic", "scale": case.scale, "random_state": seed, "device": "cpu"}
    return _visavis(ExplanationVectors(counted.labels, **options).fit(case.known))


def sampled(case: Case, counted: Counted, seed: int) -> Explain:
    """Visavis, of labels alone, also of a thousand rows around each row that is explained."""
    options: dict[str, Any] = {"gradients": "mimic", "scale": case.scale, "random_state": seed, "device": "cpu"}
    return _visavis(ExplanationVectors(counted.labels, **options).fit(case.known).sample(1000, near=case.points))


def _visavis(model: ExplanationVectors) -> Explain:
    return lambda rows: Answer(model.explain(rows).log_odds_gradient)


def differences(case: Case, counted: Counted, seed: int) -> Explain:
    """Central differences of P(A)."""
    steps = np.diag(_STEP * np.where(case.spread > 0, case.spread, 1.0))

    def explain(rows: Floats) -> Answer:
        said = counted.probabilities(rows).argmax(1)
        around = np.concatenate([rows[:, None] + steps, rows[:, None] - steps], 1)
        found = counted.probabilities(around.reshape(-1, rows.shape[1])).reshape(len(rows), -1, 2)
        of_said = np.take_along_axis(found, said[:, None, None], 2)[:, :, 0]
        plus, minus = np.split(of_said, 2, axis=1)
        return Answer((plus - minus) / (2 * steps.diagonal()))

    return explain


def lime(*, by_labels: bool, at_row: bool) -> Callable[[Case, Counted, int], Explain]:
    """LIME, as ∇P(A)."""

    def start(case: Case, counted: Counted, seed: int) -> Explain:
        from lime.lime_tabular import LimeTabularExplainer

        explainer = LimeTabularExplainer(
            case.known, discretize_continuous=False, sample_around_instance=at_row, random_state=seed
        )
        ask, width = counted.certainties if by_labels else counted.probabilities, case.known.shape[1]

        def one(row: Floats) -> Floats:
            # Of two classes the coefficients of one are those of the other, negated.
            found = explainer.explain_instance(row, ask, labels=(0, 1), num_features=width)
            said = int(found.predict_proba.argmax())
            coefficients = np.zeros(width)
            for place, weight in found.local_exp[said]:
                coefficients[place] = weight
            return np.asarray(coefficients / explainer.scaler.scale_)

        return lambda rows: Answer(np.stack([one(row) for row in rows]))

    return start


def shap(*, by_labels: bool, every: bool) -> Callable[[Case, Counted, int], Explain]:
    """SHAP's values, and the slopes that they imply."""

    def start(case: Case, counted: Counted, seed: int) -> Explain:
        import shap as package

        background = package.kmeans(case.known, 50)
        ask = counted.certainties if by_labels else counted.probabilities
        explainer = package.KernelExplainer(ask, background)
        mean = background.weights @ background.data / background.weights.sum()
        options = {"l1_reg": False} if every else {}

        def explain(rows: Floats) -> Answer:
            with _drawn_from(seed):
                found = explainer.shap_values(rows, silent=True, **options)
            # Both outputs sum to 1, so the values of one class are those of the other, negated: f(x) says which is A.
            said = (found.sum(1) + explainer.expected_value).argmax(1)
            values = np.take_along_axis(found, said[:, None, None], 2)[:, :, 0]
            apart = rows - mean
            there = np.abs(apart) > 1e-9 * np.abs(case.known).max(0)
            return Answer(np.divide(values, apart, out=np.zeros_like(values), where=there), values, apart)

        return explain

    return start


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """SHAP draws from NumPy's global generator."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def contestants(case: Case) -> list[Contestant]:
    """Return who takes part in a case."""
    found = [
        *([Contestant("Visavis, exact", "its gradient", exact)] if case.exact is not None else []),
        Contestant("Visavis, mimic", "labels", mimic),
        Contestant("Visavis, mimic, 1,000 rows around each", "labels", sampled, once=True),
        Contestant("finite differences", "probabilities", differences),
    ]
    both = (("probabilities", False), ("labels", True))
    for asks, by_labels in both:
        found += [
            Contestant("LIME", asks, lime(by_labels=by_labels, at_row=False), row_by_row=True),
            Contestant("LIME at the row", asks, lime(by_labels=by_labels, at_row=True), row_by_row=True),
        ]
    for asks, by_labels in both:
        for every in (False, True) if case.known.shape[1] > 10 else (False,):
            more = ", all features" if every else ""
            start = shap(by_labels=by_labels, every=every)
            found.append(Contestant(f"SHAP slopes{more}", asks, start, True, f"SHAP values{more}"))
    return found


@dataclass(eq=False)
class Taken:
    """What a contestant took, round by round, and what it said."""

    answers: list[Answer] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)


def raced(case: Case, who: Sequence[Contestant], repeats: int, seed: int) -> list[Taken]:
    """Return for each contestant its answers, for each round its seconds and rows asked for each row explained."""
    taken = [Taken() for _ in who]
    parts = np.array_split(case.points, repeats)
    for turn, part in enumerate(parts):
        for one, kept in zip(who, taken, strict=True):
            if one.once and turn:
                continue
            rows, counted = part if one.row_by_row else case.points, Counted(case)
            started = time.process_time()
            explain = one.start(case, counted, seed + turn if one.row_by_row else seed)
            once, ready = counted.asked, time.process_time()
            answer = explain(rows)
            kept.seconds.append((ready - started) / len(case.points) + (time.process_time() - ready) / len(rows))
            kept.asked.append(once / len(case.points) + (counted.asked - once) / len(rows))
            if one.row_by_row or not turn:
                kept.answers.append(answer)
    return taken


def cosines(found: Floats, true: Floats) -> Floats:
    """Return the cosine of each row; 0 where nothing was found, NaN where there is nothing to find."""
    one, other = _unit(found), _unit(true)
    return np.where(other.any(1), (one * other).sum(1), np.nan)


def _unit(vectors: Floats) -> Floats:
    """Return vectors of length 1; zeros for zeros, and for what is not finite."""
    kept = np.where(np.isfinite(vectors).all(1, keepdims=True), vectors, 0.0)
    # Squares of tiny numbers underflow.
    most = np.abs(kept).max(1, keepdims=True)
    kept = kept / np.where(most > 0, most, 1.0)
    length = np.linalg.norm(kept, axis=1, keepdims=True)
    return np.asarray(kept / np.where(length > 0, length, 1.0))


def signs(found: Floats, true: Floats) -> Floats:
    """Return how often signs agree, weighted by |true|, in [0, 1]; NaN where there is nothing to find."""
    size = np.abs(_unit(true))
    total = size.sum(1)
    agreed = (size * (np.sign(found) == np.sign(true))).sum(1)
    return np.where(total > 0, agreed / np.where(total > 0, total, 1.0), np.nan)


def middle(values: Floats, seed: int) -> list[float] | None:
    """Return the median of what is known, and its 95 % interval by bootstrap; None where nothing is."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    drawn = np.random.default_rng(seed).choice(known, (_DRAWS, len(known)))
    low, high = np.percentile(np.median(drawn, 1), [2.5, 97.5])
    return [float(np.median(known)), float(low), float(high)]


def measured(name: str, case: Case, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Return a row for each contestant of a case, two where it says two things."""
    who = contestants(case)
    taken = raced(case, who, repeats, seed)
    of_mimic = next(kept.seconds for one, kept in zip(who, taken, strict=True) if one.start is mimic)
    away = np.where(case.predict(case.points) == 1, 1.0, -1.0)[:, None]
    true = away * case.gradient(case.points)
    size = np.linalg.norm(true * case.spread, axis=1)
    steep = size >= np.median(size)
    rows = []
    for one, kept in zip(who, taken, strict=True):
        slopes = np.concatenate([answer.slopes for answer in kept.answers])
        asked = None if one.asks == "its gradient" else statistics.median(kept.asked)
        # Who takes part once, does so in the first round.
        ratios = [mine / other for mine, other in zip(kept.seconds, of_mimic, strict=False)]
        of_all = {
            "asked": asked,
            "seconds": statistics.median(kept.seconds),
            "times_mimic": statistics.median(ratios),
        }
        words = {"case": name, "title": case.title, "asks": one.asks}
        found = _scores(slopes * case.spread, true * case.spread, steep, seed)
        rows.append({**words, "contestant": one.title, **found, **of_all})
        if one.title_of_values:
            values, apart = (
                np.concatenate([getattr(answer, which) for answer in kept.answers]) for which in ("values", "apart")
            )
            shown = case.spread > 0
            found = _scores(values * shown, true * apart * shown, steep, seed)
            rows.append({**words, "contestant": one.title_of_values, **found, **of_all})
    return rows


def _scores(found: Floats, true: Floats, steep: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    angles, agreed = cosines(found, true), signs(found, true)
    mean = summary(angles, seed=seed)
    return {
        "cosine": middle(angles, seed),
        "cosine_steep": middle(angles[steep], seed),
        "cosine_mean": [mean.mean, mean.low, mean.high] if mean.count else None,
        "signs": middle(agreed, seed),
        "points": mean.count,
        "zeros": int((~_unit(found).any(1)).sum()),
    }


COLUMNS = ("case (features)", "contestant", "asks for", "cosine", "steeper half", "signs", "rows asked", "time")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a row of the table."""
    cosine, steep, agreed = row["cosine"], row["cosine_steep"], row["signs"]
    return (
        row["title"],
        row["contestant"],
        row["asks"],
        "–" if cosine is None else "{} ({} to {})".format(*map(_number, cosine)),
        "–" if steep is None else _number(steep[0]),
        "–" if agreed is None else f"{agreed[0]:.0%}",
        "–" if row["asked"] is None else f"{row['asked']:,.0f}",
        f"{row['times_mimic']:.2g}" if row["times_mimic"] < 10 else f"{row['times_mimic']:,.0f}",
    )


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table as markdown, line by line."""
    head = [COLUMNS, ("---", "---", "---", *["---:"] * 5)]
    return [f"| {' | '.join(one)} |" for one in (*head, *map(cells, rows))]


_HEAD = """\
Classifiers whose gradient is known by a formula, and {points} rows of each that they were not fitted to. The cosine \
is that with the true gradient, per standard deviation: the median, with its 95 % interval; beside it that of the half \
of the rows where the gradient is the larger, for where P(A) hardly changes its direction says little. Signs count by \
the size of the true component. Rows asked and time are those for each row explained, with what is done once shared \
among them; time is the processor's on one thread, over that of the mimic (machines are shared: it is rough). LIME's \
coefficients are divided by the standard deviation, as it fits to features that are. SHAP's values are no gradients: \
they share P(A) minus its mean among features, so they are compared with gradient × (row − mean), and their slopes, \
values / (row − mean), with the gradient. Labels are given to LIME and SHAP as probabilities of 0 and 1. Where \
smooth probabilities are to be had, finite differences are enough."""


def reading(rows: Sequence[dict[str, Any]]) -> str:
    """Return what the table says, in words: who comes nearest in each case, and where the mimic stands."""
    said = []
    for title in dict.fromkeys(row["title"] for row in rows):
        # Values of SHAP are compared with something else.
        here = [
            row
            for row in rows
            if row["title"] == title and row["cosine"] is not None and not row["contestant"].startswith("SHAP values")
        ]
        own = [_number(row["cosine"][0]) for row in here if row["contestant"].startswith("Visavis, mimic")]
        peers = []
        for asks in ("labels", "probabilities"):
            others = [row for row in here if row["asks"] == asks and row["contestant"].startswith(("LIME", "SHAP"))]
            if others:
                best = max(others, key=lambda row: row["cosine"][0])
                peers.append(f"of {asks} {best['contestant']}, {_number(best['cosine'][0])}")
        if own and peers:
            said.append(f"{title}: the mimic {own[0]}, with rows around each {own[1]}; {'; '.join(peers)}.")
    head = _HEAD.format(points=max(row["points"] for row in rows))
    return f"{head}\n\nThe mimic, which asks for labels, and the peer that is nearest to the gradient. {' '.join(said)}"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the peers' warnings, and those of low agreement: the table says what came of it; on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")
            # Loading is no part of anyone's time.
            _load()
            yield
    finally:
        torch.set_num_threads(threads)


def _load() -> None:
    for name in ("lime.lime_tabular", "shap"):
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(f"{name} cannot be loaded ({error}); pip install lime shap") from error


def run(arguments: argparse.Namespace) -> None:
    """Measure what the command line asks for, print the table and write it."""
    if not 1 <= arguments.repeats <= arguments.points:
        raise InputError("--repeats and --points are numbers of at least 1, --repeats not above --points")
    if arguments.seed < 0:
        raise InputError("--seed is a number of at least 0")
    if arguments.output is not None:
        check_place(arguments.output)
    rows: list[dict[str, Any]] = []
    print("\n".join(lines([])), flush=True)
    with quiet():
        for name in arguments.cases:
            found = measured(name, CASES[name](arguments.points, arguments.seed), arguments.repeats, arguments.seed)
            rows += found
            print("\n".join(lines(found)[2:]), flush=True)
    made = {
        "command": shlex.join(["python", "benchmarks/vectors_peers.py", *sys.argv[1:]]),
        "versions": {name: version(name) for name in _PACKAGES},
        "points": arguments.points,
        "repeats": arguments.repeats,
        "seed": arguments.seed,
        "reading": reading(rows),
        "table": lines(rows),
        "rows": rows,
    }
    print(f"\n{made['reading']}\n\n" + ", ".join(f"{name} {number}" for name, number in made["versions"].items()))
    if arguments.output is not None:
        write_bytes(arguments.output, (json.dumps(made, indent=1, allow_nan=False) + "\n").encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="all unless given")
    parser.add_argument("--points", type=int, default=30, help="rows that are explained in each case (30)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds in which times are taken (3)")
    parser.add_argument("--seed", type=int, default=0, help="of data, networks and all that is drawn (0)")
    parser.add_argument("--output", type=Path, help="write the table and its numbers there, as JSON")
    return parser


def main() -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    try:
        run(_parser().parse_args())
    except VisavisError as error:
        sys.exit(f"vectors_peers.py: {error}")


if __name__ == "__main__":
    main()
