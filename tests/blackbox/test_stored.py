"""Estimators from skops files: the same as were written, and nothing that runs as it is loaded."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from visavis.blackbox import stored
from visavis.blackbox.stored import load_estimator
from visavis.errors import ModelError

TREE = "sklearn.tree._tree.Tree"
ROWS = np.random.default_rng(0).normal(size=(80, 3))
NEW = np.random.default_rng(1).normal(size=(200, 3))
LABELS = np.where(ROWS[:, 0] + ROWS[:, 1] ** 2 > 0.5, "high", "low")


class Threshold(ClassifierMixin, BaseEstimator):
    """A type that skops does not know."""

    def fit(self, X: Any, y: Any) -> Threshold:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        return np.where(np.asarray(X)[:, 0] > 0, "high", "low")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def dumped(thing: Any, name: str = "model.skops") -> str:
    skops.io.dump(thing, name)
    return name


def refused(path: str, trusted: tuple[str, ...] = ()) -> str:
    with pytest.raises(ModelError) as caught:
        load_estimator(path, trusted)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("estimator", "trusted"),
    [
        (RandomForestClassifier(10, random_state=0), [TREE]),
        (make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)), [TREE]),
        (make_pipeline(StandardScaler(), LogisticRegression()), []),
    ],
)
def test_an_estimator_comes_back_as_it_was(estimator: Any, trusted: list[str]) -> None:
    estimator.fit(ROWS, LABELS)
    found = load_estimator(dumped(estimator), trusted)
    assert type(found) is type(estimator)
    assert found.predict(NEW).tolist() == estimator.predict(NEW).tolist()
    np.testing.assert_array_equal(found.predict_proba(NEW), estimator.predict_proba(NEW))
    assert {"high", "low"} == set(found.predict(NEW))


def test_types_that_are_not_trusted_are_named() -> None:
    path = dumped(RandomForestClassifier(3, random_state=0).fit(ROWS, LABELS))
    said = refused(path)
    assert f"'model.skops' holds types that may run code as they are loaded: {TREE}; if" in said
    assert "--trust" in said
    assert TREE in refused(path, ("sklearn.tree._tree.Trees", "sklearn"))
    own = Threshold().fit(ROWS, LABELS)
    name = f"{Threshold.__module__}.Threshold"
    path = dumped(own)
    assert name in refused(path)
    found = load_estimator(path, [name])
    assert isinstance(found, Threshold)
    assert found.predict(NEW).tolist() == own.predict(NEW).tolist()


def test_nothing_of_an_untrusted_type_runs() -> None:
    schema = '{"__class__": "%s", "__module__": "%s", "__loader__": "%s", "content": "touch ran", "protocol": 2}'
    for loader in ("TypeNode", "FunctionNode", "ObjectNode", "MethodNode"):
        with zipfile.ZipFile("model.skops", "w") as archive:
            archive.writestr("schema.json", schema % ("system", "os", loader))
        refused("model.skops")
        assert not Path("ran").exists()


class Touching:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> Any:
        return (Path("ran").touch, ())


def test_a_pickle_is_refused_by_name_and_by_what_it_is() -> None:
    for name in ("model.pkl", "model.PICKLE", "model.joblib"):
        Path(name).write_bytes(pickle.dumps(Touching()))
        assert f"'{name}' is a pickle by its name, which runs code as it is loaded" in refused(name)
    Path("model.skops").write_bytes(pickle.dumps(Touching()))
    assert "'model.skops' is no skops file (" in refused("model.skops")
    with zipfile.ZipFile("model.skops", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Touching()))  # as torch.save writes
    assert "'model.skops' is no skops file (" in refused("model.skops")
    assert not Path("ran").exists()


def test_archives_that_are_broken() -> None:
    whole = Path(dumped(LogisticRegression().fit(ROWS, LABELS))).read_bytes()
    for broken in (b"", whole[: len(whole) // 2], whole[:-30]):
        Path("broken.skops").write_bytes(broken)
        assert "'broken.skops' is no skops file" in refused("broken.skops")
    for content in ("", "{", "[]", "[" * 100_000, '{"__loader__": "Nothing"}'):
        with zipfile.ZipFile("broken.skops", "w") as archive:
            archive.writestr("schema.json", content)
        said = refused("broken.skops")
        assert "write it with skops.io.dump" in said
        assert "write it with skops.io.dump" in said
        assert len(said) < 400


def test_an_archive_that_is_small_packed_and_large_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile("bomb.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", " " * 3_000_000)
    assert Path("bomb.skops").stat().st_size < 10_000
    monkeypatch.setattr(stored, "_LARGEST", 2_999_999)
    assert "'bomb.skops' would take more than" in refused("bomb.skops")
    monkeypatch.setattr(stored, "_LARGEST", 3_000_000)
    assert "is no skops file" in refused("bomb.skops")


def test_an_archive_of_more_parts_than_any_estimator_has(monkeypatch: pytest.MonkeyPatch) -> None:
    path = dumped(LogisticRegression().fit(ROWS, LABELS))
    with zipfile.ZipFile(path) as archive:
        count = len(archive.infolist())
    monkeypatch.setattr(stored, "_MOST_PARTS", count)
    assert load_estimator(path).predict(NEW[:1]).shape == (1,)
    monkeypatch.setattr(stored, "_MOST_PARTS", count - 1)
    refused(path)


@pytest.mark.parametrize("thing", [StandardScaler(), {"predict": 1}, [1, 2], "text"])
def test_what_cannot_predict(thing: Any) -> None:
    thing = thing.fit(ROWS) if isinstance(thing, StandardScaler) else thing
    said = refused(dumped(thing))
    assert f"'model.skops' holds a {type(thing).__name__}, but a classifier with `predict` was expected" in said


@pytest.mark.parametrize("regressor", [LinearRegression(), DecisionTreeRegressor(random_state=0)])
def test_a_regressor_is_no_classifier(regressor: Any) -> None:
    """A tree that was fitted to 0 and 1 gives whole numbers, which look like classes."""
    said = refused(dumped(regressor.fit(ROWS, (LABELS == "high").astype(float))), (TREE,))
    assert type(regressor).__name__ in said


def test_any_classifier_will_do() -> None:
    found = load_estimator(dumped(DummyClassifier(strategy="constant", constant="low").fit(ROWS, LABELS)))
    assert set(found.predict(NEW)) == {"low"}


def test_no_file() -> None:
    Path("folder.skops").mkdir()
    assert refused("none.skops") == "there is no file 'none.skops'"
    assert refused("folder.skops") == "there is no file 'folder.skops'"
    assert "there is no file" in refused("nul\0.skops")
    refused("x" * 300 + ".skops")
