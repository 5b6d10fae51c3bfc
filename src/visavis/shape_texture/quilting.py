"""Texture transfer by quilting: an image laid out in patches of a texture, which keep its light and dark.

Efros & Freeman 2001 (Image Quilting for Texture Synthesis and Transfer), section 3: block by block, in reading order,
that patch of the texture is laid down whose error is least, α times that of the overlap with what lies there already
and 1 − α times that of its blurred luminance against the image's; the seams run where the two differ least (section
2.1). No network and no weights are needed, so pairs of images can be made anywhere.

It departs from the paper in four ways. One pass is made, not several with ever smaller blocks. The patch of the least
error is taken, not one by chance among those that are nearly as good. Luminance counts by its rank. And patches are
also tried in other light, darker and paler: a texture that is alike everywhere could not show the image otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from visavis.errors import InputError

Floats = NDArray[np.float32]
_LEAST_BLOCK, _MOST_BLOCK = 6, 128
# In how many lights a texture is tried, from the darkest to the palest; the middle one is its own.
_LIGHTS = 7
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


@dataclass(frozen=True)
class Quilting:
    """Lays images out in patches of a texture.

    Args:
        block: side of a patch in pixels, 6 to 128; a third of it overlaps. Smaller ones show the image better, and
            less of the texture.
        alpha: from 0, luminance alone, to 1, the overlap alone: plain texture without the image.
        shading: from 0 on, below 1: how much darker, and paler, patches are tried too, as a share of the way to black
            and white; 0: in their own light alone, as in the paper.
        candidates: how many patches of the texture are tried for a block, drawn by chance; all where it has no more.
        seed: of the patches that are tried.

    Raises:
        InputError: a number is not such.
    """

    block: int = 16
    alpha: float = 0.2
    shading: float = 0.6
    candidates: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not _LEAST_BLOCK <= self.block <= _MOST_BLOCK:
            raise InputError(f"a block is {_LEAST_BLOCK} to {_MOST_BLOCK} px wide, not {self.block}")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha is {self.alpha}, but a share in [0, 1] was expected")
        if not 0 <= self.shading < 1:
            raise InputError(f"shading is {self.shading}, but a share from 0 on and below 1 was expected")
        if self.candidates < 1 or self.seed < 0:
            raise InputError(
                f"candidates are at least 1 and a seed is from 0 on, not {self.candidates} and {self.seed}"
            )

    def __call__(self, content: Tensor, texture: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return an image in the patches of a texture, as `texture_transfer` does.

        Args:
            content: (3, H, W) in [0, 1].
            texture: (3, h, w) in [0, 1].
            mask: (H, W), bool; None: everywhere.

        Returns:
            (3, H, W) in [0, 1], float32, on the CPU.

        Raises:
            InputError: shapes or values are not such.
        """
        laid = texture_transfer(
            _last(content, "content"),
            _last(texture, "texture"),
            mask=None if mask is None else mask.detach().cpu().numpy(),
            block=self.block,
            alpha=self.alpha,
            shading=self.shading,
            candidates=self.candidates,
            seed=self.seed,
        )
        return torch.from_numpy(np.ascontiguousarray(laid.transpose(2, 0, 1)))


def texture_transfer(
    content: NDArray[np.floating],
    texture: NDArray[np.floating],
    *,
    mask: NDArray[np.bool_] | None = None,
    block: int = Quilting.block,
    alpha: float = Quilting.alpha,
    shading: float = Quilting.shading,
    candidates: int = Quilting.candidates,
    seed: int = Quilting.seed,
) -> Floats:
    """Return an image in the patches of a texture.

    Luminance counts by its rank: the darkest of the image becomes the darkest of the texture, whatever both are. With a
    mask, it is the rank within the mask, and a patch at its border is chosen by what is in it: luminance is blurred
    within the mask too, and what is outside changes nothing in it.

    Args:
        content: (H, W, 3) in [0, 1].
        texture: (h, w, 3) in [0, 1], at least two blocks wide and high.
        mask: (H, W), where the texture is laid; None: everywhere. The rest stays as it is.
        block, alpha, shading, candidates, seed: as for `Quilting`.

    Returns:
        (H, W, 3) in [0, 1].

    Raises:
        InputError: shapes or numbers are not such, or the mask is empty.
    """
    Quilting(block, alpha, shading, candidates, seed)
    _check(content, texture, mask, block)
    shown, cloth = content.astype(np.float32), texture.astype(np.float32)
    where = np.ones(shown.shape[:2], dtype=np.bool_) if mask is None else mask
    wanted = np.zeros(where.shape, dtype=np.float32)
    wanted[where] = _ranked((_blurred(shown, block) if mask is None else _blurred_within(shown, mask, block))[where])
    patches, light = _patches(_shaded(cloth, shading), block, candidates, np.random.default_rng(seed))
    laid = _laid(wanted, where, patches, light, alpha)
    return laid if mask is None else np.where(mask[..., None], laid, shown)


