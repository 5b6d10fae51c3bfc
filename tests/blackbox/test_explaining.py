"""Explanation vectors from beginning to end, against the paper's formula on rows that were scaled by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from blackbox.plain import Thirds, differences, log_shares, shares, zeta
from visavis.blackbox import ExplanationVectors, LowAgreementWarning, explaining
from visavis.errors import InputError, SameClassError

# Of small samples; when it is given, and when not, is for test_recovery.
pytestmark = pytest.mark.filterwarnings("ignore::visavis.blackbox.LowAgreementWarning")


def table(count: int = 90, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, 3)) * [1.0, 5.0, 0.1] + [0.0, 20.0, -3.0]


def black_box(rows: Any) -> Any:
    return np.where(rows[:, 0] + (rows[:, 1] - 20) / 5 > 0, "yes", "no")


def by_hand(seen: Any, labels: Any, rows: Any) -> tuple[Any, Any, Any, Any]:
    """Return what the mimic should hold: rows in standard deviations, numbers of classes, and the deviations."""
    deviations = np.sqrt(((seen - seen.mean(0)) ** 2).mean(0))
    numbers = np.array([sorted(set(labels.tolist())).index(one) for one in labels.tolist()])
    return (seen - seen.mean(0)) / deviations, numbers, (rows - seen.mean(0)) / deviations, deviations


@pytest.mark.parametrize("classifier", [black_box, Thirds()], ids=["two", "three"])
def test_vectors_are_those_of_the_paper(classifier: Any) -> None:
    seen, rows = table(), table(9, 1)
    found = ExplanationVectors(classifier, bandwidth=0.9, probes=0, threshold=0).fit(seen).explain(rows)
    points, numbers, places, deviations = by_hand(seen, classifier(seen), rows)
    assert found.kind == "away"
    assert found.foils is None
    assert found.targets.tolist() == found.said.tolist() == classifier(rows).tolist()
    assert found.classes.tolist() == sorted(set(classifier(seen)))
    for m, row in enumerate(places):
        target = found.classes.tolist().index(found.said[m])
        np.testing.assert_allclose(
            found.values[m], zeta(row, points, numbers, 0.9, target) / deviations, rtol=1e-9, atol=1e-14
        )
        probabilities = shares(row, points, numbers, 0.9)
        np.testing.assert_allclose(found.probabilities[m], probabilities, rtol=1e-10)
        assert found.agrees[m] == (probabilities.argmax() == target)
    np.testing.assert_allclose(found.scale, deviations)
    np.testing.assert_allclose(found.per_deviation, found.values * deviations)
    own = found.probabilities[range(9), [found.classes.tolist().index(one) for one in found.said]][:, None]
    np.testing.assert_allclose(found.values, -own * (1 - own) * found.log_odds_gradient, rtol=1e-9)


def test_per_unit_of_each_feature_by_differences_of_the_mimic() -> None:
    seen, rows = table(), table(4, 1)
    vectors = ExplanationVectors(black_box, bandwidth=0.9).fit(seen)
    found = vectors.explain(rows)
    for row, said, value in zip(rows, found.said, found.values, strict=True):
        at = found.classes.tolist().index(said)
        units = found.scale

        def otherwise(many: Any, at: int = at, units: Any = units) -> Any:
            return 1 - vectors.mimic_.predict_proba(many * units)[:, at]

        np.testing.assert_allclose(value * units, differences(otherwise, row / units), rtol=1e-7, atol=1e-10)


def test_what_speaks_for_a_class_speaks_against_leaving_it() -> None:
    """Raising either feature takes a row to "yes", and lowering it to "no"; the third says nothing."""
    found = ExplanationVectors(black_box).fit(table(400)).explain(table(40, 1))
    yes = found.said == "yes"
    assert (found.per_deviation[yes][:, :2] < 0).mean() > 0.95
    assert (found.per_deviation[~yes][:, :2] > 0).mean() > 0.95
    assert (abs(found.per_deviation[:, 2]) < abs(found.per_deviation[:, :2]).max(1)).all()


def contrasted(foil: Any, target: str, rows: Any) -> Any:
    vectors = ExplanationVectors(Thirds(), bandwidth=0.8, probes=0, threshold=0).fit(table())
    return vectors.contrast(rows, foil, target=target)


@pytest.mark.parametrize("foil", ["low", "mid", "others", "runner-up"])
def test_contrasts_by_autograd(foil: str) -> None:
    seen, rows = table(), table(7, 1)
    points, numbers, places, deviations = by_hand(seen, Thirds()(seen), rows)
    found = contrasted(foil, "high", rows)
    given = torch.from_numpy(places).requires_grad_()
    log = log_shares(given, points, numbers, 0.8)
    second = (1 + log[:, 1:].argmax(1)).tolist()
    groups = {"low": [[1]] * 7, "mid": [[2]] * 7, "others": [[1, 2]] * 7, "runner-up": [[one] for one in second]}[foil]
    odds = [log[m, 0] - log[m, group].logsumexp(0) for m, group in enumerate(groups)]
    (slope,) = torch.autograd.grad(sum(odds), given)
    np.testing.assert_allclose(found.values, slope.numpy() / deviations, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.values, found.log_odds_gradient)
    names = [["high", "low", "mid"][one] for one in second] if foil == "runner-up" else [foil] * 7
    assert found.foils.tolist() == names
    assert set(found.targets) == {"high"}
    assert found.said.tolist() == Thirds()(rows).tolist()
    assert found.quantity(2) == f"log P(high) / P({names[2]})"


def test_a_contrast_turned_round_is_its_negative() -> None:
    rows = table(7, 1)
    one, other = contrasted("mid", "low", rows), contrasted("low", "mid", rows)
    np.testing.assert_allclose(one.values, -other.values, rtol=1e-10)
    assert abs(one.values - contrasted("high", "low", rows).values).max() > 0.1


def test_by_itself_the_runner_up_of_what_the_classifier_says() -> None:
    rows = table(12, 1)
    vectors = ExplanationVectors(Thirds(), bandwidth=0.5, probes=0, threshold=0).fit(table(300))
    keep = vectors.mimic_.predict(rows) == Thirds()(rows)
    found = vectors.contrast(rows[keep])
    assert found.targets.tolist() == Thirds()(rows[keep]).tolist()
    order = np.argsort(-found.probabilities, axis=1)
    assert found.foils.tolist() == found.classes[order[:, 1]].tolist()


def test_a_class_that_was_never_seen() -> None:
    def unusual(rows: Any) -> Any:
        return np.where(rows[:, 1] > 1000, "never seen", black_box(rows))

    rows = table(3, 1)
    vectors = ExplanationVectors(unusual).fit(table())
    alone = vectors.explain(rows[[0, 2]])
    rows[1, 1] = 2000
    with pytest.warns(LowAgreementWarning, match=r"of 3 rows \(1.* down to 0\.00, .* of 1 the class was never"):
        found = vectors.explain(rows, draws=20)
    for one in (found.values, found.log_odds_gradient, found.probabilities, found.low, found.high):
        assert np.isnan(one[1]).all()
        assert np.isfinite(one[[0, 2]]).all()
    assert found.agreement[1] == 0
    assert not found.agrees[1]
    assert not found.flat[1]
    assert found.said[1] == "never seen"
    np.testing.assert_array_equal(found.values[[0, 2]], alone.values)


def test_the_same_again_and_parts_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table(11, 1)
    one, same = (ExplanationVectors(black_box).fit(table()).sample(30).explain(rows, draws=10) for _ in range(2))
    other = ExplanationVectors(black_box, random_state=1).fit(table()).sample(30).explain(rows, draws=10)
    monkeypatch.setattr(explaining, "_AT_ONCE", 3 * 4)
    parts = ExplanationVectors(black_box).fit(table()).sample(30).explain(rows, draws=10)
    for name in ("values", "probabilities", "agreement", "agrees", "low", "high", "said", "targets", "flat", "rows"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
        np.testing.assert_array_equal(getattr(one, name), getattr(parts, name))
    for name in ("values", "agreement", "low"):
        assert (getattr(one, name) != getattr(other, name)).any()


WRONG = [
    ({"gradients": "automatic"}, "gradients is 'automatic', but auto, exact, mimic"),
    ({"gradients": "exact"}, "the gradient of this classifier is not known"),
    ({"bandwidth": "wide"}, "bandwidth is 'wide'"),
    ({"scale": "minmax"}, "scale is 'minmax'"),
    ({"scale": [1.0]}, r"scale has the shape \(1,\)"),
    ({"probes": 1}, "probes is 1, but 0 or at least 2"),
    ({"threshold": 1.5}, "threshold is 1.5, but a share"),
    ({"flat": -1.0}, "flat is -1.0, but a finite number"),
    ({"classifier": 7}, "the classifier is a int, but an estimator"),
    ({"classifier": SVC}, "the class SVC itself"),
    ({"classifier": Thirds}, "the class Thirds itself"),
    ({"classifier": lambda rows: np.zeros(len(rows))}, "all 90 rows .* are of 1 class"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_is_said_when_fitted(wrong: dict[str, Any], said: str) -> None:
    vectors = ExplanationVectors(**{"classifier": black_box, **wrong})
    with pytest.raises(InputError, match=said):
        vectors.fit(table())


def test_what_is_wrong_is_said_when_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="not fitted yet"):
        ExplanationVectors(black_box).explain(table())
    rows = np.array([[5.0, 20.0, -3.0], [-5.0, 20.0, -3.0]])
    vectors = ExplanationVectors(Thirds(), probes=0).fit(table())
    with pytest.raises(SameClassError, match="row 1 is explained for 'low', which is the foil too"):
        vectors.contrast(rows, "low")
    # So it is called where each is a part by itself.
    monkeypatch.setattr(explaining, "_AT_ONCE", 3)
    with pytest.raises(SameClassError, match="row 1 is explained for 'low', which is the foil too"):
        vectors.contrast(rows, "low")
    for function, said in (
        (lambda: vectors.contrast(rows, "lower"), "the foil is 'lower', but one of .* high, low, mid, others, runner-"),
        (lambda: vectors.contrast(rows, target="lower"), "the target is 'lower', but one of"),
        (lambda: vectors.explain(rows, draws=1), "draws is 1, but 0 or at least 2"),
        (lambda: vectors.explain(rows[:, :2]), "2 features"),
        (lambda: vectors.explain(rows * np.nan), "NaN"),
        (lambda: vectors.sample(0), "count is 0"),
        (lambda: vectors.sample(5, spread=-1.0), r"spread -1.0, but numbers above 0"),
    ):
        with pytest.raises(InputError, match=said):
            function()
