"""What every method has in common: a model, checked inputs, `attribute(inputs, target)`, a place in the registry."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from visavis.classifier import Bound, Classifier
from visavis.contrast import Foil, Position, Seed, Target, seed_at, target_indices, target_seed
from visavis.errors import InputError
from visavis.methods.chunks import Chunks, Question, several
from visavis.methods.execution import Execution
from visavis.outputs import Output, scores_of
from visavis.propagation import Ledger, Plan, Run, forward
from visavis.propagation.mode import Bounds, Inputs, Policy
from visavis.propagation.untouched import version_of


class Method(ABC):
    """A way to attribute an output to the pixels of the input. One class a method; `methods()` names them.

    Attributes:
        name: what the registry calls it.
        title: what tables and pictures call it.
        contrastive: whether it takes a foil.
        conserving: whether what it puts on the pixels adds up to the seed, but for what is absorbed.
        reading: how to read its map, with {} for the class.
        quantity: what its colours measure, with {} for the class.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    contrastive: ClassVar[bool] = False
    conserving: ClassVar[bool] = False
    reading: ClassVar[str] = "what {} rests on"
    quantity: ClassVar[str] = "evidence for {}"

    def __init__(
        self,
        module: nn.Module | Classifier,
        *,
        bounds: tuple[Bound, Bound] | None = None,
        layer: str | nn.Module | None = None,
        output: Output = None,
    ) -> None:
        if isinstance(module, Classifier):
            classifier = module if bounds is None else Classifier(module.module, labels=module.labels, bounds=bounds)
        else:
            classifier = Classifier(module, bounds=bounds)
        self.classifier = classifier
        self.layer = _path_of(layer, classifier.module)
        self.output = output

    @property
    def module(self) -> nn.Module:
        """The model that is explained."""
        return self.classifier.module

    @abstractmethod
    def attribute(self, inputs: Inputs, target: Any = None, *, additional_forward_args: Any = None) -> Inputs:
        """Return the attribution of the target's score to each value of `inputs`, in their shape.

        Args:
            inputs: (B, C, H, W) or (B, ...), floating point, on the model's device, of the model's dtype; or a tuple of
                such tensors for a model of several inputs, and a tuple is returned.
            target: class index; label, if the method was given a Classifier with labels; a sequence or tensor of B of
                these, one an image; None: each image's strongest class.
            additional_forward_args: what the model is called with after the inputs, one value or a tuple of these; it
                is not explained.
        """

    def checked(self, inputs: Inputs) -> Inputs:
        """Return `inputs`, or raise an InputError that says what is wrong with them."""
        several = inputs if isinstance(inputs, tuple) else (inputs,)
        if not several:
            raise InputError("the tuple of inputs is empty; pass at least one tensor (B, ...)")
        for one in several:
            self._check(one)
        sizes = [len(one) for one in several]
        if len(set(sizes)) > 1:
            raise InputError(f"the inputs are for batches of {sizes}; all must be of one size, in dimension 0")
        self._check_bounds(several[0])
        if any(part.training for part in self.module.modules() if isinstance(part, MODES)):
            warnings.warn(
                "the model is in training mode, so dropout and batch statistics are part of what is explained; "
                "call model.eval() first for the model that you deploy",
                stacklevel=3,
            )
        return inputs

    def _check(self, inputs: Any) -> None:
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
            raise InputError(
                f"inputs are a floating-point tensor (B, C, H, W), normalised, or a tuple of these, not {kind}; pass "
                f"what is not to be explained as additional_forward_args"
            )
        if inputs.dim() < 2 or inputs.numel() == 0:
            raise InputError(f"inputs have shape {tuple(inputs.shape)}; expected a batch such as (B, C, H, W)")
        broken = int((~torch.isfinite(inputs)).sum())
        if broken:
            raise InputError(f"inputs hold {broken} values that are NaN or infinite; every value must be finite")
        for parameter in self.module.parameters():
            if parameter.is_floating_point():
                _check_place(inputs, parameter)
                break

    def _check_bounds(self, inputs: Tensor) -> None:
        bounds = self.classifier.bounds
        if bounds is not None and bounds[0].numel() not in (1, inputs.shape[1]):
            given, known = inputs.shape[1], bounds[0].numel()
            raise InputError(f"inputs {tuple(inputs.shape)} have {given} channels, the bounds are for {known}")
        if bounds is not None:
            _check_bounds(inputs, *bounds)

    def target_of(self, target: Any) -> Target:
        """Return the target with labels replaced by indices."""
        return target if self.layer is not None else label_indices(target, self.classifier)

    def foil_of(self, foil: Any, reserved: Sequence[str]) -> Foil:
        """Return the foil with labels, other than the reserved words, replaced by indices."""
        if isinstance(foil, str) and foil in reserved:
            return foil
        if self.layer is not None and isinstance(foil, str):
            raise InputError(f"with a layer the foil is another of its units, by number, not {foil!r}")
        return foil if self.layer is not None else label_indices(foil, self.classifier)


