"""Can an explanation be trusted? Metrics of maps, each one value a case, and their means."""

from visavis.evaluation.ablation import Ablation
from visavis.evaluation.base import Case, Context, Explainer, Metric, metric, metrics, register_metric
from visavis.evaluation.cost import MapCost
from visavis.evaluation.deletion import Deletion, Insertion
from visavis.evaluation.discriminativeness import Discriminativeness
from visavis.evaluation.explainers import MethodExplainer, baseline, baselines
from visavis.evaluation.localization import EnergyInBox, EnergyInMask, EnergyPointing, PointingGame
from visavis.evaluation.mosaics import GridHits, GridPointing
from visavis.evaluation.quantus_adapter import quantus_explain
from visavis.evaluation.road import Road
from visavis.evaluation.sanity import Randomization, insensitive, label_randomization
from visavis.evaluation.sparsity import Complexity, Sparsity
from visavis.evaluation.stability import MapStability
from visavis.evaluation.statistics import Summary, summary

__all__ = [
    "Ablation",
    "Case",
    "Complexity",
    "Context",
    "Deletion",
    "Discriminativeness",
    "EnergyInBox",
    "EnergyInMask",
    "EnergyPointing",
    "Explainer",
    "GridHits",
    "GridPointing",
    "Insertion",
    "MapCost",
    "MapStability",
    "MethodExplainer",
    "Metric",
    "PointingGame",
    "Randomization",
    "Road",
    "Sparsity",
    "Summary",
    "baseline",
    "baselines",
    "insensitive",
    "label_randomization",
    "metric",
    "metrics",
    "quantus_explain",
    "register_metric",
    "summary",
]
