"""Which of the paper's findings appear: each is a set of claims about numbers, settled by their intervals alone.

The paper's words leave open what "barely" or "strongly" is, so each claim has bounds, below. A claim appears where the
95 % interval lies wholly on the side that it names, does not appear where it lies wholly on the other, and is else not
settled. A finding appears where all of its claims do, and does not where one does not.

Intervals over networks are Student's t over seeds (each seed has its own first weights, training and held-out
pictures): a bootstrap of so few seeds is too narrow. Those of a single network are by drawing its units or pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, nan, sqrt
from statistics import fmean

import numpy as np
from scipy.stats import t as student
from unit_study_measures import Ends, Measured, area

from visavis.evaluation import summary
from visavis.units import Estimate

#: Accuracy "barely" falls by less than this, a class is "strongly" damaged by more; drops are from −1 to 1.
BARELY, STRONGLY = 0.02, 0.1
#: Spearman's correlation of a "poor" predictor is nearer to 0, and of a "good" one farther from it.
POOR, GOOD = 0.3, 0.5
#: What is changed "matters" where a drop, an accuracy or a selectivity moves by more than this.
MATTERS = 0.01
#: The attributes that the paper speaks of.
PAPER = ("selectivity", "weight-norm", "correlation", "alignment")
APPEARS, ABSENT, OPEN = "appears", "does not appear", "not settled"
#: Of how many units removed the finding about classes speaks.
FEW, MANY = 4, 32


@dataclass(frozen=True)
class Claim:
    """That a value is between two bounds, or, with `outside`, beyond either."""

    what: str
    estimate: Estimate
    low: float = -inf
    high: float = inf
    outside: bool = False

    @property
    def verdict(self) -> str:
        """Whether it appears, by where the interval lies; one with an end that is no number settles nothing."""
        one = self.estimate
        within = self.low < one.low and one.high < self.high
        beyond = one.high < self.low or one.low > self.high
        if not (within or beyond):
            return OPEN
        return APPEARS if beyond is self.outside else ABSENT


@dataclass(frozen=True)
class Finding:
    """A statement of the paper's, of which networks, and the claims that it comes down to."""

    statement: str
    networks: str
    claims: tuple[Claim, ...]

    @property
    def verdict(self) -> str:
        """Whether it appears."""
        verdicts = {claim.verdict for claim in self.claims}
        return next((one for one in (ABSENT, OPEN) if one in verdicts), APPEARS if verdicts else OPEN)


def over_seeds(values: Sequence[float]) -> Estimate:
    """Return the mean with its 95 % interval by Student's t; a single value has none (NaN), nor has NaN."""
    count = len(values)
    if count < 2:
        return Estimate(values[0] if values else nan, nan, nan, count)
    value = fmean(values)
    half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1)) / sqrt(count)
    return Estimate(value, value - half, value + half, count)


# -- numbers of a network --------------------------------------------------------------------------------------------


def live(one: Measured, values: Sequence[float]) -> list[float]:
    """Return the values of live units."""
    return [value for unit, value in enumerate(values) if unit not in set(one.dead)]


def mean_of(name: str) -> Callable[[Measured], float]:
    """Return the function to the mean over live units of "overall", "hardest", "largest" or an attribute."""

    def mean(one: Measured) -> float:
        values = one.attributes[name] if name in one.attributes else getattr(one, name)
        return fmean(live(one, values))

    return mean


def share(name: str, of: Callable[[float], bool]) -> Callable[[Measured], float]:
    """Return the function to the share of live units whose "overall" or "hardest" drop is such."""
    return lambda one: fmean(of(drop) for drop in live(one, getattr(one, name)))


def spearman(attribute: str, importance: str) -> Callable[[Measured], float]:
    """Return the function to the correlation of an attribute with importance."""
    return lambda one: one.related[attribute][importance]["spearman"][0]


def random_area(one: Measured) -> float:
    """Return the mean accuracy while units are removed at random, as a share of the accuracy with all of them."""
    found = [area(curve) for name, curve in one.curves.items() if name.startswith("random")]
    return fmean(found) / one.accuracy


