"""The panel: one explanation laid out for the eye, by `plotting`.

It reads an `Explanation` by its attributes; `Explanation.plot` calls it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from visavis import plotting
from visavis.errors import InputError
from visavis.explanation import percent_of, said_of_the_rest
from visavis.plotting.contents import Role

_RELEVANCE = "what {} rests on"


def panel_of(why: Any) -> Figure:
    """Return the panel of an explanation of one picture.

    The picture with the strongest classes; the plain maps of target and counterpart; their contrasts.

    Raises:
        InputError: the explanation is of several pictures, or of what is no picture.
    """
    if why.relevance.dim() != 4:
        raise InputError(
            f"a panel draws pictures, and what is explained here has shape {tuple(why.relevance.shape)}; draw "
            f"why.heatmap() yourself, or save everything as .safetensors"
        )
    if len(why) != 1:
        raise InputError(f"a panel shows one picture, and these are {len(why)}; plot why[0], why[1], ... instead")
    target, other = why.targets[0], why.counterparts[0]
    contrastive = "plain target" in why.maps
    title = why.settings.get("method_title", "")
    plain_title = why.settings.get("plain_title", title)
    plain = why.maps["plain target"] if contrastive else why.heatmap().cpu()
    # The plain map beside a contrast is relevance; on its own it is whatever the method makes.
    reading = _RELEVANCE if contrastive else str(why.settings.get("reading", _RELEVANCE))
    tiles = [_tile(plain_title, reading, target, "target", plain)]
    if other is not None and "plain counterpart" in why.maps:
        unasked = "" if contrastive else " (the strongest other class, or the one asked for)"
        tiles.append(_tile(plain_title, reading + unasked, other, "foil", why.maps["plain counterpart"]))
    if contrastive:
        tiles.append(_contrast_tile(title, target, why.foils[0], "target", why.heatmap().cpu()))
    mirrored = why.settings.get("signed") and why.settings.get("counterpart_foil") == "the target"
    # Signed, the contrast of the foil with the target is the same picture once more, colours exchanged.
    if other is not None and "contrast counterpart" in why.maps and not mirrored:
        against = str(why.settings.get("counterpart_foil", why.foils[0]))
        against = target.name if against == "the target" else against
        tiles.append(_contrast_tile(title, other, against, "foil", why.maps["contrast counterpart"]))
    shown = why.picture[0].permute(1, 2, 0).numpy()
    return plotting.panel(
        shown,
        tiles,
        title=why.question(),
        subtitle=_subtitle(why),
        footer=" ".join(filter(None, (_footer(why), _strength(why, plain)))),
        classes=_classes(why),
        names={"target": target.name} | ({} if other is None else {"foil": other.name}),
        quantity=str(why.settings.get("quantity", "evidence for {}")),
    )


def _strength(why: Any, plain: Tensor) -> str:
    """Say how strong the contrast is beside the plain map: each is drawn on a scale of its own."""
    strongest = float(plain.abs().max())
    shares = why.settings.get("normalize", "none") != "none"  # no relevance any more, so not to be compared with it
    if "plain target" not in why.maps or strongest == 0 or shares:
        return ""
    ratio = float(why.heatmap().abs().max()) / strongest
    if ratio == 0:
        return "Nothing is left of the plain map in the contrast."
    said = f"At its strongest the contrast is {_share(ratio)} the plain map."
    return f"{said} The classes hardly differ here: read it with care." if ratio < 1e-3 else said


def _share(ratio: float) -> str:
    return f"1/{1 / ratio:,.0f} of" if ratio < 0.5 else f"{ratio:.1f} times"


def drawable(values: Tensor) -> NDArray[np.floating[Any]]:
    """Return a tensor as an array; NumPy has no bfloat16, and float16 is too coarse to sum in."""
    values = values.detach().cpu()
    array: NDArray[np.floating[Any]] = (values if values.dtype.itemsize >= 4 else values.float()).numpy()
    return array


def _classes(why: Any) -> list[plotting.Class]:
    if why.settings.get("explains", "class") != "class":
        return []  # what classes the model sees says nothing of one unit
    roles: dict[int, Role] = {}
    if why.counterparts[0] is not None:
        roles[why.counterparts[0].index] = "foil"
    roles[why.targets[0].index] = "target"
    return [plotting.Class(answer.name, answer.probability, roles.get(answer.index)) for answer in why.classes()]


def _subtitle(why: Any) -> str:
    said = [str(why.settings.get("model", "")), str(why.settings.get("method_title", ""))]
    if why.settings.get("rules"):
        said.append(f"rules {why.settings['rules']}")
    if why.settings.get("layer"):
        said.append(f"layer {why.settings['layer']}")
    if why.settings.get("explains") == "unit":
        said.append(f"activation {why.targets[0].probability:.3g}")
    if why.settings.get("explains") == "output":
        said.append(f"score {why.targets[0].probability:.3g}")
    return ", ".join(filter(None, said))


def _footer(why: Any) -> str:
    if why.conserved is None:
        return ""
    share, name = float(why.conserved[0]), why.targets[0].name
    rest = said_of_the_rest(share)
    if not rest:
        return f"Of the relevance put on {name}, all reached the pixels."
    rest += "" if why.ledger is None else " (the ledger says where)"
    if 0 <= share < 1:
        return f"Of the relevance put on {name}, {percent_of(share)} reached the pixels; {rest}."
    return f"The plain map of {name} sums to {round(100 * share)} % of the relevance put on it; {rest}."


def _tile(method_title: str, reading: str, answer: Any, role: Role, heat: Tensor) -> plotting.Map:
    return plotting.Map(
        f"{method_title}: {answer.name}", reading.format(answer.name), drawable(heat[0]), role, method_title
    )


def _contrast_tile(method_title: str, answer: Any, against: str, role: Role, heat: Tensor) -> plotting.Map:
    return plotting.Map(
        f"{method_title}: {answer.name}",
        f"what speaks for {answer.name} rather than for {against}",
        drawable(heat[0]),
        role,
        method_title,
    )