def _path_of(layer: str | nn.Module | None, module: nn.Module) -> str | None:
    """Return the path of a layer that is given by path or as the submodule itself."""
    if layer is None or isinstance(layer, str):
        return layer
    paths = [path for path, part in module.named_modules() if part is layer]
    if not paths:
        raise InputError(
            f"layer is the path of a submodule, or one of the model's submodules, not {type(layer).__name__}"
        )
    path: str = paths[0]
    return path


def arguments_of(additional_forward_args: Any) -> tuple[Any, ...]:
    """Return what the model is called with after its inputs: a tuple as it is, any other value alone, None for none."""
    if isinstance(additional_forward_args, tuple):
        return additional_forward_args
    return () if additional_forward_args is None else (additional_forward_args,)


#: What answers differently in training mode.
MODES = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def label_indices(value: Any, classifier: Classifier) -> Any:
    """Return a target or foil with every label in it replaced by its index."""
    if isinstance(value, str):
        return classifier.index(value)
    if isinstance(value, list | tuple):
        return [label_indices(item, classifier) for item in value]
    return value


def _check_bounds(inputs: Tensor, low: Tensor, high: Tensor) -> None:
    """Refuse inputs beyond their bounds: zᴮ holds within them, and signs are known from them."""
    over = (1, -1, *(1,) * (inputs.dim() - 2))
    inputs = inputs.detach()
    below, above = (low.view(over).to(inputs) - inputs).max(), (inputs - high.view(over).to(inputs)).max()
    beyond, width = float(torch.maximum(below, above)), float((high - low).max())
    if beyond > 1e-3 * width:
        raise InputError(
            f"inputs reach {beyond:.3g} beyond the bounds, which are the lowest and highest value that a normalised "
            f"pixel can take; pass the bounds of these inputs, or normalise the inputs as the bounds say"
        )


def _check_place(inputs: Tensor, parameter: Tensor) -> None:
    if inputs.device != parameter.device:
        raise InputError(f"inputs are on {inputs.device}, the model is on {parameter.device}; move one to the other")
    if inputs.dtype != parameter.dtype and not torch.is_autocast_enabled(inputs.device.type):
        raise InputError(f"inputs are {inputs.dtype}, the model is {parameter.dtype}; convert one, as by x.to(...)")