def order_area(attribute: str, order: str) -> Callable[[Measured], float]:
    """Return the function to the mean accuracy while units are removed in an order of an attribute."""
    return lambda one: area(one.curves[f"{attribute}, {order}"])


def rotated(quantity: str, share: float, value: str = "zero") -> Callable[[Measured], float]:
    """Return the function to a quantity in bases rotated by a share, in the mean over draws."""
    return lambda one: fmean(row[quantity] for row in one.rotations if row["share"] == share and row["value"] == value)


def without(what: str, count: int) -> Callable[[Measured], float]:
    """Return the function to the drop in what is left without some of each class's units."""

    def drop(one: Measured) -> float:
        before = one.removal["accuracy" if what.startswith("accuracy") else "intact"]
        return before - one.removal[what][one.removal["counts"].index(count)]

    return drop


def estimate(networks: Sequence[Measured], of: Callable[[Measured], float]) -> Estimate:
    """Return the mean of a number over networks of several seeds."""
    return over_seeds([of(one) for one in networks])


def difference(one: Sequence[Measured], other: Sequence[Measured], of: Callable[[Measured], float]) -> Estimate:
    """Return by how much a number is larger in one than in another, in pairs of one seed."""
    by_seed = {network.seed: network for network in other}
    return over_seeds([of(network) - of(by_seed[network.seed]) for network in one if network.seed in by_seed])


# -- findings --------------------------------------------------------------------------------------------------------

ANY_UNIT = "Without any single unit the overall accuracy barely falls"
SOME_CLASS = "… but some class is strongly damaged"
POORLY = "Selectivity and the like tell poorly how much overall accuracy falls without a unit"
WELL = "… but well how much the class hit hardest loses"
SELECTIVITY = "Class selectivity alone: poorly the overall drop, well that of the class hit hardest"
AXES = "Rotation matters: single units do more to a class, and are more selective, than directions at random"
FOR_A_CLASS = "A few units carry a class and little else; many others are not needed for it (Bau et al. 2020)"
ORDERED = "The order of class selectivity matters when more and more units are removed"


def findings(networks: Sequence[Measured]) -> list[Finding]:
    """Return all findings, of the networks of each variant."""
    groups = {
        name: [one for one in networks if one.variant == name] for name in dict.fromkeys(o.variant for o in networks)
    }
    found = [one for name, group in groups.items() for one in _on_units(name, group)]
    found += [_rotation(name, group) for name, group in groups.items() if all(one.rotations for one in group)]
    found += [_for_a_class(name, group) for name, group in groups.items()]
    found += [_ordered(name, group) for name, group in groups.items()]
    if "plain" in groups:
        for name, group in groups.items():
            if name != "plain":
                found += _against_plain(name, group, groups["plain"])
    order = list(dict.fromkeys(one.statement for one in found))
    return sorted(found, key=lambda one: order.index(one.statement))


def attributes_of(networks: Sequence[Measured], names: Sequence[str] = PAPER) -> list[str]:
    """Return those of the attributes that all networks have."""
    return [name for name in names if all(name in one.attributes for one in networks)]


def _on_units(name: str, group: Sequence[Measured]) -> list[Finding]:
    def number(what: str, of: Callable[[Measured], float], low: float = -inf, high: float = inf) -> Claim:
        return Claim(what, estimate(group, of), low, high)

    def excess(one: Measured) -> float:
        return mean_of("hardest")(one) - mean_of("overall")(one)

    overall = {one: estimate(group, spearman(one, "overall")) for one in attributes_of(group)}
    hardest = {one: estimate(group, spearman(one, "hardest")) for one in attributes_of(group)}
    poor = {one: Claim(f"ρ of {one}", found, -POOR, POOR) for one, found in overall.items()}
    good = {one: Claim(f"ρ of {one}", found, -GOOD, GOOD, outside=True) for one, found in hardest.items()}
    return [
        Finding(
            ANY_UNIT,
            name,
            (
                number("mean drop", mean_of("overall"), high=BARELY),
                number("drop without the unit that matters most", lambda one: one.worst[0], high=BARELY),
                number(f"share of units below {BARELY:g}", share("overall", lambda drop: drop < BARELY)),
            ),
        ),
        Finding(
            SOME_CLASS,
            name,
            (
                number("mean drop of the class hit hardest", mean_of("hardest"), low=STRONGLY),
                number("more than overall by", excess, low=0),
                number(f"share of units above {STRONGLY:g}", share("hardest", lambda drop: drop > STRONGLY)),
            ),
        ),
        Finding(POORLY, name, tuple(poor.values())),
        Finding(WELL, name, tuple(good.values())),
        Finding(
            SELECTIVITY,
            name,
            (
                replace(poor["selectivity"], what="ρ with the overall drop"),
                replace(good["selectivity"], what="with that of the class hit hardest"),
            ),
        ),
    ]


