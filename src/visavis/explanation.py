"""`Explanation`: what comes out when a decision is explained; read, kept and shown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visavis.contrast import total_of
from visavis.errors import InputError
from visavis.files import FIGURES, WHOLE, check_suffix, write_bytes
from visavis.propagation import Ledger
from visavis.propagation.mode import Inputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT = "visavis-explanation-1"


@dataclass(frozen=True)
class Answer:
    """One class (or unit) and what the model says of it.

    Attributes:
        index: of the class.
        name: its label.
        probability: softmax over the logits, in [0, 1]; of a model with a single logit its sigmoid. Logits with
            positions are averaged over those that are explained first. Of a unit its activation, and of an output that
            is no class its score, summed over the positions that are explained.
    """

    index: int
    name: str
    probability: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model said what it said of B pictures.

    Attributes:
        relevance: (B, C, H, W), on the model's device: what the method puts on each value of the input. Of "clrp",
            ≥ 0 unless signed. Of signals (B, C, L), vectors (B, L) and video (B, C, T, H, W), their shape.
        picture: (B, 3, H, W) in [0, 1], on the CPU: what the network saw; of what is no picture, the input itself.
        targets: each picture's target.
        foils: what each is contrasted with, in words.
        counterparts: the class that the panel shows beside the target: the foil where it is one, else the strongest
            other class; None where there is none.
        top: each picture's strongest classes.
        conserved: (B,) share of the seed that the plain map of the target brought to the input; what is missing was
            absorbed on the way (see `ledger`). None for methods that conserve nothing.
        ledger: where the relevance of the plain map went, call by call, over all pictures together: print it. None for
            methods that conserve nothing, and of one picture taken out of several.
        maps: further maps, shaped as `heatmap()`, on the CPU, by what they are: "plain target", "plain counterpart",
            "contrast counterpart".
        settings: how it was made: model, method, rules, foil, versions.
    """

    relevance: Tensor
    picture: Tensor
    targets: tuple[Answer, ...]
    foils: tuple[str, ...]
    counterparts: tuple[Answer | None, ...]
    top: tuple[tuple[Answer, ...], ...]
    conserved: Tensor | None
    ledger: Ledger | None = None
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    # -- reading -----------------------------------------------------------------------------------------------------

    def heatmap(self) -> Tensor:
        """Return (B, H, W): the relevance of each pixel, summed over its channels.

        Of signals and vectors (B, L), of video (B, T, H, W).
        """
        return over_channels(self.relevance)

    def __len__(self) -> int:
        return self.relevance.shape[0]

    def __getitem__(self, index: int) -> Explanation:
        """Return the explanation of one picture, as a batch of one."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        one = slice(index % len(self), index % len(self) + 1)
        return replace(
            self,
            relevance=self.relevance[one],
            picture=self.picture[one],
            targets=self.targets[one],
            foils=self.foils[one],
            counterparts=self.counterparts[one],
            top=self.top[one],
            conserved=None if self.conserved is None else self.conserved[one],
            ledger=self.ledger if len(self) == 1 else None,
            maps={name: tensor[one] for name, tensor in self.maps.items()},
        )

    def __iter__(self) -> Iterator[Explanation]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        said = "; ".join(self.question(index) for index in range(min(len(self), 3)))
        more = f"; and {len(self) - 3} more" if len(self) > 3 else ""
        return f"Explanation({said}{more} {self.settings.get('method', '')}, relevance {tuple(self.relevance.shape)})"

    def as_dict(self) -> dict[str, Any]:
        """Return all but the maps, as JSON takes it: one entry a picture, and the settings."""
        return {
            "settings": dict(self.settings),
            "pictures": [
                {
                    "target": self._described(self.targets[i]),
                    "foil": self.foils[i],
                    "counterpart": None if (other := self.counterparts[i]) is None else self._described(other),
                    "top": [answer.as_dict() for answer in self.top[i]],
                    "conserved": None if self.conserved is None else float(self.conserved[i]),
                    "relevance_sum": float(self.relevance[i].sum()),
                }
                for i in range(len(self))
            ],
        }

    def _described(self, answer: Answer) -> dict[str, Any]:
        described = answer.as_dict()
        named = {"unit": "activation", "output": "score"}.get(self.settings.get("explains", "class"))
        if named is not None:
            described[named] = described.pop("probability")
        return described

    # -- keeping -----------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the panel (.png, .pdf, .svg, .jpg) or, losslessly, everything (.safetensors); return the path.

        Files are written beside and renamed into place.

        Raises:
            OutputError: another suffix, or the file cannot be written there.
            InputError: a panel was asked for of several pictures; save `why[0]`, `why[1]`, ... instead. Or of what is
                no picture; save that as .safetensors.
        """
        target = Path(path)
        check_suffix(target, (*FIGURES, WHOLE), "an explanation")
        if target.suffix.lower() == WHOLE:
            write_bytes(target, self._serialized())
        else:
            from visavis.plotting import save_figure

            save_figure(self.plot(), target)
        return target

    def _serialized(self) -> bytes:
        from safetensors.torch import save

        tensors = {"relevance": self.relevance, "picture": self.picture}
        if self.conserved is not None:
            tensors["conserved"] = self.conserved
        tensors |= {f"map {name}": tensor for name, tensor in self.maps.items()}
        words = {
            "format": _FORMAT,
            "targets": [answer.as_dict() for answer in self.targets],
            "foils": list(self.foils),
            "counterparts": [None if answer is None else answer.as_dict() for answer in self.counterparts],
            "top": [[answer.as_dict() for answer in answers] for answers in self.top],
            "ledger": None if self.ledger is None else self.ledger.as_dict(),
            "settings": dict(self.settings),
        }
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        return save(contiguous, {"visavis": json.dumps(words, ensure_ascii=False)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Explanation:
        """Read back what `save` wrote to a .safetensors file; tensors come to the CPU.

        Raises:
            InputError: the file is missing, or holds something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(Path(path), framework="pt") as file:
                words = json.loads((file.metadata() or {}).get("visavis", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if words is None or words.get("format") != _FORMAT:
                raise InputError(f"{path} holds no explanation of Visavis in a form that this version reads")
            explanation = cls(
                relevance=tensors["relevance"],
                picture=tensors["picture"],
                targets=tuple(Answer(**answer) for answer in words["targets"]),
                foils=tuple(words["foils"]),
                counterparts=tuple(None if a is None else Answer(**a) for a in words["counterparts"]),
                top=tuple(tuple(Answer(**answer) for answer in answers) for answers in words["top"]),
                conserved=tensors.get("conserved"),
                ledger=None if words.get("ledger") is None else Ledger.from_dict(words["ledger"]),
                maps={name.removeprefix("map "): t for name, t in tensors.items() if name.startswith("map ")},
                settings=words["settings"],
            )
            if not explanation._fits_together():
                raise InputError(f"{path} holds parts that do not fit together; it was not written by Visavis")
            return explanation
        except FileNotFoundError:
            raise InputError(f"there is no file {path}") from None
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} cannot be read as an explanation ({error})") from error

    def _fits_together(self) -> bool:
        answers = [
            a for a in (*self.targets, *self.counterparts, *(a for row in self.top for a in row)) if a is not None
        ]
        sound = (
            isinstance(self.settings, dict)
            and (self.settings.get("explains") != "unit" or isinstance(self.settings.get("layer"), str))
            and self.relevance.dim() == self.picture.dim() >= 2
            and self.relevance.is_floating_point()
            and all(isinstance(foil, str) for foil in self.foils)
            and all(
                isinstance(a.index, int) and isinstance(a.name, str) and isinstance(a.probability, int | float)
                for a in answers
            )
            and (self.conserved is None or self.conserved.dim() == 1)
            and all(tensor.dim() == max(2, self.relevance.dim() - 1) for tensor in self.maps.values())
        )
        if not sound:
            return False
        tensors = [self.picture, *self.maps.values(), *([] if self.conserved is None else [self.conserved])]
        lengths = {len(tensor) for tensor in tensors}
        lengths |= {len(self.targets), len(self.foils), len(self.counterparts), len(self.top)}
        return lengths == {len(self)}

    # -- showing -----------------------------------------------------------------------------------------------------

    def plot(self) -> Figure:
        """Return the panel of one picture as a matplotlib Figure.

        The picture with the strongest classes; the plain maps of target and counterpart; their contrasts.
        """
        from visavis.panel import panel_of

        return panel_of(self)

    def question(self, index: int = 0) -> str:
        """Return what the explanation of a picture answers, as a question."""
        target, other, foil = self.targets[index], self.counterparts[index], self.foils[index]
        where, rather = self._where(), f", and not {foil}" if self.settings.get("foil_is_class") else ""
        if self.settings.get("explains") == "unit":
            unit = f"{target.name} of {self.settings['layer']}"
            if target.probability > 0:
                return f"Why does {unit} fire{where}{rather}?"
            activation = f"{target.probability:.3g}".replace("-", "−")
            return f"Why is {unit} at {activation}{where}{rather}?"
        return f"Why {target.name}{where}{rather if other is not None else ''}?"

    def _where(self) -> str:
        """The position that is explained, to stand inside a sentence."""
        position = self.settings.get("position")
        if position is None:
            return ""
        if not isinstance(position, list):
            return " where the mask is true"
        told = ", ".join(map(str, position))
        return f" at position {told}" if len(position) == 1 else f" at position ({told})"

    def classes(self, index: int = 0) -> tuple[Answer, ...]:
        """Return the classes that speak of a picture: the strongest, then the target and counterpart if not among them.

        Where no class is explained, only the strongest.
        """
        asked = [self.targets[index], self.counterparts[index]]
        if self.settings.get("explains", "class") != "class":
            return self.top[index]
        shown = {answer.index for answer in self.top[index]}
        return (*self.top[index], *(answer for answer in asked if answer is not None and answer.index not in shown))


def percent_of(share: float) -> str:
    """Return a share in per cent; what is more than nothing does not become 0."""
    return "less than 1 %" if 0 < share < 0.005 else f"{round(100 * share)} %"


def said_of_the_rest(share: float) -> str:
    """Return what became of the relevance that did not reach the input, to end a sentence; "" where all did."""
    if abs(share - 1) < 0.005:
        return ""
    if share > 1:
        return "the rest was added on the way"
    return "the rest was absorbed on the way" if share >= 0 else "more than all of it was absorbed on the way"


def over_channels(relevance: Tensor) -> Tensor:
    """Return the sum over channels, dimension 1; vectors (B, L) have none and stay as they are."""
    return relevance.sum(1) if relevance.dim() > 2 else relevance


def conserved_share(relevance: Inputs, seed: Tensor) -> Tensor:
    """Return (B,), on the CPU: the share of the seed that a plain map (of all inputs) holds; 0 where there was none."""
    total = seed.flatten(1).sum(1)
    share = total_of(relevance) / torch.where(total == 0, torch.inf, total)
    return share.cpu()
