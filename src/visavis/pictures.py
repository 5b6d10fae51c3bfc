"""Pictures as a viewer would show them: any file, PIL image or array becomes an upright 8-bit RGB picture.

Embedded colour profiles are not applied: classifiers are trained on the stored values, so they are shown
    them.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from visavis.errors import PictureError

MAX_PIXELS = 100_000_000
"""Pictures with more pixels are refused before they are decoded (decompression bombs)."""

MIN_SIDE = 8
"""Pictures with a shorter side hold nothing to explain."""

# Only these decoders are let near a stranger's file: others start programs (EPS) or follow links (WMF, FITS).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000")

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k"),
)
"""Endings (in lower case) by which a folder's files are taken for pictures."""

_FILTERS = threading.Lock()
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}

PictureSource = str | os.PathLike[str] | PIL.Image.Image | NDArray[np.generic]


def load_picture(source: PictureSource) -> PIL.Image.Image:
    """Return a new, upright picture in mode RGB, as a viewer would show `source`.

    The EXIF orientation is applied; transparency is laid over white; 16-bit values are scaled, not clipped;
    of an animation the first frame is taken.

    Args:
        source: the path of a file; a PIL image, which stays as it is; or an array (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4), of type uint8, uint16, or float in [0, 1].

    Raises:
        PictureError: The file is missing, unreadable, damaged or no picture, or the picture has more than
            `MAX_PIXELS` pixels or a side under `MIN_SIDE` pixels.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, "the array")
    if isinstance(source, PIL.Image.Image):
        name = getattr(source, "filename", "")
        return _shown(source, f"'{os.fsdecode(name)}'" if name else "the picture")
    if isinstance(source, (str, os.PathLike)):
        return _from_file(os.fspath(source))
    raise PictureError(
        f"a picture is a path, a PIL image or a numpy array, but this is of type {type(source).__name__}; "
        "pass one of those."
    )


def find_pictures(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Lists the files that `paths` name, in order and without repetition.

    A folder stands for the files directly in it whose endings are in `SUFFIXES`, sorted by name, hidden ones
    left out; a file stands for itself, whatever its ending.

    Raises:
        PictureError: A path does not exist, or a folder cannot be read or has no pictures.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    found: list[Path] = []
    for path in map(Path, _named(paths)):
        found.extend(_pictures_in(path) if _file_kind(path) == stat.S_IFDIR else [path])
    return list(dict.fromkeys(found))


def _named(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str | os.PathLike[str]]:
    """The paths, none of them empty: an empty one would stand for the current folder."""
    for path in paths:
        if not os.fspath(path):
            raise PictureError("a photograph's name is empty; name a file or a folder.")
        yield path


def _pictures_in(folder: Path) -> list[Path]:
    try:
        files = sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        )
    except OSError as error:
        raise PictureError(f"the folder '{folder}' cannot be read: {_reason(error)}.") from error
    if not files:
        raise PictureError(f"the folder '{folder}' holds no pictures; pass one with files such as .jpg or .png.")
    return files


def _file_kind(path: Path) -> int:
    """The type bits of a path's mode, or one sentence on why there is nothing to open."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise PictureError(f"there is no file '{path}'; check the path.") from error
    except OSError as error:
        raise PictureError(f"'{path}' cannot be read: {_reason(error)}.") from error


def _from_file(path: str) -> PIL.Image.Image:
    kind = _file_kind(Path(path))
    if kind == stat.S_IFDIR:
        raise PictureError(f"'{path}' is a folder; pass a picture file.")
    if kind != stat.S_IFREG:
        # Opening a pipe would wait for ever.
        raise PictureError(f"'{path}' is not a regular file; pass a picture file.")
    try:
        with Path(path).open("rb") as file:
            if not file.read(1):
                raise PictureError(f"'{path}' is empty; pass a picture file.")
            file.seek(0)
            with _opened(file, f"'{path}'") as image:
                return _shown(image, f"'{path}'")
    except OSError as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"'{path}' cannot be read: {_reason(error)}.") from error


def _opened(file: IO[bytes], name: str) -> PIL.Image.Image:
    """Reads the header alone, so that the size can be judged before anything is decoded."""
    PIL.Image.init()
    formats = [known for known in FORMATS if known in PIL.Image.OPEN]
    try:
        # Filters are of the whole process: of two threads that change them, one would leave its own behind.
        with _FILTERS, warnings.catch_warnings():
            # Our own limit decides, and says so in our words.
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            return PIL.Image.open(file, formats=formats)
    except PIL.Image.DecompressionBombError as error:
        raise PictureError(_too_large(name)) from error
    except PIL.UnidentifiedImageError as error:
        raise PictureError(f"{name} is not a picture that can be read ({', '.join(formats)}).") from error
    except Exception as error:  # decoders fail on a stranger's bytes in every way there is
        raise PictureError(f"{name} is damaged and cannot be read as a picture: {_reason(error)}.") from error


