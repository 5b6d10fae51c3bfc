"""How often mimic and classifier agree around a row: a slow loop over the places, and where these lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from blackbox.plain import Thirds, blobs, shares
from visavis.blackbox import ExplanationVectors, ParzenMimic, parzen
from visavis.blackbox.agreement import local_agreement, probe_places

pytestmark = pytest.mark.filterwarnings("ignore::visavis.blackbox.LowAgreementWarning")


def fitted(count: int = 60, classes: int = 3, width: float = 0.5, scale: str = "standard") -> Any:
    points, labels = blobs(count, 2, classes)
    return ParzenMimic(width, scale=scale, device="cpu").fit(points * [1.0, 9.0], labels)


def places_of(mimic: Any, rows: Any, targets: Any, probes: int, seed: int = 0) -> Any:
    points = mimic.scaling_.inside(rows, torch.device("cpu"))
    found = probe_places(mimic.window_, points, torch.as_tensor(targets), probes, np.random.default_rng(seed))
    return points.numpy(), found.numpy()


def between(place: Any, row: Any, end: Any) -> float | None:
    """Return how far on the way from a row to an end a place is; None where it is not on it."""
    way = end - row
    share = (place - row) @ way / (way @ way)
    return share if 0 <= share <= 1 and np.allclose(row + share * way, place, atol=1e-12) else None


@pytest.mark.parametrize("probes", [2, 7, 12])
def test_places_are_on_the_way_to_the_nearest_of_both_kinds(probes: int) -> None:
    mimic, rows, targets = fitted(), blobs(9, 2, 2, seed=1)[0] * [1.0, 9.0], [0, 1, 2] * 3
    inside, places = places_of(mimic, rows, targets, probes)
    assert places.shape == (9, probes, 2)
    points, labels = mimic.window_.points.numpy(), mimic.window_.labels.numpy()
    first = probes - probes // 2
    for row, target, around in zip(inside, targets, places, strict=True):
        apart = ((points - row) ** 2).sum(1)
        for group, kind in ((around[:first], labels == target), (around[first:], labels != target)):
            nearest = np.flatnonzero(kind)[apart[kind].argsort(kind="stable")][: len(group)]
            for place, end in zip(group, nearest, strict=True):
                assert between(place, row, points[end]) is not None


def test_few_neighbours_are_gone_to_again() -> None:
    """Two rows of a class are the ends of all seven ways, in turn, to other places each time."""
    points = np.array([[0.0, 0], [1, 0], [5, 5], [6, 5], [5, 6], [6, 6], [7, 7], [8, 8], [9, 9]])
    mimic = ParzenMimic(1.0, scale="none", device="cpu").fit(points, [0, 0] + [1] * 7)
    inside, places = places_of(mimic, np.array([[0.4, 0.1]]), [0], 14)
    ends = points[:2] - points.mean(0)
    for at, place in enumerate(places[0, :7]):
        assert between(place, inside[0], ends[at % 2]) is not None
    assert len({tuple(one) for one in places[0]}) == 14


def ask(rows: Any) -> Any:
    """Call rows by a rule of their own."""
    return np.where(rows[:, 0] > 0.5, 0, np.where(rows[:, 1] > 0, 1, 2))


@pytest.mark.parametrize("size", [2**22, 130])
def test_a_slow_loop_over_the_same_places(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mimic, rows, targets = fitted(), blobs(9, 2, 2, seed=1)[0] * [1.0, 9.0], [0, 1, 2] * 3
    _, places = places_of(mimic, rows, targets, 20, seed=4)
    monkeypatch.setattr(parzen, "_AT_ONCE", size)
    inside = mimic.scaling_.inside(rows, torch.device("cpu"))
    found = local_agreement(mimic, ask, inside, torch.tensor(targets), 20, 4)
    points, labels = mimic.window_.points.numpy(), mimic.window_.labels.numpy()
    expected = []
    for around in places:
        agreed = 0
        for place in around:
            mimicked = shares(place, points, labels, 0.5).argmax()
            agreed += int(mimicked == ask(mimic.scaling_.outside(torch.from_numpy(place[None])))[0])
        expected.append(agreed / 20)
    assert found.tolist() == expected
    assert min(expected) < max(expected)


def test_a_mimic_agrees_with_itself() -> None:
    mimic, rows = fitted(), blobs(9, 2, 2, seed=1)[0] * [1.0, 9.0]
    found = ExplanationVectors(mimic, bandwidth=0.5).fit(mimic.scaling_.outside(mimic.window_.points))
    assert (
        local_agreement(
            mimic, mimic.predict, mimic.scaling_.inside(rows, torch.device("cpu")), torch.tensor([0, 1, 2] * 3), 30, 0
        ).tolist()
        == [1.0] * 9
    )
    assert found.explain(rows).agreement.min() > 0.7


def test_it_does_not_depend_on_which_others_are_explained() -> None:
    """Though one be of a class with two rows, to which there are but two ways."""
    generator = np.random.default_rng(0)
    seen = np.concatenate([generator.uniform(-1.6, 0.65, size=(80, 2)), [[0.9, 0.0], [1.1, 0.3]]])
    vectors = ExplanationVectors(Thirds(), bandwidth=0.5, scale="none").fit(seen)
    rows = np.concatenate([generator.uniform(-1.2, 0.65, size=(9, 2)), [[1.0, 0.1]]])
    whole = vectors.explain(rows).agreement
    alone = [float(vectors.explain(rows[at : at + 1]).agreement[0]) for at in range(len(rows))]
    assert whole.tolist() == alone


def test_the_seed_bites() -> None:
    mimic, rows = fitted(), blobs(20, 2, 2, seed=1)[0] * [1.0, 9.0]
    inside = mimic.scaling_.inside(rows, torch.device("cpu"))
    targets = torch.zeros(20, dtype=torch.int64)
    one, same, other = (local_agreement(mimic, ask, inside, targets, 20, seed) for seed in (0, 0, 1))
    assert one.tolist() == same.tolist() != other.tolist()
