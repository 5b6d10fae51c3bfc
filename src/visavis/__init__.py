"""Visavis: why did the network say A and not B? The pixels that speak for one class vis-à-vis another."""

from visavis.classifier import Classifier, pixel_bounds
from visavis.comparison import Comparison, compare
from visavis.errors import InputError, ModelError, OutputError, UnsupportedOperationError, VisavisError
from visavis.explanation import Explanation
from visavis.labels import Labels
from visavis.methods import (
    CLRP,
    LRP,
    CLRPGamma,
    CLRPScales,
    DeConvNet,
    DeepTaylor,
    GradCAM,
    Gradient,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    SmoothGrad,
    method,
    methods,
)
from visavis.models import load_model, models
from visavis.models.preprocessing import CentreCrop
from visavis.propagation import RuleSet, register, rule_sets, unregister
from visavis.request import explain
from visavis.streams import explain_each
from visavis.version import __version__

__all__ = [
    "CLRP",
    "LRP",
    "CLRPGamma",
    "CLRPScales",
    "CentreCrop",
    "Classifier",
    "Comparison",
    "DeConvNet",
    "DeepTaylor",
    "Explanation",
    "GradCAM",
    "Gradient",
    "GuidedBackprop",
    "InputError",
    "InputXGradient",
    "IntegratedGradients",
    "Labels",
    "ModelError",
    "OutputError",
    "RuleSet",
    "SmoothGrad",
    "UnsupportedOperationError",
    "VisavisError",
    "__version__",
    "compare",
    "explain",
    "explain_each",
    "load_model",
    "method",
    "methods",
    "models",
    "pixel_bounds",
    "register",
    "rule_sets",
    "unregister",
]
