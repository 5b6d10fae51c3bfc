"""`compare`: what several classes each rest on, in one picture, one row a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier, Source
from visavis.errors import InputError, ModelError
from visavis.explanation import Answer, conserved_share
from visavis.methods import CLRP, LRP
from visavis.propagation import Automatic, RuleSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several classes of one picture, side by side.

    Attributes:
        picture: (3, H, W) in [0, 1], on the CPU: what the network saw.
        answers: the K classes, strongest first or as asked for.
        plain: (K, H, W), on the CPU: the plain map of each, channels summed.
        contrast: (K, H, W), on the CPU: the contrast of each with the foil, channels summed.
        conserved: (K,) share of each seed that reached the input.
        model, rules, foil: how it was made.
    """

    picture: Tensor
    answers: tuple[Answer, ...]
    plain: Tensor
    contrast: Tensor
    conserved: Tensor
    model: str
    rules: str
    foil: str

    def __repr__(self) -> str:
        said = "; ".join(f"{answer.name} {100 * answer.probability:.1f} %" for answer in self.answers[:3])
        more = f"; and {len(self.answers) - 3} more" if len(self.answers) > 3 else ""
        return f"Comparison({said}{more}, {self.model}, rules {self.rules}, maps {tuple(self.contrast.shape)})"

    def as_dict(self) -> dict[str, Any]:
        """Return all but the maps, as JSON takes it."""
        return {
            "model": self.model,
            "rules": self.rules,
            "foil": self.foil,
            "classes": [
                answer.as_dict() | {"conserved": float(share)}
                for answer, share in zip(self.answers, self.conserved, strict=True)
            ],
        }

    def plot(self) -> Figure:
        """Return the figure: one row a class."""
        from visavis import plotting
        from visavis.panel import drawable

        rows = [
            plotting.Row(answer.name, answer.probability, drawable(plain), drawable(contrast))
            for answer, plain, contrast in zip(self.answers, self.plain, self.contrast, strict=True)
        ]
        return plotting.comparison(
            self.picture.permute(1, 2, 0).numpy(),
            rows,
            title="What each class rests on",
            subtitle=f"{self.model}, rules {self.rules}",
            columns=(LRP.title, CLRP.title),
            notes=("what the class rests on", f"what the class rests on, and {self.foil} do not"),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the figure (.png, .pdf, .svg, .jpg), beside and renamed into place; return the path."""
        from visavis.plotting import save_figure

        target = Path(path)
        save_figure(self.plot(), target)
        return target


def compare(
    model: nn.Module | Classifier,
    source: Source,
    targets: Sequence[int | str] | None = None,
    *,
    top: int = 5,
    rules: str | RuleSet | Automatic | None = None,
) -> Comparison:
    """Explain several classes of one picture, each by its plain map and by its contrast with all other classes.

    The forward pass and the denominators are shared: K classes take 2 + 2K passes, not 6K.

    Args:
        model: a Classifier, or any nn.Module that maps (B, C, H, W) to logits.
        source: one path, PIL picture or array, or a normalised tensor (C, H, W) or (1, C, H, W).
        targets: the classes, by label, index or WordNet id; None: the `top` strongest.
        top: how many, where `targets` are not given.
        rules: rule set; None: the one that fits the model.

    Raises:
        InputError, ModelError, UnsupportedOperationError: as `visavis.explain`.
    """
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    if isinstance(targets, str) or (targets is not None and len(targets) == 0):
        raise InputError(f"targets are several classes, such as ['zebra', 'lion'], not {targets!r}")
    if top < 1:
        raise InputError(f"top is how many classes to compare, at least 1, not {top}")
    inputs = classifier.prepare(source)
    if len(inputs) != 1:
        raise InputError(f"compare takes one picture, and these are {len(inputs)}; call it for each")
    clrp = CLRP(classifier, rules=rules)
    with clrp.forward(inputs) as run:
        logits = run.output
        if logits.dim() != 2 or logits.shape[1] < 2:
            raise InputError(f"compare needs logits (B, classes) of two classes or more, not {tuple(logits.shape)}")
        classifier.logits(run.returned)  # refuses labels that do not fit
        probabilities = logits.softmax(1)[0]
        if targets is None:
            indices = probabilities.topk(min(top, len(probabilities))).indices.tolist()
        else:
            indices = [classifier.index(target) for target in targets]
        plain, contrast, shares = [], [], []
        for place, index in enumerate(indices):
            seed = clrp.seed_of(logits, index)
            own = run.relevance(seed, more=True)
            versus = clrp.contrast(run, seed, "others", more=place + 1 < len(indices))
            shares.append(conserved_share(own, seed))
            plain.append(own.sum(1).cpu())
            contrast.append(versus.sum(1).cpu())
    if not all(bool(torch.isfinite(one).all()) for one in (*plain, *contrast)):
        raise ModelError("the relevance is not finite: the model's activations or weights overflow, or are NaN")
    return Comparison(
        picture=classifier.picture(inputs)[0].float().cpu(),
        answers=tuple(Answer(i, classifier.label(i), float(probabilities[i])) for i in indices),
        plain=torch.cat(plain),
        contrast=torch.cat(contrast),
        conserved=torch.cat(shares),
        model=classifier.name,
        rules=run.rules,
        foil="all other classes",
    )
