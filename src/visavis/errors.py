"""The errors that Visavis raises on purpose, each with one sentence a user can act on.

Whatever a user can cause (a file, a label, a model, an option) ends in a `VisavisError`, so a program can
catch the one class and print its text; anything else that escapes is a bug.
"""


class VisavisError(Exception):
    """Base of every error raised on purpose: says what came, what was expected, and what to do."""


class InputError(VisavisError, ValueError):
    """A picture, tensor, label, option or path is not what was expected."""


class PictureError(InputError):
    """A picture cannot be read, or is too small or too large to be explained."""


class SameClassError(InputError):
    """Target and foil are the same class, so that there is no contrast."""


class ModelError(VisavisError, ValueError):
    """A model cannot be found, loaded or explained as it is."""


class UnsupportedOperationError(VisavisError, NotImplementedError):
    """A torch function on the path from input to output has no relevance rule."""


class OutputError(VisavisError, OSError):
    """A result cannot be written where it was asked for."""
