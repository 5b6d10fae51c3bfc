"""Classifiers whose gradient is known: by differences of what they say themselves, and left as they are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier, kernels
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler

from blackbox.plain import blobs, differences
from visavis.blackbox import (
    ExplanationVectors,
    GaussianProcess,
    LowAgreementWarning,
    exact,
    exact_kinds,
    register_exact,
)
from visavis.errors import InputError

UNITS, SHIFT = np.array([1.0, 20.0, 0.05]), np.array([3.0, -50.0, 1.0])
# Of small samples, where a mimic is taken.
pytestmark = pytest.mark.filterwarnings("ignore::visavis.blackbox.LowAgreementWarning")


def table(classes: int = 2) -> tuple[Any, Any, Any]:
    points, numbers = blobs(60, 3, classes)
    names = np.array(["ash", "beech", "cedar"])[numbers]
    return points * UNITS + SHIFT, names, blobs(5, 3, 2, seed=1)[0] * UNITS + SHIFT


def compare(found: Any, predict_proba: Any, rows: Any, classes: list[Any]) -> None:
    """Compare vectors with differences of P(Y ≠ A), or of log(P(A)/P(B)), in units of the features' deviations."""
    np.testing.assert_allclose(found.probabilities, predict_proba(rows), rtol=1e-6, atol=1e-12)
    for m, row in enumerate(rows):
        at = classes.index(found.targets[m])

        def quantity(many: Any, m: int = m, at: int = at) -> Any:
            given = predict_proba(many * UNITS)
            if found.foils is None:
                return 1 - given[:, at]
            return np.log(given[:, at] / given[:, classes.index(found.foils[m])])

        slope = differences(quantity, row / UNITS)
        np.testing.assert_allclose(found.values[m] * UNITS, slope, rtol=1e-6, atol=1e-8)


MODELS = {
    "logistic": LogisticRegression(max_iter=5000),
    "standard": make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, C=3.0)),
    "not centred": make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=5000)),
    "not scaled": make_pipeline(StandardScaler(with_std=False), LogisticRegression(max_iter=5000)),
    "neither": make_pipeline(StandardScaler(with_mean=False, with_std=False), LogisticRegression(max_iter=5000)),
    "min-max": make_pipeline(MinMaxScaler((-1, 3)), LogisticRegression(max_iter=5000)),
    "max-abs": make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=5000)),
    "robust": make_pipeline(RobustScaler(), LogisticRegression(max_iter=5000)),
    "robust, not centred": make_pipeline(RobustScaler(with_centering=False), LogisticRegression(max_iter=5000)),
    "robust, not scaled": make_pipeline(RobustScaler(with_scaling=False), LogisticRegression(max_iter=5000)),
    "two": make_pipeline(
        MinMaxScaler(), "passthrough", StandardScaler(), LogisticRegression(max_iter=5000, fit_intercept=False)
    ),
    "process": make_pipeline(StandardScaler(), GaussianProcessClassifier(kernels.RBF(1.2), optimizer=None)),
    "no scaler": make_pipeline(LogisticRegression(max_iter=5000)),
    "inner": make_pipeline(RobustScaler(), make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("frozen", [False, True])
def test_estimators_by_differences(name: str, classes: int, frozen: bool) -> None:
    seen, labels, rows = table(classes)
    model = copy.deepcopy(MODELS[name]).fit(seen, labels)
    before = copy.deepcopy(model.predict_proba(rows))
    vectors = ExplanationVectors(FrozenEstimator(model) if frozen else model, gradients="exact").fit(seen)
    found = vectors.explain(rows, draws=5)
    assert found.exact
    assert found.classes.tolist() == list(model.classes_)
    assert found.said.tolist() == model.predict(rows).tolist()
    assert found.agreement.tolist() == [1] * 5
    assert found.low is None
    compare(found, model.predict_proba, rows, list(model.classes_))
    compare(vectors.contrast(rows, "runner-up"), model.predict_proba, rows, list(model.classes_))
    np.testing.assert_array_equal(model.predict_proba(rows), before)
    with pytest.raises(InputError, match="no rows need be sampled"):
        vectors.sample(5)


def test_of_data_frames() -> None:
    seen, labels, rows = table()
    names = ["a", "b", "c"]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(pd.DataFrame(seen, columns=names), labels)
    found = ExplanationVectors(model, gradients="exact").fit(pd.DataFrame(seen, columns=names))
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(seen, labels)
    compare(found.explain(pd.DataFrame(rows, columns=names)), plain.predict_proba, rows, ["ash", "beech"])


class Halved(LogisticRegression):
    """Says less than its coefficients."""

    def decision_function(self, rows: Any) -> Any:
        return super().decision_function(rows) / 2


def tampered() -> Any:
    model = LogisticRegression()
    model.predict_proba = lambda rows: np.full((len(rows), 2), 0.5)
    return model


def unlike() -> Iterator[Any]:
    """Give classifiers that are not what the closed form is of."""
    yield Halved(), table()
    yield tampered(), table()
    yield make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression()), table()
    yield make_pipeline(MinMaxScaler(clip=True), LogisticRegression()), table()
    yield make_pipeline(StandardScaler(), Halved()), table()
    for kernel, pairs in ((kernels.RBF(1.0), "one_vs_one"), (kernels.Matern(nu=0.5), "one_vs_rest")):
        yield GaussianProcessClassifier(kernel, optimizer=None, multi_class=pairs), table(3)


