"""`explain`: one decision, from a picture to the maps that say why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier, Source
from visavis.contrast import FOILS, Position, foil_mask, target_indices, target_seed
from visavis.errors import InputError, ModelError
from visavis.explanation import Answer, Explanation, conserved_share
from visavis.methods import CLRP, LRP, Method
from visavis.methods import method as method_class
from visavis.methods.base import PropagationMethod
from visavis.propagation import RuleSet, rule_set
from visavis.version import __version__


def explain(
    model: nn.Module | Classifier,
    source: Source | list[Source],
    target: Any = None,
    foil: Any = "others",
    *,
    method: str = "clrp",
    rules: str | RuleSet | None = None,
    layer: str | None = None,
    unit: int | None = None,
    position: Position | None = None,
    top: int = 5,
    **options: Any,
) -> Explanation:
    """Explain why the model says `target` of a picture, and not `foil`.

    Args:
        model: a Classifier (`visavis.load_model` gives one), or any nn.Module that maps (B, C, H, W) to logits.
        source: a path, PIL picture or array, a list of these, or a normalised tensor (C, H, W) or (B, C, H, W).
        target: label, index or WordNet id, or a sequence of these, one a picture; None: what the model says.
        foil: what the target is contrasted with; see `visavis.CLRP`. Where the method takes no foil, a class here is
            the one that the panel shows beside the target.
        method: a name that `visavis.methods()` lists.
        rules: rule set, for the methods that have one; None: the method's own.
        layer: path of a submodule, to explain one of its units instead of a class; `target` must then be None.
        unit: index of the unit; None: the strongest.
        position: where in the layer's map, as (y, x); None: everywhere.
        top: how many of the strongest classes to report.
        options: what else the method's class takes, such as `signed=True` or `normalize="sum"`.

    Returns:
        An Explanation: `relevance` (B, C, H, W), `heatmap()` (B, H, W), `conserved` (B,), `plot()`, `save(path)`.

    Raises:
        InputError: picture, target, foil or option is not what it should be.
        ModelError: the model cannot be explained as it is.
        UnsupportedOperationError: the model calls a torch function that no rule knows.
    """
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    if unit is not None and layer is None:
        raise InputError("a unit belongs to a layer; name it with layer=..., or leave unit out")
    if layer is not None and target is not None:
        raise InputError("with a layer its unit is explained, not a class; pass unit=... instead of target=...")
    if position is not None and layer is None:
        raise InputError("a position belongs to a layer's map; name the layer with layer=..., or leave position out")
    if top < 1:
        raise InputError(f"top is how many classes to report, at least 1, not {top}")
    explainer = _explainer(classifier, method, foil, rules, layer, options)
    inputs = classifier.prepare(source)
    request = _Request(classifier, explainer, inputs, unit if layer is not None else target, foil, position, top)
    explanation = request.contrasted() if isinstance(explainer, CLRP) else request.plain()
    if not bool(torch.isfinite(explanation.relevance).all()):
        raise ModelError("the relevance is not finite: the model's activations or weights overflow, or are NaN")
    return explanation


def _explainer(
    classifier: Classifier,
    name: str,
    foil: Any,
    rules: str | RuleSet | None,
    layer: str | None,
    options: dict[str, Any],
) -> Method:
    cls = method_class(name)
    given = dict(options)
    if rules is not None:
        given["rules"] = rule_set(rules)
    if layer is not None:
        given["layer"] = layer
    if cls.contrastive:
        given["foil"] = foil
    elif isinstance(foil, str) and foil in FOILS and foil not in ("others", "runner-up"):
        raise InputError(f"{cls.title} takes no foil, so {foil!r} means nothing to it; choose the method 'clrp'")
    try:
        return cls(classifier, **given)
    except TypeError as error:
        unknown = str(error).split("argument")[-1].strip()
        raise InputError(f"{cls.title} takes no option {unknown}; see visavis.{cls.__name__}") from None


@dataclass(frozen=True, eq=False)
class _Request:
    """One call of `explain`, while it is worked on."""

    classifier: Classifier
    explainer: Method
    inputs: Tensor
    target: Any
    foil: Any
    position: Position | None
    top: int

    def contrasted(self) -> Explanation:
        """The contrast, the plain maps of target and counterpart, and the contrast of the counterpart: one run."""
        clrp = self.explainer
        assert isinstance(clrp, CLRP)
        with clrp.forward(self.inputs) as run:
            outputs = run.output
            target = self._indices(outputs)
            other = self._counterpart(outputs, target, clrp.foil)
            seed = target_seed(outputs, target, seed=clrp.seed, position=self.position)
            plain = run.relevance(seed, more=True)
            maps = {"plain target": plain}
            back: Any = clrp.foil if isinstance(clrp.foil, str) and clrp.foil != "runner-up" else target
            back = back if not callable(clrp.foil) else clrp.foil
            relevance = clrp.contrast(run, seed, clrp.foil, more=other is not None)
            if other is not None:
                reverse = target_seed(outputs, other, seed=clrp.seed, position=self.position)
                maps["plain counterpart"] = run.relevance(reverse, more=True)
                maps["contrast counterpart"] = clrp.contrast(run, reverse, back)
            logits = self.classifier.logits(run.returned).detach()
        foil_words = self._foil_words(clrp.foil, outputs, target)
        explanation = self._explanation(relevance, logits, outputs, target, other, foil_words, maps)
        settings = {
            **explanation.settings,
            "plain_title": LRP.title,
            "counterpart_foil": "the target" if back is target else foil_words[0],
        }
        return replace(explanation, conserved=conserved_share(plain, seed), settings=settings)

    def plain(self) -> Explanation:
        """The method's map of the target, and that of the counterpart."""
        explainer = self.explainer
        if isinstance(explainer, PropagationMethod):
            with explainer.forward(self.inputs) as run:
                outputs = run.output
                logits = self.classifier.logits(run.returned).detach()
        else:
            with torch.no_grad():
                logits = outputs = self.classifier(self.inputs)
        target = self._indices(outputs)
        foil = explainer.foil_of(self.foil, tuple(FOILS))
        other = self._counterpart(outputs, target, foil)
        at = {"position": self.position} if self.position is not None else {}
        relevance = explainer.attribute(self.inputs, target, **at)
        maps = {} if other is None else {"plain counterpart": explainer.attribute(self.inputs, other, **at)}
        words = ("",) * len(self.inputs)
        explanation = self._explanation(relevance, logits, outputs, target, other, words, maps)
        if not isinstance(explainer, LRP):
            return explanation
        seed = target_seed(outputs, target, seed=explainer.seed, position=self.position)
        return replace(explanation, conserved=conserved_share(relevance, seed))

    def _indices(self, outputs: Tensor) -> Tensor:
        target = self.explainer.target_of(self.target)
        if callable(target):
            raise InputError("explain() names its target, so it takes no callable; use the method's attribute()")
        return target_indices(outputs, target)

    def _counterpart(self, outputs: Tensor, target: Tensor, foil: Any) -> Tensor | None:
        """The class to show beside the target: the (strongest) foil class, else the strongest other class."""
        if outputs.shape[1] < 2:
            return None
        strength = outputs.flatten(2).sum(2) if outputs.dim() > 2 else outputs
        named = not (isinstance(foil, str) or callable(foil))
        if self.explainer.layer is not None and not named:
            return None
        if named:
            strength = strength.masked_fill(foil_mask(strength, foil) == 0, -torch.inf)
        strongest = strength.scatter(1, target.view(-1, 1), -torch.inf).argmax(1)
        if bool((strongest == target).any()):
            raise InputError("target and foil are the same class; a contrast needs two (or the foil 'others')")
        return strongest

    def _foil_words(self, foil: Any, outputs: Tensor, target: Tensor) -> tuple[str, ...]:
        if isinstance(foil, str) and foil != "runner-up":
            unit = "units" if self.explainer.layer is not None else "classes"
            words = {
                "others": f"all other {unit}",
                "negated": "its negated weights",
                "logits": f"other {unit} by score",
            }
            return (words[foil],) * len(outputs)
        if callable(foil):
            return ("a foil of one's own",) * len(outputs)
        if isinstance(foil, str):
            other = self._counterpart(outputs, target, foil)
            return tuple(self._name(int(index)) for index in other) if other is not None else ("the runner-up",)
        mask = foil_mask(outputs.flatten(2).sum(2) if outputs.dim() > 2 else outputs, foil)
        return tuple(", ".join(self._name(int(index)) for index in row.nonzero()) for row in mask)

    def _name(self, index: int) -> str:
        return f"unit {index}" if self.explainer.layer is not None else self.classifier.label(index)

    def _explanation(
        self,
        relevance: Tensor,
        logits: Tensor,
        outputs: Tensor,
        target: Tensor,
        other: Tensor | None,
        foils: tuple[str, ...],
        maps: dict[str, Tensor],
    ) -> Explanation:
        probabilities = logits.flatten(2).mean(2).softmax(1) if logits.dim() > 2 else logits.softmax(1)
        strength = probabilities
        if self.explainer.layer is not None:
            strength = outputs.flatten(2).sum(2) if outputs.dim() > 2 else outputs
        values, indices = probabilities.topk(min(self.top, probabilities.shape[1]), dim=1)
        top = tuple(
            tuple(Answer(int(i), self.classifier.label(int(i)), float(p)) for i, p in zip(row_i, row_p, strict=True))
            for row_i, row_p in zip(indices, values, strict=True)
        )
        return Explanation(
            relevance=relevance,
            picture=self.classifier.picture(self.inputs).float().cpu(),
            targets=self._answers(target, strength),
            foils=foils,
            counterparts=(None,) * len(foils) if other is None else self._answers(other, strength),
            top=top,
            conserved=None,
            maps={name: tensor.sum(1).cpu() for name, tensor in maps.items()},
            settings=self._settings(),
        )

    def _answers(self, indices: Tensor, strength: Tensor) -> tuple[Answer, ...]:
        chosen = strength.gather(1, indices.view(-1, 1)).squeeze(1)
        return tuple(Answer(int(i), self._name(int(i)), float(s)) for i, s in zip(indices, chosen, strict=True))

    def _settings(self) -> dict[str, Any]:
        explainer = self.explainer
        rules = getattr(explainer, "rules", None)
        settings: dict[str, Any] = {
            "model": self.classifier.name,
            "method": explainer.name,
            "method_title": explainer.title,
            "reading": explainer.reading,
            "rules": rules.name if rules is not None else None,
            "layer": explainer.layer,
            "position": None if self.position is None else [int(p) for p in self.position],
            "device": str(self.inputs.device),
            "dtype": str(self.inputs.dtype),
            "visavis": __version__,
            "torch": str(torch.__version__),
        }
        for name in ("signed", "normalize", "seed", "steps", "samples", "noise"):
            if hasattr(explainer, name):
                settings[name] = getattr(explainer, name)
        return settings
