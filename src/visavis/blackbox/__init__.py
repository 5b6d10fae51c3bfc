"""Any classifier at all, explained by the gradient of the probability of not being what it was called.

After Baehrens, Schroeter, Harmeling, Kawanabe, Hansen, Müller 2010 (How to Explain Individual Classification Decisions,
JMLR 11). In scikit-learn's conventions: `ExplanationVectors(classifier).fit(X).explain(rows)`.
"""

from visavis.blackbox.agreement import LowAgreementWarning
from visavis.blackbox.exact import exact_kinds, register_exact
from visavis.blackbox.explaining import ExplanationVectors
from visavis.blackbox.gaussian_process import GaussianProcess, Latent
from visavis.blackbox.mimic import ParzenMimic
from visavis.blackbox.vectors import Component, Vectors

__all__ = [
    "Component",
    "ExplanationVectors",
    "GaussianProcess",
    "Latent",
    "LowAgreementWarning",
    "ParzenMimic",
    "Vectors",
    "exact_kinds",
    "register_exact",
]