@pytest.mark.parametrize(("model", "given"), list(unlike()), ids=lambda one: type(one).__name__)
def test_what_differs_from_its_closed_form_has_a_mimic(model: Any, given: Any) -> None:
    seen, labels, _ = given
    model.fit((seen - SHIFT) / UNITS, labels)
    found = ExplanationVectors(model, bandwidth=1.0).fit((seen - SHIFT) / UNITS)
    assert not found.exact_
    assert found.source_ == "Parzen mimic of 60 rows"
    with pytest.raises(InputError, match="the gradient of this classifier is not known"):
        found.set_params(gradients="exact").fit((seen - SHIFT) / UNITS)


def test_a_warning_where_labels_are_not_those_of_the_probabilities() -> None:
    """Such as behind a threshold of one's own."""
    seen, labels, rows = table()
    model = LogisticRegression(max_iter=5000).fit(seen, labels)
    model.predict = lambda rows: np.where(model.predict_proba(rows)[:, 0] > 0.999, "ash", "beech")
    differs = model.predict(rows) != model.classes_[model.predict_proba(rows).argmax(1)]
    with pytest.warns(LowAgreementWarning, match=f"at {differs.sum()} of 5 rows .* says something else"):
        found = ExplanationVectors(model).fit(seen).explain(rows)
    assert found.agrees.tolist() == (~differs).tolist()


def test_a_mimic_where_one_is_asked_for() -> None:
    seen, labels, _ = table()
    model = LogisticRegression().fit((seen - SHIFT) / UNITS, labels)
    found = ExplanationVectors(model, gradients="mimic", bandwidth=1.0).fit((seen - SHIFT) / UNITS)
    assert not found.exact_
    assert found.mimic_.bandwidth_ == 1.0


def test_a_gaussian_process_of_ours() -> None:
    seen, labels, rows = table()
    given, scaled = (seen - SHIFT) / UNITS, (rows - SHIFT) / UNITS
    model = GaussianProcessClassifier(kernels.RBF(1.2), optimizer=None).fit(given, labels)
    ours = GaussianProcess.from_sklearn(model, link="probit")
    found = ExplanationVectors(ours).fit(given).explain(scaled)
    for m, row in enumerate(scaled):
        at = ["ash", "beech"].index(found.said[m])
        slope = differences(lambda many, at=at: 1 - ours.predict_proba(many)[:, at], row)
        np.testing.assert_allclose(found.values[m], slope, rtol=1e-7, atol=1e-10)


def test_a_kind_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_BUILDS", dict(exact._BUILDS))
    with pytest.raises(InputError, match="'LogisticRegression' is already registered"):
        register_exact("LogisticRegression", lambda classifier, shape: None)

    class Odd:
        def predict(self, rows: Any) -> Any:
            return self.predict_proba(rows).argmax(1)

        def predict_proba(self, rows: Any) -> Any:
            yes = 1 / (1 + np.exp(-rows @ [1.0, 2.0, -1.0]))
            return np.stack([1 - yes, yes], 1)

    def build(classifier: Any, shape: tuple[int, ...]) -> Any:
        if not isinstance(classifier, Odd):
            return None
        weight = torch.tensor([[0.0, 0, 0], [1, 2, -1]], dtype=torch.float64)
        return exact.Exact(exact.LinearSource(weight, torch.zeros(2, dtype=torch.float64)), np.arange(2), "ours")

    register_exact("odd", build)
    assert exact_kinds()[-1] == "odd"
    rows = blobs(20, 3, 2)[0]
    found = ExplanationVectors(Odd()).fit(rows).explain(rows)
    yes = Odd().predict_proba(rows)[:, 1]
    signs = np.where(yes > 0.5, -1, 1)
    np.testing.assert_allclose(found.values, (signs * yes * (1 - yes))[:, None] * [1.0, 2.0, -1.0], rtol=1e-9)
    assert found.source == "ours"
