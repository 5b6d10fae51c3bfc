"""`explain`: one decision, from a picture to the maps that say why."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from visavis.classifier import Classifier, Source
from visavis.contrast import (
    FOILS,
    Position,
    check_apart,
    foil_mask,
    position_index,
    positions_mask,
    target_indices,
    target_seed,
)
from visavis.errors import InputError, ModelError
from visavis.explanation import Answer, Explanation, conserved_share, over_channels
from visavis.methods import CLRP, LRP, CLRPScales, Method
from visavis.methods import method as method_class
from visavis.methods.base import PropagationMethod
from visavis.outputs import Output, scores_of
from visavis.propagation import Automatic, Ledger, RuleSet, Run, rule_set
from visavis.propagation.mode import answer_of
from visavis.version import __version__


def explain(
    model: nn.Module | Classifier,
    source: Source | list[Source] | tuple[Source, ...],
    target: Any = None,
    foil: Any = None,
    *,
    method: str = "clrp",
    rules: str | RuleSet | Automatic | None = None,
    layer: str | nn.Module | None = None,
    unit: int | None = None,
    position: Position | None = None,
    output: Output = None,
    top: int = 5,
    **options: Any,
) -> Explanation:
    """Explain why the model says `target` of a picture, and not `foil`.

    Args:
        model: a Classifier (`visavis.load_model` gives one), or any nn.Module that maps (B, C, H, W) to logits.
        source: a path, PIL picture or array, a list of these, or a normalised tensor (C, H, W) or (B, C, H, W). Or a
            batch of what is no picture: a tensor (B, L), (B, C, T, H, W), or (B, C, L) where the model convolves in one
            dimension alone; or a list of B tensors of any other shape.
        target: label, index or WordNet id, or a sequence of these, one a picture; None: what the model says.
        foil: what the target is contrasted with; see `visavis.CLRP`; None: the method's own, of "clrp" all others.
            Where the method takes no foil, a class here is the one that the panel shows beside the target.
        method: a name that `visavis.methods()` lists.
        rules: rule set, for the methods that have one; None: the method's own.
        layer: path of a submodule, to explain one of its units instead of a class; `target` must then be None.
        unit: index of the unit; None: the strongest.
        position: where in the layer's map or the segmentation, as (y, x), among tokens as a number, or a boolean mask
            (H, W) or (B, H, W); None: everywhere.
        output: what is explained of what the model returns: a key, attribute or index, or a callable that takes it to a
            tensor (B, N, ...) or (B,); None: the logits.
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
    of_unit = layer is not None and issubclass(method_class(method), PropagationMethod)
    if unit is not None and not of_unit:
        raise InputError("a unit belongs to a layer; name it with layer=..., or leave unit out")
    if of_unit and target is not None:
        raise InputError("with a layer its unit is explained, not a class; pass unit=... instead of target=...")
    if top < 1:
        raise InputError(f"top is how many classes to report, at least 1, not {top}")
    given = options if output is None else {**options, "output": output}
    explainer = _explainer(classifier, method, foil, rules, layer, given)
    inputs = _prepared(classifier, source)
    versus = "others" if foil is None else foil
    request = _Request(classifier, explainer, inputs, unit if of_unit else target, versus, position, top)
    explanation = request.answered()
    if not bool(torch.isfinite(explanation.relevance).all()):
        raise ModelError("the relevance is not finite: the model's activations or weights overflow, or are NaN")
    return explanation


