"""The pictures of the study "shape or texture": each a function from numbers and names to a figure.

Nothing is computed here, no model is run. `visavis.plotting.figure_bytes` makes SVG or PNG of a figure.
"""

from visavis.reports.shape_texture.conflict import bias_figure, conflict_figure
from visavis.reports.shape_texture.dimensions import dimension_bars
from visavis.reports.shape_texture.masks import readout_masks
from visavis.reports.shape_texture.networks import bias_against_dimensions
from visavis.reports.shape_texture.pairs import pair_sheet
from visavis.reports.shape_texture.readouts import readout_bars
from visavis.reports.shape_texture.removal import RemovalCurve, RemovalPanel, removal_curves
from visavis.reports.shape_texture.training import dimension_curves

__all__ = [
    "RemovalCurve",
    "RemovalPanel",
    "bias_against_dimensions",
    "bias_figure",
    "conflict_figure",
    "dimension_bars",
    "dimension_curves",
    "pair_sheet",
    "readout_bars",
    "readout_masks",
    "removal_curves",
]
