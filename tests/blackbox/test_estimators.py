"""Any classifier: estimators, functions, pictures and data frames; asked for labels alone, and left as it is."""

from __future__ import annotations

import inspect
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from blackbox.plain import Halves, blobs, shares, zeta
from visavis.blackbox import ExplanationVectors
from visavis.errors import InputError

# Of small samples; when it is given, and when not, is for test_recovery.
pytestmark = pytest.mark.filterwarnings("ignore::visavis.blackbox.LowAgreementWarning")


@parametrize_with_checks([ExplanationVectors(Halves())])
def test_the_conventions_of_scikit_learn(estimator: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where annotations go unchecked, as they do for users: one of the checks sets every parameter to −1.
    monkeypatch.setattr(ExplanationVectors, "__init__", inspect.unwrap(ExplanationVectors.__init__))
    check(estimator)


ESTIMATORS = [
    KNeighborsClassifier(5, algorithm="brute"),
    SVC(kernel="rbf"),
    RandomForestClassifier(20, random_state=0),
    make_pipeline(StandardScaler(), PolynomialFeatures(2), SVC()),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("classes", [["no", "yes"], [7, 3, 5], [True, False]], ids=str)
def test_any_estimator_by_its_labels_alone(estimator: Any, classes: list[Any]) -> None:
    points, numbers = blobs(80, 3, len(classes))
    rows = blobs(5, 3, 2, seed=1)[0]
    fitted = clone(estimator).fit(points, np.array(classes)[numbers])
    before = joblib.hash(fitted)
    found = ExplanationVectors(fitted, bandwidth=0.8, scale="none", probes=4, threshold=0).fit(points)
    values = found.explain(rows[found.mimic_.predict(rows) == fitted.predict(rows)])
    assert joblib.hash(fitted) == before
    assert values.classes.tolist() == sorted(classes)
    labels = np.array([sorted(classes).index(one) for one in fitted.predict(points).tolist()])
    assert len(values)
    for row, said, value, probabilities in zip(
        values.rows, values.said, values.values, values.probabilities, strict=True
    ):
        np.testing.assert_allclose(value, zeta(row, points, labels, 0.8, sorted(classes).index(said)), rtol=1e-8)
        np.testing.assert_allclose(probabilities, shares(row, points, labels, 0.8), rtol=1e-8)


class Watched(ClassifierMixin, BaseEstimator):
    """Is fitted by nobody, writes into what it is given, and knows no probabilities."""

    classes_ = np.array([0, 1])

    def fit(self, *_: Any) -> Any:
        raise AssertionError("explaining refits nothing")

    def predict(self, rows: Any) -> Any:
        said = (rows.sum(1) > 0).astype(int)
        rows[:] = 99
        return said


def test_neither_the_classifier_nor_the_rows_are_changed() -> None:
    seen, rows = blobs(60)[0], blobs(5, seed=1)[0]
    kept = seen.copy(), rows.copy()
    found = ExplanationVectors(Watched()).fit(seen).sample(20).sample(5, near=rows).explain(rows, draws=5)
    np.testing.assert_array_equal(seen, kept[0])
    np.testing.assert_array_equal(rows, kept[1])
    np.testing.assert_array_equal(found.rows, rows)
    said = [int(sum(row) > 0) for row in rows]
    assert found.said.tolist() == said
    assert (np.sign(found.values) == np.where(np.array(said)[:, None] == 1, -1, 1)).mean() > 0.8


def test_what_is_kept_is_not_the_callers() -> None:
    """Whoever writes into their array afterwards changes no explanation."""
    seen, rows = blobs(60)[0], blobs(5, seed=1)[0]
    vectors = ExplanationVectors(lambda given: given[:, 0] > 0, probes=0, threshold=0).fit(seen)
    same = ExplanationVectors(lambda given: given[:, 0] > 0, probes=0, threshold=0).fit(seen.copy())
    kept, found = rows.copy(), vectors.explain(rows)
    seen[:] = 0
    for one in (vectors, same):
        one.sample(5, spread=0.01)
    np.testing.assert_array_equal(vectors.explain(rows).values, same.explain(rows).values)
    rows[:] = 0
    np.testing.assert_array_equal(found.rows, kept)


def test_data_frames_and_their_names() -> None:
    """A frame's classifier is given frames, or scikit-learn would warn of names; warnings are errors here."""
    points, numbers = blobs(80, 3, 2)
    labels, names = np.array(["no", "yes"])[numbers], ["length", "width", "weight"]
    frame, rows = (pd.DataFrame(one, columns=names) for one in (points, blobs(6, 3, 2, seed=1)[0]))
    for model in (SVC(), make_pipeline(StandardScaler(), KNeighborsClassifier())):
        plain = ExplanationVectors(clone(model).fit(points, labels), bandwidth=1.0).fit(points)
        values = plain.sample(10).sample(5, near=rows.to_numpy()).explain(rows.to_numpy(), draws=5).values
        vectors = ExplanationVectors(clone(model).fit(frame, labels), bandwidth=1.0).fit(frame)
        found = vectors.sample(10).sample(5, near=rows).explain(rows, draws=5)
        np.testing.assert_allclose(found.values, values, rtol=1e-9)
        assert found.names == tuple(names)
        assert vectors.feature_names_in_.tolist() == names
        np.testing.assert_array_equal(found.component("width"), found.values[:, 1])
        with pytest.raises(InputError, match="feature names should match"):
            vectors.explain(rows.rename(columns={"width": "breadth"}))


def test_the_mimic_knows_the_features_too() -> None:
    points, numbers = blobs(80, 3, 2)
    frame = pd.DataFrame(points, columns=["length", "width", "weight"])
    mimic = ExplanationVectors(SVC().fit(frame, numbers)).fit(frame).mimic_
    assert mimic.n_features_in_ == 3
    assert mimic.feature_names_in_.tolist() == ["length", "width", "weight"]
    # Without names it would warn of them.
    np.testing.assert_array_equal(mimic.predict(frame), mimic.classes_[mimic.predict_log_proba(frame).argmax(1)])


def test_a_clone_forgets_unless_it_is_frozen() -> None:
    points, numbers = blobs(60)
    tree = DecisionTreeClassifier(random_state=0).fit(points, numbers)
    with pytest.raises(InputError, match=r"the classifier is not fitted .*; fit it before"):
        clone(ExplanationVectors(tree)).fit(points)
    frozen = ExplanationVectors(FrozenEstimator(tree), bandwidth=1.0, probes=0, threshold=0)
    one = clone(frozen).fit(points)
    other = ExplanationVectors(tree, bandwidth=1.0, probes=0).fit(points)
    rows = points[other.mimic_.predict(points) == tree.predict(points)]
    np.testing.assert_array_equal(one.explain(rows).values, other.explain(rows).values)


def brightness(pictures: Any) -> Any:
    assert pictures.shape[1:] == (2, 3, 4)
    return np.where(pictures[:, 1, :, 2].sum(1) > 0, "bright", "dark")


def test_pictures_keep_their_shape() -> None:
    seen, rows = (np.random.default_rng(seed).normal(size=(count, 2, 3, 4)) for seed, count in ((0, 300), (1, 6)))
    found = ExplanationVectors(brightness, probes=4, threshold=0, bandwidth=2.0).fit(seen)
    inside = rows[found.mimic_.predict(rows.reshape(6, -1)) == brightness(rows)]
    picture = found.explain(inside).shaped
    assert picture.shape == inside.shape
    flat = ExplanationVectors(lambda many: brightness(many.reshape(-1, 2, 3, 4)), bandwidth=2.0, probes=0)
    values = flat.fit(seen.reshape(300, -1)).explain(inside.reshape(len(inside), -1)).values
    np.testing.assert_array_equal(picture, values.reshape(inside.shape))
    strongest = abs(picture).mean(0)
    assert strongest[1, :, 2].min() > np.sort(strongest.ravel())[-4]


def test_tensors_are_rows_too() -> None:
    seen, rows = blobs(60)[0], blobs(5, seed=1)[0]
    vectors = ExplanationVectors(lambda given: given[:, 0] > 0, probes=0, threshold=0)
    values = vectors.fit(seen).explain(rows).values
    np.testing.assert_array_equal(vectors.fit(torch.tensor(seen)).explain(torch.tensor(rows)).values, values)
