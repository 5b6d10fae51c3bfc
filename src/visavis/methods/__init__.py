"""The methods, one class each, in one registry."""

from visavis.methods.base import Method, PropagationMethod, method, methods, register_method
from visavis.methods.clrp import CLRP, CLRPGamma
from visavis.methods.gradients import DeConvNet, Gradient, GuidedBackprop, InputXGradient
from visavis.methods.lrp import LRP, DeepTaylor
from visavis.methods.peers import GradCAM, IntegratedGradients, SmoothGrad
from visavis.methods.scales import CLRPScales

__all__ = [
    "CLRP",
    "LRP",
    "CLRPGamma",
    "CLRPScales",
    "DeConvNet",
    "DeepTaylor",
    "GradCAM",
    "Gradient",
    "GuidedBackprop",
    "InputXGradient",
    "IntegratedGradients",
    "Method",
    "PropagationMethod",
    "SmoothGrad",
    "method",
    "methods",
    "register_method",
]
