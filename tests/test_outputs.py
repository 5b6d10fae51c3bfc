"""The logits are found in whatever a model returns."""

import collections
import dataclasses

import pytest
import torch
import torchvision

from visavis.errors import ModelError
from visavis.outputs import logits_of

LOGITS = torch.arange(6.0).reshape(2, 3)
OTHER = torch.zeros(2, 3)


@dataclasses.dataclass
class ImageClassifierOutput:
    """As Hugging Face's models return it."""

    loss: object
    logits: torch.Tensor


Outputs = collections.namedtuple("Outputs", ["aux", "logits"])


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        ImageClassifierOutput(None, LOGITS),
        Outputs(OTHER, LOGITS),
        {"aux": OTHER, "logits": LOGITS},
        {"aux": OTHER, "out": LOGITS},
        (LOGITS, OTHER),
        [LOGITS, None],
        torchvision.models.GoogLeNetOutputs(LOGITS, OTHER, OTHER),
        torchvision.models.InceptionOutputs(LOGITS, OTHER),
    ],
)
def test_the_logits_are_found(output):
    assert logits_of(output) is LOGITS


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"last_hidden_state": LOGITS, "pooled": OTHER}, "a dict with the keys last_hidden_state, pooled"),
        ({}, "a dict with the keys (none)"),
        ((), "a tuple of nothing"),
        ([[LOGITS], 3], "a list of list, int"),
        (None, "a NoneType"),
        (3.0, "a float"),
        (ImageClassifierOutput(None, None), "a ImageClassifierOutput"),
    ],
)
def test_where_there_are_none(output, said):
    with pytest.raises(ModelError) as caught:
        logits_of(output)
    assert f"the model returned {said}, in which no logits were found" in str(caught.value)
