"""A classifier that does what another does, and whose probabilities have a gradient (Baehrens et al. 2010, 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from visavis.blackbox.asked import checked_labels
from visavis.blackbox.bandwidth import check_bandwidth, choose_bandwidth
from visavis.blackbox.parzen import ParzenWindow
from visavis.blackbox.rows import Rows, Scaling, check_fitted, checked_rows, double_device
from visavis.blackbox.source import Product, Source
from visavis.errors import InputError

# Points that are left out in turn to choose a width; with more, a part is drawn.
_TRIED = 2000


class ParzenMimic(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A Parzen window over rows as a classifier labelled them: p(c|x) = Σ_{i in c} k(x − x_i) / Σ_i k(x − x_i).

    In scikit-learn's conventions; a Gaussian kernel, float64, in logarithms throughout. Where two classes are equally
    likely the first is said.

    Args:
        bandwidth: the width σ of the kernel, in units of `scale`; several widths to choose from; or how to choose among
            widths from a quarter of the distance between neighbours to that between any two rows, by how often each
            row, left out, is called what it is called: "one-standard-error", the widest that is within one standard
            error of the best, or "best", the widest of the best.
        scale: "standard": features are divided by their standard deviation; "none"; or a width for each, (d,).
        device: that of the computation; None: a CUDA GPU where there is one, else the CPU.
        random_state: of the rows that are left out in turn where there are more than 2,000.

    Attributes:
        classes_: (K,), the labels.
        bandwidth_: σ.
        agreement_: how often a row, left out, is called what it is called, in [0, 1].
        bandwidths_: each candidate with its agreement, ascending.
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    def __init__(
        self,
        bandwidth: str | float | Sequence[float] = "one-standard-error",
        *,
        scale: str | Sequence[float] = "standard",
        device: str | torch.device | None = None,
        random_state: int = 0,
    ) -> None:
        self.bandwidth = bandwidth
        self.scale = scale
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> ParzenMimic:
        """Take rows and what a classifier calls them.

        Args:
            X: (n, d), finite numbers.
            y: (n,), labels, of at least two classes.

        Raises:
            InputError: these are not such rows or labels, or a parameter is not what is expected.
        """
        self.__dict__.pop("window_", None)
        rows = checked_rows(self, X, reset=True)
        if y is None:
            raise InputError("requires y to be passed, but the target y is None: a label for each row")
        labels = column_or_1d(y, warn=True)
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise InputError("the labels hold NaN or infinity; each row needs a class")
        return self.take(rows, checked_labels(labels, len(rows)), Scaling.of(rows, self.scale))

    def take(self, rows: Rows, labels: NDArray[Any], scaling: Scaling) -> ParzenMimic:
        """Fit rows that are checked, in a scaling that need not be theirs."""
        check_bandwidth(self.bandwidth)
        classes, index = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InputError(
                f"all {len(rows)} rows ({len(rows)} sample{'s' if len(rows) > 1 else ''}) are of 1 class, "
                f"{str(classes[0])!r}, so there is no other to go to; give rows that are called differently"
            )
        device = double_device(self.device)
        order = np.argsort(index, kind="stable")
        points = scaling.inside(rows[order], device)
        sorted_labels = torch.from_numpy(index[order].astype(np.int64)).to(device)
        tried = torch.from_numpy(self._tried(len(rows))).to(device)
        chosen = choose_bandwidth(points, sorted_labels, len(classes), self.bandwidth, tried)
        self.classes_, self.n_features_in_ = classes, rows.shape[1]
        self.bandwidth_, self.agreement_, self.bandwidths_ = chosen.bandwidth, chosen.agreement, chosen.candidates
        self.scaling_ = scaling
        self.window_ = ParzenWindow(points, sorted_labels, len(classes), chosen.bandwidth)
        return self

    def _tried(self, count: int) -> NDArray[np.int64]:
        if count <= _TRIED:
            return np.arange(count)
        return np.sort(np.random.default_rng(self.random_state).choice(count, _TRIED, replace=False))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "window_")

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most likely class of each row, (n,)."""
        log = self.predict_log_proba(X)
        return np.asarray(self.classes_[log.argmax(1)])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, (n, K)."""
        return np.asarray(np.exp(self.predict_log_proba(X)))

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return log p(c|x), (n, K); finite however unlikely a class is."""
        check_fitted(self)
        points = self.scaling_.inside(checked_rows(self, X, reset=False), self.window_.points.device)
        return np.asarray(self.window_.log_probabilities(points).cpu().numpy())


class MimicSource(Source):
    """A fitted mimic, of rows in its own scaling.

    Args:
        window: of the mimic.
    """

    def __init__(self, window: ParzenWindow) -> None:
        self.window = window

    def log_probabilities(self, rows: Tensor) -> Tensor:
        return self.window.log_probabilities(rows)

    def log_odds_gradient(self, rows: Tensor, target: Tensor, foils: Tensor) -> Tensor:
        return self.window.log_odds_gradient(rows, target, foils)

    def log_odds_hessian(self, row: Tensor, target: Tensor, foils: Tensor) -> Product:
        """By ∇∇ log A = (Cov_A/σ² − 1)/σ²: of log(A/B), (Cov_A − Cov_B)/σ⁴."""
        points, width = self.window.points, self.window.bandwidth
        groups = [(weights[0], points - weights[0] @ points) for weights in self.window.weights(row, target, foils)]

        def product(directions: Tensor) -> Tensor:
            one, other = ((weights * (directions @ apart.T)) @ apart for weights, apart in groups)
            return (one - other) / width**4

        return product


__all__ = ["MimicSource", "ParzenMimic"]