def _last(image: Tensor, what: str) -> NDArray[np.float32]:
    if image.dim() != 3 or image.shape[0] != 3:
        raise InputError(f"the {what} is {tuple(image.shape)}, but (3, H, W) was expected")
    return np.asarray(image.detach().cpu().float().permute(1, 2, 0).numpy())


def _check(
    content: NDArray[np.floating], texture: NDArray[np.floating], mask: NDArray[np.bool_] | None, block: int
) -> None:
    for name, image in (("content", content), ("texture", texture)):
        if image.ndim != 3 or image.shape[2] != 3 or not image.size or not np.isfinite(image).all():
            raise InputError(f"the {name} is {image.shape}, but finite (H, W, 3) in [0, 1] was expected")
        if image.min() < 0 or image.max() > 1:
            raise InputError(f"the {name} has values from {image.min():.3g} to {image.max():.3g}, outside [0, 1]")
    if min(texture.shape[:2]) < 2 * block or min(content.shape[:2]) < block:
        raise InputError(
            f"a block of {block} px does not fit: it is at most half the texture's {min(texture.shape[:2])} px and the "
            f"content's {min(content.shape[:2])} px; take smaller blocks or larger pictures"
        )
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != content.shape[:2] or not mask.any()):
        raise InputError(
            f"the mask is {mask.dtype} {mask.shape} with {np.count_nonzero(mask)} pixels, but bool {content.shape[:2]} "
            "with one at least was expected"
        )


def _blurred(image: Floats, block: int) -> Floats:
    return np.asarray(gaussian_filter(image @ _LUMA, block / 8, mode="nearest"), dtype=np.float32)


def _blurred_within(image: Floats, mask: NDArray[np.bool_], block: int) -> Floats:
    """Return blurred luminance in a mask, (H, W), of what is in it alone: light × mask by mask, both blurred.

    It is worked out in float64, so that an object of one light stays of one light and its ranks are not of rounding.
    """
    light, weight = (
        gaussian_filter(one.astype(np.float64), block / 8, mode="nearest")
        for one in (np.where(mask, image @ _LUMA, 0), mask)
    )
    within = np.zeros(mask.shape, dtype=np.float32)
    within[mask] = light[mask] / weight[mask]
    return within


