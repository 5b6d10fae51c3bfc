"""How wide the window is: agreement of rows left out in a slow loop, and both rules by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from blackbox.plain import blobs
from visavis.blackbox import parzen
from visavis.blackbox.bandwidth import choose_bandwidth, leave_one_out
from visavis.errors import InputError


def ordered(count: int = 30, classes: int = 2, seed: int = 0) -> tuple[Any, Any]:
    points, labels = blobs(count, 2, classes, seed)
    order = np.argsort(labels, kind="stable")
    return points[order], labels[order]


def slow(points: Any, labels: Any, widths: list[float], tried: Any) -> list[float]:
    """Return how often all other rows call a row what it is called."""
    found = []
    for width in widths:
        agreed = 0
        for place in tried:
            others = np.arange(len(points)) != place
            logs = -((points[place] - points[others]) ** 2).sum(1) / (2 * width**2)
            logs -= logs.max()
            sums = [np.exp(logs[labels[others] == c]).sum() for c in range(labels.max() + 1)]
            agreed += int(np.argmax(sums) == labels[place])
        found.append(agreed / len(tried))
    return found


def choose(points: Any, labels: Any, wish: Any, tried: Any = None) -> Any:
    at = torch.arange(len(points)) if tried is None else torch.as_tensor(tried)
    given = torch.from_numpy(points), torch.from_numpy(labels)
    return choose_bandwidth(*given, int(labels.max()) + 1, wish, at)


WIDTHS = [0.01, 0.1, 0.3, 0.6, 1.0, 2.0, 10.0]


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("size", [2**22, 100])
def test_each_row_left_out(classes: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parzen, "_AT_ONCE", size)
    points, labels = ordered(30, classes)
    for tried in (range(30), [3, 4, 29]):
        found = leave_one_out(
            torch.from_numpy(points), torch.from_numpy(labels), classes, WIDTHS, torch.tensor(list(tried))
        )
        assert found == slow(points, labels, WIDTHS, list(tried))
    assert len(set(found)) > 1


def test_a_row_alone_in_its_class_is_never_found_again() -> None:
    points, labels = ordered(12, 2)
    points, labels = np.concatenate([points, [[0.1, 0.1]]]), np.append(labels, 2)
    found = leave_one_out(torch.from_numpy(points), torch.from_numpy(labels), 3, WIDTHS, torch.tensor([12]))
    assert found == [0.0] * len(WIDTHS)
    whole = leave_one_out(torch.from_numpy(points), torch.from_numpy(labels), 3, WIDTHS, torch.arange(13))
    assert whole == slow(points, labels, WIDTHS, range(13))


def test_copies_speak_for_each_other() -> None:
    """Rows that are there twice are found at any width, however narrow."""
    points, labels = ordered(10, 2)
    found = choose(points.repeat(2, 0), labels.repeat(2), [1e-3, 1.0])
    assert found.candidates[0] == (1e-3, 1.0)


def rules(pairs: Any, count: int) -> tuple[float, float]:
    """Return the widest width within one standard error of the best, and the widest of the best."""
    best = max(agreement for _, agreement in pairs)
    error = np.sqrt(best * (1 - best) / count)
    within = [width for width, agreement in pairs if agreement >= best - error]
    return max(within), max(width for width, agreement in pairs if agreement == best)


@pytest.mark.parametrize("classes", [2, 3])
def test_both_rules_by_hand(classes: int) -> None:
    points, labels = ordered(60, classes, seed=1)
    chosen = {wish: choose(points, labels, wish) for wish in ("one-standard-error", "best")}
    widths = [width for width, _ in chosen["best"].candidates]
    agreement = slow(points, labels, widths, range(60))
    assert [one for _, one in chosen["best"].candidates] == agreement
    widest, best = rules(list(zip(widths, agreement, strict=True)), 60)
    assert chosen["one-standard-error"].bandwidth == widest > best == chosen["best"].bandwidth
    for one in chosen.values():
        assert dict(one.candidates)[one.bandwidth] == one.agreement
        assert one.points == 60


def test_candidates_are_between_neighbours_and_any_two() -> None:
    points, labels = ordered(31, 2)
    # Copies are no neighbours: a distance of zero is no width.
    points, labels = np.concatenate([points[:5], points]), np.concatenate([labels[:5], labels])
    widths = [width for width, _ in choose(points, labels, "best").candidates]
    apart = np.sqrt(((points[:, None] - points) ** 2).sum(2))
    near = sorted(min(one[one > 0]) for one in apart)
    # Medians as torch has them: of an even number the lower.
    middle = sorted(sorted(one[one > 0])[(sum(one > 0) - 1) // 2] for one in apart)
    at = (len(points) - 1) // 2
    assert len(widths) == 24
    np.testing.assert_allclose(widths, np.geomspace(near[at] / 4, middle[at], 24), rtol=1e-9)


def test_rounding_makes_no_neighbours() -> None:
    """Far from the middle the squared distance of equal rows is rounding, not zero."""
    points = np.array([[1e8, 0.0], [1e8, 0.0], [-1e8, 1.0], [-1e8, 1.0]])
    widths = [width for width, _ in choose(points, np.array([0, 0, 1, 1]), "best").candidates]
    assert widths[0] == pytest.approx(0.25 * 2e8)


def test_given_widths_are_chosen_from() -> None:
    points, labels = ordered(60, 2, seed=1)
    found = choose(points, labels, [2.0, 0.05, 0.5, 0.5])
    assert [width for width, _ in found.candidates] == [0.05, 0.5, 2.0]
    assert found.bandwidth == rules(found.candidates, 60)[0]
    assert choose(points, labels, 0.5).candidates == ((0.5, found.candidates[1][1]),)
    assert choose(points, labels, 3).bandwidth == 3.0


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("widest", "bandwidth is 'widest', but one-standard-error or best, a width, or several"),
        (0.0, "widths are from 1e-70 to 1e"),
        (-1.0, "widths are from 1e-70 to 1e"),
        (float("nan"), "widths are from 1e-70 to 1e"),
        (1e-200, "widths are from 1e-70 to 1e"),
        ([1.0, float("inf")], "widths are from 1e-70 to 1e"),
        ([], "widths are from 1e-70 to 1e"),
        ([1.0, None], "or numbers were expected|widths are from"),
    ],
    ids=str,
)
def test_what_is_no_width(wish: Any, said: str) -> None:
    points, labels = ordered(10)
    choose_bandwidth_unchecked = getattr(choose_bandwidth, "__wrapped__", choose_bandwidth)
    with pytest.raises(InputError, match=said):
        choose_bandwidth_unchecked(torch.from_numpy(points), torch.from_numpy(labels), 2, wish, torch.arange(10))


def test_rows_that_are_all_the_same() -> None:
    with pytest.raises(InputError, match="all rows are the same"):
        choose(np.ones((6, 2)), np.array([0, 0, 0, 1, 1, 1]), "best")