def _shown(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    _check_size(image.width, image.height, name)
    try:
        image.load()
    except Exception as error:  # decoders fail on a stranger's bytes in every way there is
        raise PictureError(f"{name} is damaged or cut short: {_reason(error)}.") from error
    # Read after loading: the TIFF decoder turns the picture itself and then drops the tag.
    turn = _UPRIGHT.get(_orientation(image))
    shown = _as_rgb(image, name)
    return shown if turn is None else shown.transpose(turn)


def _orientation(image: PIL.Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - a viewer shows a picture with damaged EXIF as it is stored
        return 1


def _as_rgb(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    if image.mode.startswith("I;16"):
        return _from_array(np.asarray(image).astype(np.uint16), name)
    if image.mode == "I":
        return _from_array(_narrowed(np.asarray(image), image.format, name), name)
    if image.mode == "F":
        return _from_array(np.asarray(image), name)
    try:
        if image.has_transparency_data:
            return _over_white(image.convert("RGBA"))
        return _without_metadata(image.convert("RGB"))
    except ValueError as error:
        raise PictureError(
            f"{name} has the colour mode {image.mode}, which cannot be shown as RGB; convert it to RGB first."
        ) from error


def _over_white(image: PIL.Image.Image) -> PIL.Image.Image:
    white = PIL.Image.new("RGBA", image.size, "white")
    return _without_metadata(PIL.Image.alpha_composite(white, image).convert("RGB"))


def _without_metadata(image: PIL.Image.Image) -> PIL.Image.Image:
    """A copy of the pixels alone: an orientation left behind would turn the picture a second time."""
    bare = PIL.Image.new("RGB", image.size)
    bare.paste(image)
    return bare


def _narrowed(values: NDArray[np.generic], file_format: str | None, name: str) -> NDArray[np.generic]:
    """Whole numbers of 32 bits, in which PIL holds 16-bit files and users hold 8-bit values."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise PictureError(
            f"{name} has whole numbers from {low} to {high}, but 0 to 65535 was expected; scale them to 8 bits first."
        )
    sixteen_bits = high > 255 or file_format in ("PNG", "PPM")
    return values.astype(np.uint16 if sixteen_bits else np.uint8)


def _from_array(array: NDArray[np.generic], name: str) -> PIL.Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise PictureError(
            f"{name} has the shape {array.shape}, but a picture is (H, W), (H, W, 3) or (H, W, 4); "
            "put the channels last, or pass a list for several pictures."
        )
    _check_size(array.shape[1], array.shape[0], name)
    image = PIL.Image.fromarray(np.ascontiguousarray(_eight_bits(array, name)))
    return _over_white(image) if image.mode == "RGBA" else image.convert("RGB")


def _eight_bits(array: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array.astype(np.uint8)
    if array.dtype == np.uint16:
        return np.rint(array.astype(np.float64) / 257).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise PictureError(
            f"{name} has the type {array.dtype}, but uint8, uint16 or float in [0, 1] was expected; convert it first."
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise PictureError(f"{name} has {int((~np.isfinite(values)).sum())} values that are NaN or infinite.")
    if values.min() < 0 or values.max() > 1:
        raise PictureError(
            f"{name} has float values from {values.min():.4g} to {values.max():.4g}, but 0 to 1 was "
            "expected; scale them, or pass uint8."
        )
    return np.rint(values * 255).astype(np.uint8)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(_too_large(name, f"{width} x {height} = {width * height / 1e6:.0f} megapixels"))
    if min(width, height) < MIN_SIDE:
        raise PictureError(
            f"{name} has {width} x {height} pixels, so there is nothing to explain; "
            f"pass a picture of at least {MIN_SIDE} x {MIN_SIDE}."
        )


def _too_large(name: str, size: str = "too many pixels") -> str:
    return f"{name} has {size}, but at most {MAX_PIXELS // 1_000_000} megapixels are read; scale it down first."


def _reason(error: Exception) -> str:
    """What an error says, without its number and full stop, to stand inside our sentence."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (said.splitlines() or [""])[0].rstrip(". ") or type(error).__name__