def _ranked(values: Floats) -> Floats:
    """Return the rank of each value as a share, 0 to 1; equal ones share theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / values.size
    return np.asarray(middle[inverse.reshape(values.shape)], dtype=np.float32)


def _shaded(texture: Floats, shading: float) -> Floats:
    """Return a texture in each light, (S, h, w, 3): towards black, as it is, towards white."""
    if not shading:
        return texture[None]
    shares = np.linspace(-shading, shading, _LIGHTS, dtype=np.float32)
    return np.stack([texture + share * ((1 - texture) if share > 0 else texture) for share in shares])


def _patches(textures: Floats, block: int, candidates: int, chance: np.random.Generator) -> tuple[Floats, Floats]:
    """Return patches of a texture in all lights, (C, block, block, 3), and the rank of their luminance."""
    light = _ranked(np.stack([_blurred(one, block) for one in textures]))
    free = (len(textures), textures.shape[1] - block + 1, textures.shape[2] - block + 1)
    drawn = chance.choice(np.prod(free), min(candidates, int(np.prod(free))), replace=False)
    chosen = np.unravel_index(drawn, free)
    patches, lights = (sliding_window_view(one, (block, block), axis=(1, 2))[chosen] for one in (textures, light))
    return np.ascontiguousarray(patches.transpose(0, 2, 3, 1)), lights


# -- laying ------------------------------------------------------------------------------------------------------------


class _Errors:
    """Squared errors of all patches, (C, block, block, K), against what is wanted, by products of matrices."""

    def __init__(self, patches: Floats) -> None:
        self._values = patches.reshape(len(patches), -1)
        self._squares = np.square(patches).sum(3).reshape(len(patches), -1)

    def __call__(self, wanted: Floats, counts: NDArray[np.bool_]) -> Floats:
        """Return Σ (patch − wanted)² over the pixels that count, (B, C).

        Args:
            wanted: (B, block, block, K).
            counts: (B, block, block).
        """
        there = np.where(counts[..., None], wanted, 0).reshape(len(wanted), -1)
        weights = counts.reshape(len(counts), -1).astype(np.float32)
        own = np.square(there).sum(1, keepdims=True)
        return np.asarray(weights @ self._squares.T - 2 * (there @ self._values.T) + own)


def _laid(wanted: Floats, where: NDArray[np.bool_], patches: Floats, light: Floats, alpha: float) -> Floats:
    """Return patches laid out so that their light is as wanted where it counts, (H, W, 3).

    The result is that of reading order, but blocks that do not wait for each other are laid at once: one overlaps
    those to its left, above it, and above to the right, so all of one 2 · row + column are ready together.
    """
    height, width = wanted.shape
    block = patches.shape[1]
    overlap = block // 3
    step = block - overlap
    rows, columns = (-(-(side - overlap) // step) for side in (height, width))
    beyond = ((0, rows * step + overlap - height), (0, columns * step + overlap - width))
    wanted, where = np.pad(wanted, beyond), np.pad(where, beyond)
    of_light, of_colour = _Errors(light[..., None]), _Errors(patches)
    laid, done = np.zeros((*wanted.shape, 3), dtype=np.float32), np.zeros(wanted.shape, dtype=np.bool_)
    for wave in range(2 * (rows - 1) + columns):
        places = [(row * step, (wave - 2 * row) * step) for row in range(rows) if 0 <= wave - 2 * row < columns]
        spots = [np.s_[y : y + block, x : x + block] for y, x in places if where[y : y + block, x : x + block].any()]
        if not spots:
            continue
        under, known = np.stack([laid[spot] for spot in spots]), np.stack([done[spot] for spot in spots])
        wants, counts = np.stack([wanted[spot] for spot in spots]), np.stack([where[spot] for spot in spots])
        errors = (1 - alpha) * of_light(wants[..., None], counts) + alpha / 3 * of_colour(under, known)
        chosen = patches[errors.argmin(1)]
        for spot, over, patch in zip(spots, _over(under, chosen, known, overlap), chosen, strict=True):
            laid[spot][over], done[spot] = patch[over], True
    return laid[:height, :width]


def _over(under: Floats, chosen: Floats, known: NDArray[np.bool_], overlap: int) -> NDArray[np.bool_]:
    """Return where patches are laid over what is there, (B, block, block): beyond the cheapest cuts."""
    over = np.ones(known.shape, dtype=np.bool_)
    apart = np.square(under - chosen).sum(3)
    # Only a neighbour to the left, or above, covers these places.
    left, above = known[:, overlap, 0], known[:, 0, overlap]
    across = np.arange(overlap)
    over[left, :, :overlap] &= across >= _cuts(apart[left, :, :overlap])[..., None]
    over[above, :overlap] &= (across >= _cuts(apart[above, :overlap].swapaxes(1, 2))[..., None]).swapaxes(1, 2)
    return over


def _cuts(apart: Floats) -> NDArray[np.int64]:
    """Return the place in each row of the path from top to bottom that costs least, moving by at most one.

    Args:
        apart: (B, rows, columns), what it costs to pass through a place.

    Returns:
        (B, rows).
    """
    count, rows, columns = apart.shape
    cost = apart.copy()
    for row in range(1, rows):
        before, least = cost[:, row - 1], cost[:, row - 1].copy()
        np.minimum(least[:, 1:], before[:, :-1], out=least[:, 1:])
        np.minimum(least[:, :-1], before[:, 1:], out=least[:, :-1])
        cost[:, row] += least
    path = np.empty((count, rows), dtype=np.int64)
    path[:, -1] = cost[:, -1].argmin(1)
    for row in range(rows - 2, -1, -1):
        near = abs(np.arange(columns) - path[:, row + 1, None]) <= 1
        path[:, row] = np.where(near, cost[:, row], np.inf).argmin(1)
    return path


__all__ = ["Quilting", "texture_transfer"]
