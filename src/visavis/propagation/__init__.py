"""The engine: relevance as a gradient with other backward rules. Torch alone: no images, no files."""

from visavis.propagation.functions import register, unregister
from visavis.propagation.gradients import Activation
from visavis.propagation.ledger import Entry, Ledger
from visavis.propagation.mode import Run, forward
from visavis.propagation.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    Rule,
    SameSign,
    Site,
    Spread,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
)
from visavis.propagation.rulesets import Automatic, RuleSet, register_rule_set, rule_set, rule_sets
from visavis.propagation.trace import Call, Plan
from visavis.propagation.visit import Visit, cross

__all__ = [
    "Activation",
    "AlphaBeta",
    "Automatic",
    "Call",
    "Entry",
    "Epsilon",
    "Flat",
    "Gamma",
    "Ledger",
    "Plan",
    "Rule",
    "RuleSet",
    "Run",
    "SameSign",
    "Site",
    "Spread",
    "Visit",
    "WSquare",
    "ZBox",
    "ZPlus",
    "Zero",
    "cross",
    "forward",
    "register",
    "register_rule_set",
    "rule_set",
    "rule_sets",
    "unregister",
]
