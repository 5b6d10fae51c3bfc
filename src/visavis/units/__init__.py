"""The units of a network seen one by one: which class dies when a unit does, and whether one can tell beforehand.

After Zhou, Sun, Bau, Torralba 2018 (Revisiting the Importance of Individual Units in CNNs via Ablation).
"""

from visavis.units.ablation import Ablation, Intervals, ablate, ablate_sets
from visavis.units.above import Above, Kept, Way
from visavis.units.activations import Activations, activations
from visavis.units.attributes import (
    Attribute,
    Related,
    attribute,
    attributes,
    class_correlation,
    class_selectivity,
    hoyer,
    register_attribute,
    related,
)
from visavis.units.cards import Firing, Seen, firing_maps, strongest, unit_cards
from visavis.units.concepts import concept_alignment
from visavis.units.cumulative import (
    ClassRemoval,
    ablate_cumulatively,
    orders,
    remove_by_class,
)
from visavis.units.decision import Decision, decide
from visavis.units.intervals import Estimate
from visavis.units.layer import Layer
from visavis.units.receptive import receptive_fields
from visavis.units.removal import Predictions, predictions
from visavis.units.rotation import partial_rotation, random_rotation
from visavis.units.weights import incoming_norms

__all__ = [
    "Ablation",
    "Above",
    "Activations",
    "Attribute",
    "ClassRemoval",
    "Decision",
    "Estimate",
    "Firing",
    "Intervals",
    "Kept",
    "Layer",
    "Predictions",
    "Related",
    "Seen",
    "Way",
    "ablate",
    "ablate_cumulatively",
    "ablate_sets",
    "activations",
    "attribute",
    "attributes",
    "class_correlation",
    "class_selectivity",
    "concept_alignment",
    "decide",
    "firing_maps",
    "hoyer",
    "incoming_norms",
    "orders",
    "partial_rotation",
    "predictions",
    "random_rotation",
    "receptive_fields",
    "register_attribute",
    "related",
    "remove_by_class",
    "strongest",
    "unit_cards",
]