def _explainer(
    classifier: Classifier,
    name: str,
    foil: Any,
    rules: str | RuleSet | Automatic | None,
    layer: str | nn.Module | None,
    options: dict[str, Any],
) -> Method:
    cls = method_class(name)
    given = dict(options)
    if given.get("execution", "auto") not in ("auto", "eager"):
        raise InputError(
            f"explain() makes several maps of one run, as the model runs, so execution={given['execution']!r} means "
            f"nothing to it; choose it for {cls.title}'s attribute(), or leave it out"
        )
    if rules is not None:
        given["rules"] = rule_set(rules)
    if layer is not None:
        given["layer"] = layer
    if cls.contrastive and foil is not None:
        given["foil"] = foil
    elif isinstance(foil, str) and foil in FOILS and not cls.contrastive and foil not in ("others", "runner-up"):
        raise InputError(f"{cls.title} takes no foil, so {foil!r} means nothing to it; choose the method 'clrp'")
    takes = [name for name in inspect.signature(cls).parameters if name != "module"]
    unknown = [name for name in given if name not in takes]
    if unknown:
        raise InputError(f"{cls.title} takes no option {unknown[0]!r}; it takes {', '.join(takes)}")
    return cls(classifier, **given)


def _prepared(classifier: Classifier, source: Any) -> Tensor:
    """Return the batch to explain: pictures as the classifier prepares them, all else as it is, where the model is."""
    needed = _inputs_needed(classifier.module)
    if len(needed) > 1:
        raise InputError(
            f"the model takes {len(needed)} inputs ({', '.join(needed)}), and explain() explains one; call "
            f"vv.CLRP(module).attribute(({', '.join(needed)}), target=...), or another method's attribute()"
        )
    if (
        isinstance(source, list | tuple)
        and source
        and all(isinstance(one, Tensor) and one.dim() != 3 for one in source)
    ):
        shapes = list(dict.fromkeys(tuple(one.shape) for one in source))
        if len(shapes) > 1:
            raise InputError(
                f"the tensors differ in shape, {shapes[0]} and {shapes[1]}, so they make no batch; pass them one by "
                f"one, or, where they are several inputs of one model, to vv.CLRP(module).attribute((a, b), target=...)"
            )
        source = torch.stack(list(source))
    elif not isinstance(source, Tensor) or not _no_picture(classifier.module, source):
        return classifier.prepare(source)
    if not source.is_floating_point():
        raise InputError(f"the tensor is of type {source.dtype}, but a floating-point one was expected; normalise it")
    batch: Tensor = source.to(device=classifier.device, dtype=classifier.dtype)
    return batch


def _inputs_needed(module: nn.Module) -> list[str]:
    """The names of the inputs without which the model cannot be called; none where hooks may add some."""
    if module._forward_pre_hooks:
        return []
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in parameters if one.kind in positional and one.default is one.empty]


def _no_picture(module: nn.Module, batch: Tensor) -> bool:
    """Whether a tensor is a batch of signals, vectors or video, and neither (C, H, W) nor (B, C, H, W)."""
    dimensions = {len(part.kernel_size) for part in module.modules() if isinstance(part, _ConvNd)}
    return batch.dim() not in (3, 4) or (batch.dim() == 3 and dimensions == {1})


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is asked of the outputs (B, N, ...): each picture's target (B,), and the counterpart shown beside it."""

    outputs: Tensor
    target: Tensor
    other: Tensor | None


def _booked(run: Run, seed: Tensor) -> tuple[Any, Ledger | None]:
    """Return the map of a seed, with its ledger where one can be kept: not of gradients, nor of a score of 0."""
    if run.keeps_ledger(seed):
        return run.relevance_and_ledger(seed, more=True)
    return run.relevance(seed, more=True), None


def _over_positions(outputs: Tensor) -> Tensor:
    """Return (B, N): each output's sum over its positions."""
    return outputs.flatten(2).sum(2) if outputs.dim() > 2 else outputs


