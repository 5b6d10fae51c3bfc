"""Explanation vectors as pictures: as bars, over a plane, as images, and as distributions over groups."""

from visavis.reports.vectors.bars import bars_figure
from visavis.reports.vectors.distributions import Compared, compared, distribution_figure
from visavis.reports.vectors.images import images_figure
from visavis.reports.vectors.plane import plane_figure

__all__ = ["Compared", "bars_figure", "compared", "distribution_figure", "images_figure", "plane_figure"]
