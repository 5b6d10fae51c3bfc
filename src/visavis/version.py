"""The one place where the version of Visavis is written."""

__version__ = "0.1.0"