def _holds_for_any(foil: Any) -> bool:
    """Whether a foil can stand against any target, as "others" does, and a class does not."""
    return callable(foil) or (isinstance(foil, str) and foil != "runner-up")


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

    def answered(self) -> Explanation:
        """The explanation; a method on the engine makes all its maps from one forward pass."""
        if isinstance(self.explainer, CLRP):
            return self._contrasted(self.explainer)
        if isinstance(self.explainer, PropagationMethod):
            return self._propagated(self.explainer)
        if isinstance(self.explainer, CLRPScales):
            return self._at_several_sizes(self.explainer)
        return self._attributed()

    def _contrasted(self, clrp: CLRP) -> Explanation:
        """The contrast and the plain map of the target, and the same of the counterpart."""
        with clrp.forward(self.inputs) as run:
            self._warn_of_saturation(run)
            asked = self._asked(run.output, clrp.foil)
            seed = clrp.seed_of(run.output, asked.target, self.position)
            plain, ledger = _booked(run, seed)
            maps = {"plain target": plain}
            relevance = clrp.map_of(run, seed, more=asked.other is not None)
            back = clrp.foil if _holds_for_any(clrp.foil) else asked.target
            if asked.other is not None:
                reverse = target_seed(run.output, asked.other, seed=clrp.seed, position=self.position)
                maps["plain counterpart"] = run.relevance(reverse, more=True)
                maps["contrast counterpart"] = clrp.contrast(run, reverse, back)
            logits = self._logits(run.returned, run.output)
        explanation = self._explanation(asked, relevance, logits, maps, self._foil_words(clrp.foil, asked))
        settings = {
            **explanation.settings,
            "rules": run.rules,
            "rules_reason": run.reason,
            "plain_title": LRP.title,
            "counterpart_foil": explanation.foils[0] if _holds_for_any(clrp.foil) else "the target",
            "foil_is_class": not _holds_for_any(clrp.foil),
        }
        conserved = conserved_share(maps["plain target"], seed)
        return replace(explanation, conserved=conserved, ledger=ledger, settings=settings)

    def _at_several_sizes(self, explainer: CLRPScales) -> Explanation:
        """The contrasts at several sizes, with the plain maps of the picture as it is."""
        if self.position is not None:
            raise InputError(f"{explainer.title} explains no position; leave it out")
        explanation = self._contrasted(explainer.at_one_size())
        target = torch.tensor([answer.index for answer in explanation.targets])
        maps = dict(explanation.maps)
        if "contrast counterpart" in maps:
            other = torch.tensor([answer.index for answer in explanation.counterparts if answer is not None])
            back = explainer if _holds_for_any(explainer.foil) else explainer.against(target)
            maps["contrast counterpart"] = over_channels(back.attribute(self.inputs, other)).cpu()
        return replace(explanation, relevance=explainer.attribute(self.inputs, target), maps=maps)

    def _propagated(self, explainer: PropagationMethod) -> Explanation:
        """The method's map of the target, and that of the counterpart."""
        with explainer.forward(self.inputs) as run:
            self._warn_of_saturation(run)
            asked = self._asked(run.output, explainer.foil_of(self.foil, tuple(FOILS)))
            seed = explainer.seed_of(run.output, asked.target, self.position)
            ledger = None
            if explainer.conserving:
                relevance, ledger = _booked(run, seed)
            else:
                relevance = explainer.map_of(run, seed, more=asked.other is not None)
            maps = {}
            if asked.other is not None:
                reverse = explainer.seed_of(run.output, asked.other, self.position)
                maps["plain counterpart"] = explainer.map_of(run, reverse)
            logits = self._logits(run.returned, run.output)
        explanation = self._explanation(asked, relevance, logits, maps)
        conserved = conserved_share(relevance, seed) if explainer.conserving else None
        settings = dict(explanation.settings)
        if settings["rules"] is not None:
            settings |= {"rules": run.rules, "rules_reason": run.reason}
        return replace(explanation, conserved=conserved, ledger=ledger, settings=settings)

    def _attributed(self) -> Explanation:
        """The same, by `attribute` alone."""
        if self.position is not None:
            raise InputError(f"{self.explainer.title} explains no position; leave it out")
        with torch.no_grad():
            returned = answer_of(self.classifier.module, self.inputs)
        outputs = scores_of(returned, self.explainer.output, len(self.inputs))
        logits = self._logits(returned, outputs)
        asked = self._asked(outputs, self.explainer.foil_of(self.foil, tuple(FOILS)))
        relevance = self.explainer.attribute(self.inputs, asked.target)
        maps = {}
        if asked.other is not None:
            maps["plain counterpart"] = self.explainer.attribute(self.inputs, asked.other)
        return self._explanation(asked, relevance, logits, maps)

    def _warn_of_saturation(self, run: Run) -> None:
        if run.saturates and not self._of_unit:
            warnings.warn(
                "the model ends in a softmax or sigmoid, so its probabilities are explained, which saturate; relevance "
                "is meant for the scores before it: pass the model without that layer",
                stacklevel=5,
            )

    @property
    def _of_unit(self) -> bool:
        """Whether a layer's unit is explained, and not a class (to Grad-CAM a layer is something else)."""
        return self.explainer.layer is not None and isinstance(self.explainer, PropagationMethod)

    def _explains(self, count: int) -> Literal["class", "unit", "output"]:
        """What is explained: a unit, a class, or one of so many outputs that no label names."""
        if self._of_unit:
            return "unit"
        labels = self.classifier.labels
        named = labels is not None and len(labels) == count
        return "class" if self.explainer.output is None or named else "output"

    def _logits(self, returned: Any, outputs: Tensor) -> Tensor | None:
        """The scores of the classes (B, N, ...), of which the strongest are told; None where there are none."""
        if self._of_unit:
            try:
                return self.classifier.logits(returned).detach()
            except ModelError:  # a unit can be explained in a model that has no classes
                return None
        if self._explains(outputs.shape[1]) == "output":
            return None
        return self.classifier.logits(outputs).detach()

    def _asked(self, outputs: Tensor, foil: Any) -> _Asked:
        target = self._indices(outputs)
        return _Asked(outputs, target, self._counterpart(outputs, target, foil))

    def _indices(self, outputs: Tensor) -> Tensor:
        target = self.explainer.target_of(self.target)
        if callable(target):
            raise InputError("explain() names its target, so it takes no callable; use the method's attribute()")
        return target_indices(outputs, target, "unit" if self._of_unit else "target")

    def _counterpart(self, outputs: Tensor, target: Tensor, foil: Any) -> Tensor | None:
        """The class to show beside the target: the (strongest) foil class, else the strongest other class."""
        if outputs.shape[1] < 2:
            return None
        strength = self._strength(outputs)
        named = not (isinstance(foil, str) or callable(foil))
        if self._explains(outputs.shape[1]) != "class" and not named:
            return None
        if named:
            check_apart(strength, target, foil)
            strength = strength.masked_fill(foil_mask(strength, foil) == 0, -torch.inf)
        return strength.scatter(1, target.view(-1, 1), -torch.inf).argmax(1)

    def _foil_words(self, foil: Any, asked: _Asked) -> tuple[str, ...]:
        if isinstance(foil, str) and foil != "runner-up":
            unit = {"class": "classes", "unit": "units", "output": "outputs"}[self._explains(asked.outputs.shape[1])]
            words = {
                "others": f"all other {unit}",
                "negated": "its negated weights",
                "logits": f"other {unit} by score",
                "softmax": f"other {unit} by probability",
                "strongest": f"the ten strongest other {unit}",
            }
            return (words[foil],) * len(asked.outputs)
        if callable(foil):
            return ("a foil of one's own",) * len(asked.outputs)
        if isinstance(foil, str):
            other = asked.other
            if other is None:  # of a layer's map the runner-up is another at each position
                return ("the runner-up",) * len(asked.outputs)
            return self._names(other, asked.outputs.shape[1])
        mask = foil_mask(_over_positions(asked.outputs), foil)
        return tuple(", ".join(self._names(row.nonzero(), len(row))) for row in mask)

    def _names(self, indices: Tensor, count: int) -> tuple[str, ...]:
        """The names of some of so many classes, units or outputs."""
        kind = self._explains(count)
        return tuple(self.classifier.label(int(i)) if kind == "class" else f"{kind} {int(i)}" for i in indices)

    def _explanation(
        self,
        asked: _Asked,
        relevance: Tensor,
        logits: Tensor | None,
        maps: dict[str, Tensor],
        foils: tuple[str, ...] | None = None,
    ) -> Explanation:
        strength = self._strength(asked.outputs)
        top: tuple[tuple[Answer, ...], ...] = ((),) * len(self.inputs)
        if logits is not None:
            probabilities = self._probabilities(logits)
            strength = strength if self._of_unit else probabilities
            top = self._strongest(probabilities)
        return Explanation(
            relevance=relevance,
            picture=self._picture().cpu(),
            targets=self._answers(asked.target, strength),
            foils=foils or ("",) * len(self.inputs),
            counterparts=(None,) * len(self.inputs) if asked.other is None else self._answers(asked.other, strength),
            top=top,
            conserved=None,
            maps={name: over_channels(tensor).cpu() for name, tensor in maps.items()},
            settings={**self._settings(), "explains": self._explains(asked.outputs.shape[1])},
        )

    def _strength(self, outputs: Tensor) -> Tensor:
        """(B, N): each output's sum over the positions that are explained."""
        if self.position is not None:
            outputs = outputs.masked_fill(positions_mask(self.position, outputs) == 0, 0)
        return _over_positions(outputs)

    def _probabilities(self, logits: Tensor) -> Tensor:
        """(B, N) in [0, 1]: of logits (B, N, ...), averaged over the positions that are explained."""
        if logits.dim() > 2 and self.position is not None and not self._of_unit:
            mask = positions_mask(self.position, logits).expand_as(logits)
            logits = logits.masked_fill(mask == 0, 0).flatten(2).sum(2) / mask.flatten(2).sum(2)
        elif logits.dim() > 2:
            logits = logits.flatten(2).mean(2)
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)

    def _picture(self) -> Tensor:
        return self.classifier.picture(self.inputs).float() if self.inputs.dim() == 4 else self.inputs.detach()

    def _strongest(self, probabilities: Tensor) -> tuple[tuple[Answer, ...], ...]:
        values, indices = probabilities.topk(min(self.top, probabilities.shape[1]), dim=1)
        return tuple(
            tuple(Answer(int(i), self.classifier.label(int(i)), float(p)) for i, p in zip(row_i, row_p, strict=True))
            for row_i, row_p in zip(indices, values, strict=True)
        )

    def _answers(self, indices: Tensor, strength: Tensor) -> tuple[Answer, ...]:
        chosen = strength.gather(1, indices.view(-1, 1)).squeeze(1)
        names = self._names(indices, strength.shape[1])
        return tuple(Answer(int(i), name, float(s)) for i, name, s in zip(indices, names, chosen, strict=True))

    def _settings(self) -> dict[str, Any]:
        explainer = self.explainer
        rules = getattr(explainer, "rules", None)
        settings: dict[str, Any] = {
            "model": self.classifier.name,
            "method": explainer.name,
            "method_title": explainer.title,
            "reading": explainer.reading,
            "quantity": explainer.quantity,
            "rules": rules.name if rules is not None else None,
            "layer": explainer.layer,
            "position": _told(self.position),
            "device": str(self.inputs.device),
            "dtype": str(self.inputs.dtype),
            "visavis": __version__,
            "torch": str(torch.__version__),
        }
        for name in ("signed", "normalize", "seed", "steps", "samples", "noise"):
            if hasattr(explainer, name):
                settings[name] = getattr(explainer, name)
        return settings


def _told(position: Position | None) -> list[int] | str | None:
    """A position as JSON takes it; of a mask, how much of it is true."""
    if position is None:
        return None
    place = position_index(position)
    if place is not None:
        return list(place)
    mask = torch.as_tensor(position)
    return f"a mask, {int(mask.sum())} of {mask.numel()}"
