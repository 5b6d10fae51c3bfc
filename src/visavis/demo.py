"""The demo: a cat and a cup of espresso in one picture, and why the network says either."""

from __future__ import annotations

from pathlib import Path

import PIL.Image

from visavis.errors import InputError, ModelError
from visavis.explanation import Explanation
from visavis.files import make_folder
from visavis.models import load_model
from visavis.request import explain

# Each half is half as wide as high; the margin is what the network's central crop (7/8) cuts away.
_HALF = (256, 512)
_SIDE = 586
_CAT = (95, 0, 245, 300)
_CUP = (245, 0, 445, 400)


def demo_picture() -> PIL.Image.Image:
    """Return scikit-image's cat (`chelsea`) and espresso (`coffee`), both public domain, side by side."""
    try:
        import skimage.data
    except ImportError:
        raise ModelError("the demo pictures come from scikit-image: pip install 'visavis[demo]'") from None
    try:
        photographs = (skimage.data.chelsea(), skimage.data.coffee())
    except (OSError, ValueError) as error:
        raise InputError(f"scikit-image could not give its pictures chelsea and coffee ({error})") from error
    canvas = PIL.Image.new("RGB", (_SIDE, _SIDE), "white")
    left, above = (_SIDE - 2 * _HALF[0]) // 2, (_SIDE - _HALF[1]) // 2
    for place, (photograph, box) in enumerate(zip(photographs, (_CAT, _CUP), strict=True)):
        half = PIL.Image.fromarray(photograph).resize(_HALF, PIL.Image.Resampling.BICUBIC, box=box)
        canvas.paste(half, (left + place * _HALF[0], above))
    return canvas


def run_demo(folder: Path, device: str | None = None) -> tuple[Path, Explanation]:
    """Explain the demo picture, write the panel into `folder` (made if missing), and return its path and the result."""
    make_folder(folder)
    picture = demo_picture()
    model = load_model("efficientnet_lite0", device=device)
    why = explain(model, picture, target="tiger cat", foil="espresso")
    return why.save(folder / "tiger-cat-vis-a-vis-espresso.png"), why