class PropagationMethod(Method):
    """A method that runs on the engine: one forward pass under the mode, then one backward pass a map.

    Args:
        module: any nn.Module, or a Classifier.
        bounds: lowest and highest value of a normalised pixel, each a number or one a channel; None: the Classifier's.
        layer: path of a submodule; then the targets are that layer's units.
        output: what is explained of what the model (or the layer) returns: a key, attribute or index; or a callable
            that takes it to a tensor (B, N, ...), or (B,), run under the rules too. None: the logits.
        unit_dim: which dimension of that output holds the classes (or units); None: what dense layers made has them in
            the last one, all else (what a callable `output` gives, too) in dimension 1.
        execution: how `attribute` and `attribute_each` compute. "eager": as the model runs. "graph": the torch calls
            of model and map are recorded once for a shape, and played from then on; on a GPU as one CUDA graph.
            "compiled": TorchInductor compiles them as well, which takes a minute or more for each shape. "auto": on a
            GPU, "graph" from the second call of a shape on, for few images; else "eager". A recording is made anew
            when the model's parts, attributes or tensors are others, and reads parameters where they lie, so that it
            follows their values. Played maps of images that are not finite, or beyond the bounds, are NaN, and so are
            those of targets, given as a tensor on the GPU, that the outputs have not: to say so in a sentence the
            device would have to be waited for. What cannot be recorded (hooks, training mode, a callable target) is
            computed eagerly by "auto" (`method.execution.reasons` says why), and refused by the other two.

    Attributes:
        seed: how large the seed of a target is: "score", |S_j|; or "one".
    """

    seed: Seed = "score"

    def __init__(
        self,
        module: nn.Module | Classifier,
        *,
        bounds: tuple[Bound, Bound] | None = None,
        layer: str | nn.Module | None = None,
        output: Output = None,
        unit_dim: int | None = None,
        execution: str = "auto",
    ) -> None:
        super().__init__(module, bounds=bounds, layer=layer, output=output)
        self.execution = Execution(execution)
        self.chunks = Chunks()
        self._bounds: dict[tuple[Any, ...], Bounds] = {}
        if unit_dim is not None and (not isinstance(unit_dim, int) or isinstance(unit_dim, bool)):
            raise InputError(f"unit_dim is the number of a dimension, not {unit_dim!r}")
        self.unit_dim = unit_dim

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """The rule set, or how the gradient crosses a ReLU."""

    def forward(self, inputs: Inputs, additional_forward_args: Any = None) -> AbstractContextManager[Run]:
        """Run the model on `inputs` once; the context gives the `Run`, which makes any number of maps."""
        return self.opened(self.checked(inputs), additional_forward_args)

    def opened(
        self, inputs: Inputs, additional_forward_args: Any = None, *, watched: Sequence[str] = ()
    ) -> AbstractContextManager[Run]:
        """As `forward`, for inputs that are checked; maps may end at the layers that are watched."""
        first = inputs[0] if isinstance(inputs, tuple) else inputs
        return forward(
            self.module,
            inputs,
            self.policy,
            additional=arguments_of(additional_forward_args),
            bounds=self.bounds_for(first),
            pick=lambda returned: scores_of(returned, self.output, len(first), self.layer),
            layer=self.layer,
            unit_dim=1 if self.unit_dim is None and callable(self.output) else self.unit_dim,
            watched=watched,
        )

    def bounds_for(self, inputs: Tensor) -> Bounds | None:
        """Return the bounds of pixels as inputs (B, C, ...) have them: on their device, of their dtype."""
        bounds = self.classifier.bounds
        if bounds is None:
            return None
        key = (inputs.dim(), inputs.dtype, inputs.device, *((id(one), version_of(one)) for one in bounds))
        if key not in self._bounds:
            over = (1, -1, *(1,) * (inputs.dim() - 2))
            self._bounds[key] = Bounds.of(*(one.view(over).to(inputs) for one in bounds))
        return self._bounds[key]

    def plan(self, inputs: Inputs, additional_forward_args: Any = None) -> Plan:
        """Return which rule goes to which call in which module, in a forward pass on `inputs`; print it to read it."""
        with self.forward(inputs, additional_forward_args) as run:
            return run.plan

    def ledger(
        self,
        inputs: Inputs,
        target: Any = None,
        *,
        additional_forward_args: Any = None,
        position: Position | None = None,
    ) -> Ledger:
        """Return where the relevance of the target went, call by call, over the whole batch; print it to read it.

        Of a contrast it is the plain map's: what is absorbed of R and of R_dual.

        Args:
            inputs, target, additional_forward_args, position: as for `attribute`.

        Raises:
            InputError: the method propagates gradients, which are no relevance; or the seed sums to 0.
        """
        with self.forward(inputs, additional_forward_args) as run:
            seed = self.seed_of(run.output, self.target_of(target), position)
            return run.relevance_and_ledger(seed)[1]

    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        *,
        additional_forward_args: Any = None,
        position: Position | None = None,
    ) -> Inputs:
        """Return the attribution of the target, in the shape of `inputs`.

        Args:
            inputs: (B, C, H, W) or (B, ...), floating point, on the model's device, of the model's dtype; or a tuple of
                such tensors for a model of several inputs, and a tuple is returned. Bounds are those of the first.
            target: class index; label, if the method was given a Classifier with labels; a sequence or tensor of B of
                these, one an image; a callable `outputs -> seed`; None: each image's strongest. With `layer`: units.
            additional_forward_args: what the model is called with after the inputs, one value or a tuple of these; it
                is not explained.
            position: for outputs with positions (a layer's map, a segmentation): the one to explain, as (y, x), or a
                boolean mask (H, W) or (B, H, W) of those to explain; None: all.
        """
        played = self.execution.play(self, inputs, [target], additional_forward_args, position)
        if played is not None:
            return played[0]
        asked = [Question(self, target)]
        return self.chunks.answered(asked, self.checked(inputs), additional_forward_args, position)[0]

    def attribute_each(
        self,
        inputs: Inputs,
        targets: Any,
        *,
        additional_forward_args: Any = None,
        position: Position | None = None,
    ) -> list[Inputs]:
        """Return the attributions of several targets, one after the other, from one forward pass.

        What does not depend on the target is computed once: by arithmetic K maps of z⁺ cost 2 + K forward passes, where
        K calls of `attribute` cost 3 K.

        Args:
            inputs, additional_forward_args, position: as for `attribute`.
            targets: several, each as for `attribute`: one for all images, or one an image.

        Returns:
            as many as there are targets, each in the shape of `inputs`.
        """
        wanted = list(several(targets, "targets"))
        played = self.execution.play(self, inputs, wanted, additional_forward_args, position)
        if played is not None:
            return played
        inputs = self.checked(inputs)
        if not wanted:
            return []
        asked = [Question(self, target) for target in wanted]
        return self.chunks.answered(asked, inputs, additional_forward_args, position)

    def attribute_at(
        self,
        layer: str | nn.Module,
        inputs: Inputs,
        target: Any = None,
        *,
        additional_forward_args: Any = None,
        position: Position | None = None,
    ) -> Tensor:
        """Return the attribution of the target to what a layer within the model returns, in the shape of that.

        What a method puts on the input passes every layer on its way: this is what it puts on the layer's output, as
        captum's LayerLRP. Of a layer that returns several tensors it is the first on the path.

        Args:
            layer: path of a module that is called once in a forward pass, or the module.
            inputs, target, additional_forward_args, position: as for `attribute`.

        Raises:
            InputError: there is no such layer, it is not called once, or its output does not depend on the input.
        """
        path = _path_of(layer, self.module)
        if not path:
            raise InputError("the attribution at a layer needs the layer; name one, or call attribute for the input")
        with self.opened(self.checked(inputs), additional_forward_args, watched=(path,)) as run:
            seed = self.seed_of(run.output, self.target_of(target), position)
            with run.ending_at(path):
                moved = self.map_of(run, seed)
        assert isinstance(moved, Tensor)
        return moved

    def seed_of(self, outputs: Tensor, target: Target, position: Position | None = None) -> Tensor:
        """Return the seed of a target, labels already replaced, on the outputs (B, N, ...) of a run."""
        what = "target" if self.layer is None else "unit"
        return target_seed(outputs, target, seed=self.seed, position=position, what=what)

    def indices_of(self, outputs: Tensor, target: Target) -> Tensor:
        """Return each item's target by index, (B,), or refuse it; of the outputs the shape alone counts."""
        return target_indices(outputs, self.target_of(target), "target" if self.layer is None else "unit")

    def has_items(self, count: int) -> bool:
        """Whether the method can explain part of a batch of so many: nothing that it was given is for all at once."""
        return True

    def for_items(self, items: slice) -> PropagationMethod:
        """Return the method for some of the images, where what it was given has an entry for each."""
        return self

    @property
    def asks_no_foil(self) -> bool:
        """Whether any target can be explained, whatever it is contrasted with."""
        return True

    def seed_at(self, outputs: Tensor, indices: Tensor | None) -> Tensor:
        """Return the seed of targets by index, (B,) on the outputs' device (None: each item's strongest), unchecked."""
        return seed_at(outputs, target_indices(outputs, None) if indices is None else indices, self.seed)

    def made_ready(self, outputs: Tensor) -> PropagationMethod:
        """Return a method of the same maps for outputs of this shape, that looks at no values beside the model's."""
        return self

    def map_of(self, run: Run, seed: Tensor, *, more: int = 0) -> Inputs:
        """Return the map, in the shape of the input (a tuple for several inputs), of a seed on a run's output.

        Args:
            run: the forward pass, within the context that `forward` gave.
            seed: as `seed_of` makes it.
            more: how many maps of this run will follow, for which what they share is kept; True: some.
        """
        return run.relevance(seed, more=more)


MethodClass = TypeVar("MethodClass", bound=type[Method])
_METHODS: dict[str, type[Method]] = {}


def register_method(cls: MethodClass) -> MethodClass:
    """Enter a method class in the registry under its `name`; a second one of that name is refused."""
    if cls.name in _METHODS:
        raise InputError(f"a method named {cls.name!r} is registered already; choose another name")
    _METHODS[cls.name] = cls
    return cls


def methods() -> dict[str, str]:
    """Return the names of all methods, each with a line that describes it."""
    return {name: f"{cls.title}: {_first_sentence(cls)}" for name, cls in _METHODS.items()}


def _first_sentence(cls: type[Method]) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def method(name: str) -> type[Method]:
    """Return the method class of that name."""
    if name not in _METHODS:
        near = get_close_matches(str(name), _METHODS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"no method is called {name!r}; {hint}there are {', '.join(_METHODS)}")
    return _METHODS[name]


__all__ = ["Method", "PropagationMethod", "arguments_of", "label_indices", "method", "methods", "register_method"]