def _rotation(name: str, group: Sequence[Measured]) -> Finding:
    def change(quantity: str, value: str = "zero") -> Estimate:
        return estimate(group, lambda one: rotated(quantity, 1, value)(one) - rotated(quantity, 0, value)(one))

    return Finding(
        AXES,
        name,
        (
            Claim("rotated, the class hit hardest loses more by", change("hardest"), high=-MATTERS),
            Claim("the same, by the mean instead of 0", change("hardest", "mean"), high=-MATTERS),
            Claim("selectivity is more by", change("selectivity"), high=-MATTERS),
        ),
    )


def _for_a_class(name: str, group: Sequence[Measured]) -> Finding:
    def number(what: str, count: int, low: float = -inf, high: float = inf) -> Claim:
        of = "accuracy" if what.startswith("accuracy") else "the class"
        title = f"{of} without {count} {what.rsplit(maxsplit=1)[-1]}"
        return Claim(title, estimate(group, without(what, count)), low, high)

    return Finding(
        FOR_A_CLASS,
        name,
        (
            number("without best", FEW, low=STRONGLY),
            number("accuracy without best", FEW, high=STRONGLY),
            number("without worst", MANY, high=STRONGLY),
        ),
    )


def _ordered(name: str, group: Sequence[Measured]) -> Finding:
    def change(one: Measured) -> float:
        return order_area("selectivity", "descending")(one) - order_area("selectivity", "ascending")(one)

    claim = Claim(
        "mean accuracy, the most selective first, is more by", estimate(group, change), -MATTERS, MATTERS, True
    )
    return Finding(ORDERED, name, (claim,))


def _against_plain(name: str, group: Sequence[Measured], plain: Sequence[Measured]) -> list[Finding]:
    compared = {
        "how selective units are": mean_of("selectivity"),
        "what the class hit hardest loses": mean_of("hardest"),
        "how much stays as units are removed at random": random_area,
    }
    title = {"both": "Batch norm with dropout changes"}.get(name, f"{name.capitalize()} changes")
    return [
        Finding(
            f"{title} {what}",
            f"{name} − plain",
            (Claim("more by", difference(group, plain, of), -MATTERS, MATTERS, True),),
        )
        for what, of in compared.items()
    ]


# -- single networks -------------------------------------------------------------------------------------------------


def of_network(one: Measured) -> list[Finding]:
    """Return what a single network says of its units, with intervals by drawing units, or (of one unit) pictures."""

    def mean(name: str) -> Estimate:
        values = live(one, getattr(one, name))
        found = summary(values)
        return Estimate(found.mean, found.low, found.high, len(values)) if len(values) > 1 else over_seeds(values)

    def rho(importance: str) -> Estimate:
        return _as_estimate(one.related["selectivity"][importance]["spearman"], len(one.overall) - len(one.dead))

    name = f"{one.variant}, seed {one.seed}"
    poor = Claim("ρ", rho("overall"), -POOR, POOR)
    good = Claim("ρ", rho("hardest"), -GOOD, GOOD, outside=True)
    worst = Claim("the unit that matters most", _as_estimate(one.worst, 1), high=BARELY)
    return [
        Finding(ANY_UNIT, name, (Claim("mean drop", mean("overall"), high=BARELY), worst)),
        Finding(SOME_CLASS, name, (Claim("mean drop", mean("hardest"), low=STRONGLY),)),
        Finding(SELECTIVITY, name, (poor, good)),
    ]


def _as_estimate(ends: Ends, count: int) -> Estimate:
    return Estimate(*ends, count)
