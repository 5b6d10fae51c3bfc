"""The pictures of a study of units: each a function from numbers and names to a figure.

Nothing is computed here, no model is run. `visavis.plotting.figure_bytes` makes SVG or PNG of a figure.
"""

from visavis.reports.units.card import ClassDrop, Glimpse, unit_card
from visavis.reports.units.curves import CurvePanel, class_removal_curves, cumulative_curves
from visavis.reports.units.decision import decision_figure
from visavis.reports.units.heatmap import importance_heatmap
from visavis.reports.units.scatter import Compared, attribute_scatter

__all__ = [
    "ClassDrop",
    "Compared",
    "CurvePanel",
    "Glimpse",
    "attribute_scatter",
    "class_removal_curves",
    "cumulative_curves",
    "decision_figure",
    "importance_heatmap",
    "unit_card",
]
