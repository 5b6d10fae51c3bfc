"""Options that no case can be measured with: refused where a metric is made, before any map is."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import visavis as vv
from visavis.evaluation import Metric, Road, metrics
from visavis.evaluation.imputation import imputed
from visavis.evaluation.regions import widened
from visavis.evaluation.spelling import metric_of

#: Of deletion and insertion: options, and what the refusal says.
STEPS = {
    "steps=0": "steps is a whole number of at least 1, not 0",
    "batch=-1": "batch is a whole number of at least 1, not -1",
    "fill=black": "no fill 'black'; there are mean, zero, blur",
    **dict.fromkeys(("blur=-0.1", "blur=nan", "blur=1e999"), r"above 0 and up to 0\.3, not"),
}
#: Of each metric, the same.
BAD = {
    "pointing": {
        **dict.fromkeys(("tolerance=-1", "tolerance=nan", "tolerance=1e999"), "number of pixels from 0, not"),
        "tolerance=wide": "of type float, not 'wide'",
    },
    "ablation": {
        "size=0": "size is a whole number of at least 1, not 0",
        "samples=-3": "samples is a whole number of at least 1, not -3",
        "batch=0": "batch is a whole number of at least 1, not 0",
        "fill=black": "no fill 'black'; there are mean, zero, blur",
        "score=margin": "no score 'margin'; there are probability, logit, accuracy",
        **dict.fromkeys(("blur=0", "blur=0.31", "blur=nan"), r"above 0 and up to 0\.3, not"),
    },
    "deletion": STEPS,
    "insertion": STEPS,
    "road": {
        **dict.fromkeys(("noise=-1", "noise=nan", "noise=1e999"), "a standard deviation of at least 0, not"),
        **dict.fromkeys(("tolerance=0", "tolerance=nan", "tolerance=1e999"), "a share above 0, not"),
        "score=margin": "no score 'margin'",
        "batch=0": "batch is a whole number of at least 1, not 0",
    },
    "stability": {
        **dict.fromkeys(("noise=-0.1", "noise=nan", "noise=1e999"), "noise is a share of at least 0"),
        "samples=0": "at least one sample, not 0.02 and 0",
        "measure=foo": "no measure of likeness 'foo'; there are rank, cosine, ssim",
        "batch=0": "a batch is of at least one picture, not 0",
    },
    "randomization": {
        **dict.fromkeys(("stages=0", "stages=101"), "a whole number from 1 to 100, not"),
        "measure=foo": "no measure of likeness 'foo'; there are rank, cosine, ssim",
        **dict.fromkeys(("seed=-1", f"seed={2**64}"), "the seed of random weights is a whole number from 0 to"),
    },
    "discriminativeness": {"most=0": "at least one other class, not 0"},
    "cost": {"repeats=0": "at least one repeat, not of 0"},
}
#: Options at the edge of what there is, whose metrics have to be made.
GOOD = (
    "pointing:tolerance=0",
    "ablation:size=1,samples=1,batch=1,blur=0.3,fill=blur,score=accuracy",
    "deletion:steps=1,batch=1",
    "insertion:steps=1,blur=0.001",
    "road:noise=0,tolerance=1e-12,batch=1,score=logit",
    "stability:noise=0,samples=1,batch=1,measure=ssim",
    f"randomization:stages=100,seed={2**64 - 1},measure=cosine",
    "discriminativeness:most=1",
    "cost:repeats=1",
)


@pytest.mark.parametrize(
    ("spelled", "said"), [(f"{name}:{option}", said) for name, bad in BAD.items() for option, said in bad.items()]
)
def test_a_bad_option_is_refused_before_any_map_is_made(spelled: str, said: str) -> None:
    with pytest.raises(vv.InputError, match=said):
        metric_of(spelled)


@pytest.mark.parametrize("spelled", [*metrics(), *GOOD])
def test_what_can_be_measured_is_made(spelled: str) -> None:
    made = metric_of(spelled)
    assert isinstance(made, Metric)
    assert made.name == spelled.partition(":")[0]


@pytest.mark.parametrize("shares", [(), (0.0, 0.5), (1.0,), (math.nan,)])
def test_shares_that_there_are_not(shares: tuple[float, ...]) -> None:
    with pytest.raises(vv.InputError, match="above 0 and below 1, not"):
        Road(shares=shares)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: imputed(torch.ones(1, 1, 3, 3), torch.eye(3) > 0, tolerance=math.inf), "above 0, not inf"),
        (lambda: widened(torch.zeros(1, 3, 3, dtype=torch.bool), math.inf), "margin of a region .* not inf"),
    ],
)
def test_functions_refuse_what_their_metrics_refuse(call: Callable[[], object], said: str) -> None:
    with pytest.raises(vv.InputError, match=said):
        call()


def test_a_margin_of_any_size_reaches_every_pixel() -> None:
    regions = torch.zeros(1, 3, 4, dtype=torch.bool)
    regions[0, 2, 3] = True
    assert widened(regions, 1e300).all()
