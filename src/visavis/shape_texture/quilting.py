"""Texture transfer by quilting: an image laid out in patches of a texture, which keep its light and dark.

Efros & Freeman 2001 (Image Quilting for Texture Synthesis and Transfer), section 3: block by block, in reading order,
that patch of the texture is laid down whose error is least, α times that of the overlap with what lies there already
and 1 − α times that of its blurred luminance against the image's; the seams run where the two differ least. No network
and no weights are needed, so pairs of images can be made anywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from visavis.errors import InputError

Floats = NDArray[np.float64]
# Patches of the texture that are tried for a block; more of them look for longer what they hardly find better.
_CANDIDATES = 1500
_LUMA = np.array([0.2126, 0.7152, 0.0722])


def texture_transfer(
    content: Floats,
    texture: Floats,
    *,
    mask: NDArray[np.bool_] | None = None,
    block: int = 24,
    alpha: float = 0.5,
    seed: int = 0,
) -> Floats:
    """Return an image in the patches of a texture.

    Luminance counts by its rank: the darkest of the image becomes the darkest of the texture, whatever both are.

    Args:
        content: (H, W, 3) in [0, 1].
        texture: (h, w, 3) in [0, 1], at least two blocks wide and high.
        mask: (H, W), where the texture is laid; None: everywhere. The rest stays.
        block: side of a patch in pixels, at least 6; a third of it overlaps.
        alpha: from 0, luminance alone, to 1, the overlap alone: plain texture without the image.
        seed: of the patches that are tried.

    Returns:
        (H, W, 3) in [0, 1].

    Raises:
        InputError: shapes or numbers are not such.
    """
    _check(content, texture, mask, block, alpha)
    overlap = block // 3
    step = block - overlap
    height, width = content.shape[:2]
    rows, columns = (-(-(side - overlap) // step) for side in (height, width))
    wanted = _ranked(_blurred(content, block))
    wanted = np.pad(wanted, ((0, rows * step + overlap - height), (0, columns * step + overlap - width)), mode="edge")
    patches, light = _patches(texture, block, np.random.default_rng(seed))
    laid = np.zeros((*wanted.shape, 3))
    for row in range(rows):
        for column in range(columns):
            here = np.s_[row * step : row * step + block, column * step : column * step + block]
            under = laid[here]
            errors = (1 - alpha) * np.square(light - wanted[here]).sum((1, 2))
            if row:
                errors += alpha * np.square(patches[:, :overlap] - under[:overlap]).sum((1, 2, 3)) / 3
            if column:
                errors += alpha * np.square(patches[:, :, :overlap] - under[:, :overlap]).sum((1, 2, 3)) / 3
            patch = patches[errors.argmin()]
            laid[here] = np.where(_seam(under, patch, overlap, row > 0, column > 0)[..., None], patch, under)
    found = laid[:height, :width]
    return found if mask is None else np.where(mask[..., None], found, content)


def _check(content: Floats, texture: Floats, mask: NDArray[np.bool_] | None, block: int, alpha: float) -> None:
    for name, image in (("content", content), ("texture", texture)):
        if image.ndim != 3 or image.shape[2] != 3 or not np.isfinite(image).all():
            raise InputError(f"the {name} is {image.shape}, but finite (H, W, 3) in [0, 1] was expected")
        if image.min() < 0 or image.max() > 1:
            raise InputError(f"the {name} has values from {image.min():.3g} to {image.max():.3g}, outside [0, 1]")
    if block < 6 or min(texture.shape[:2]) < 2 * block or min(content.shape[:2]) < block:
        raise InputError(
            f"a block of {block} px does not fit: at least 6, at most half the texture's {min(texture.shape[:2])} px "
            f"and the content's {min(content.shape[:2])} px"
        )
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}, but a share in [0, 1] was expected")
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != content.shape[:2]):
        raise InputError(f"the mask is {mask.dtype} {mask.shape}, but bool {content.shape[:2]} was expected")


def _blurred(image: Floats, block: int) -> Floats:
    return np.asarray(gaussian_filter(image @ _LUMA, block / 8, mode="nearest"))


def _ranked(values: Floats) -> Floats:
    """Return the rank of each value as a share, 0 to 1; equal ones share theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / values.size
    return np.asarray(middle[inverse.reshape(values.shape)])


def _patches(texture: Floats, block: int, chance: np.random.Generator) -> tuple[Floats, Floats]:
    """Return patches of a texture, (C, block, block, 3), and their ranked luminance."""
    light = _ranked(_blurred(texture, block))
    down, right = (side - block + 1 for side in texture.shape[:2])
    chosen = chance.choice(down * right, min(_CANDIDATES, down * right), replace=False)
    corners = np.stack(np.divmod(chosen, right), 1)
    patches = np.stack([texture[y : y + block, x : x + block] for y, x in corners])
    return patches, np.stack([light[y : y + block, x : x + block] for y, x in corners])


def _seam(under: Floats, patch: Floats, overlap: int, above: bool, left: bool) -> NDArray[np.bool_]:
    """Return where the patch is laid over what is there: beyond the cheapest cuts through the overlaps."""
    over = np.ones(patch.shape[:2], dtype=np.bool_)
    apart = np.square(under - patch).sum(2)
    if left:
        over[:, :overlap] &= np.arange(overlap) >= _cut(apart[:, :overlap])[:, None]
    if above:
        over[:overlap] &= np.arange(overlap)[:, None] >= _cut(apart[:overlap].T)
    return over


def _cut(apart: Floats) -> NDArray[np.int64]:
    """Return the place in each row of the path from top to bottom that costs least, moving by at most one: (rows,)."""
    cost = apart.copy()
    for row in range(1, len(cost)):
        before = np.pad(cost[row - 1], 1, constant_values=np.inf)
        cost[row] += np.minimum(np.minimum(before[:-2], before[1:-1]), before[2:])
    path = np.empty(len(cost), dtype=np.int64)
    path[-1] = cost[-1].argmin()
    for row in range(len(cost) - 2, -1, -1):
        low = max(0, path[row + 1] - 1)
        path[row] = low + cost[row, low : path[row + 1] + 2].argmin()
    return path


__all__ = ["texture_transfer"]
