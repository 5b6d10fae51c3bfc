"""Pictures of evidence: relevance drawn over the photograph, so that both can be read.

Everything here takes plain arrays and text and gives a `matplotlib.figure.Figure`. Only matplotlib's object
interface is used, never pyplot: no display is needed, no figure outlives its last reference, and the user's
own figures and settings are left alone.

`colours` says how evidence becomes colour, `strength` how it is scaled.
"""

from visavis.plotting.colours import FOIL, TARGET, backdrop, overlay
from visavis.plotting.comparisons import comparison
from visavis.plotting.contents import Class, Map, Row
from visavis.plotting.panels import panel
from visavis.plotting.saving import figure_bytes, save_figure
from visavis.plotting.strength import shared_scale, smooth

__all__ = [
    "FOIL",
    "TARGET",
    "Class",
    "Map",
    "Row",
    "backdrop",
    "comparison",
    "figure_bytes",
    "overlay",
    "panel",
    "save_figure",
    "shared_scale",
    "smooth",
]
