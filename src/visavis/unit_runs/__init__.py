"""The study of a layer's units on a data set of any size, as a run that can be cut and taken up again."""

from visavis.unit_runs.run import Found, study

__all__ = ["Found", "study"]
