"""The pictures of a study of units: each a function from numbers and names to a figure.

Nothing is computed here, no model is run. `visavis.plotting.figure_bytes` makes SVG or PNG of a figure.
"""

from visavis.reports.units.card import ClassDrop, unit_card
from visavis.reports.units.curves import CurvePanel, class_removal_curves, cumulative_curves
from visavis.reports.units.decision import decision_figure
from visavis.reports.units.heatmap import importance_heatmap
from visavis.reports.units.scatter import Compared, attribute_scatter
from visavis.reports.units.window import Glimpse, spot_of

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
    "spot_of",
    "unit_card",
]
