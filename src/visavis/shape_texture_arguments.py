"""What the commands of `visavis shape-texture` share: their options, what a model is asked on, where results go."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis.datasets.registry import folder_and_options
from visavis.errors import InputError, OutputError
from visavis.files import check_place, identities, make_folder, write_all
from visavis.terminal import note, out, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from visavis.classifier import Classifier
    from visavis.shape_texture import Pairs

MODEL = "efficientnet_lite0"
FOLDER = "shape-texture"
PAIRS = "scenes"
#: So many pairs of each factor where no number is given.
COUNT = 200
# More draws say no more.
_MOST_DRAWS = 100_000
# Of each factor, in the picture of pairs.
_PAIRS_SHOWN = 3

Model = Annotated[str, typer.Option("--model", "-m", help="As `visavis models` lists them, or MODULE:FUNCTION.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; by itself the best there is.")]
Output = Annotated[str, typer.Option("--output", "-o", help="Folder for pictures and numbers.")]
PAIRS_OPTION = typer.Option(
    "--pairs",
    help="Images that share shape or texture: scenes, stylized:FOLDER, or pictures:KIND:FOLDER?laid=masked, which lays "
    "a data set's pictures out in textures.",
)
PairSource = Annotated[str, PAIRS_OPTION]
Count = Annotated[int, typer.Option("--count", min=2, max=1_000_000, help="So many pairs of each factor.")]
Draws = Annotated[int, typer.Option(min=2, max=_MOST_DRAWS, help="Of the bootstrap that gives the intervals.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of all that is drawn at random.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images gone through at a time.")]
EstimatorName = Annotated[
    str, typer.Option("--estimator", help="sum_cov, as behind the paper's tables; mean_rho; or share, without softmax.")
]


def one_of(option: str, given: str, known: Iterable[str]) -> str:
    """Return a word that an option takes.

    Raises:
        InputError: it is another.
    """
    words = list(known)
    if given not in words:
        raise InputError(f"{option} is {', '.join(words[:-1])} or {words[-1]}, not {given!r}")
    return given


def checked_estimator(name: str) -> str:
    """Return the name of an estimator; it is needed late, and refused early.

    Raises:
        InputError: there is none of that name.
    """
    from visavis.shape_texture import estimators

    return one_of("--estimator", name, estimators())


def grey(classifier: Classifier) -> Tensor:
    """Return a grey picture as the model takes it, (1, C, H, W)."""
    import PIL.Image

    return classifier.prepare(PIL.Image.new("RGB", (256, 256), "grey"))


def side_of(classifier: Classifier) -> int:
    """Return the side in pixels of the images that the model's own preprocessing makes."""
    return int(min(grey(classifier).shape[-2:]))


def distinct(pairs: Pairs, why: str = "") -> dict[str, int | None]:
    """Return how many pairs of each factor differ, where that is known; note if some come again, and what of it."""
    from visavis.shape_texture.pairs import FACTORS

    found: dict[str, int | None] = {factor: pairs.distinct(factor) for factor in FACTORS}
    for factor in FACTORS:
        differing, count = found[factor], pairs.count(factor)
        if differing is not None and differing < count:
            note(f"only {differing} of {count} pairs of one {factor} differ{why}")
    return found


def sheet_of(pairs: Pairs) -> Figure:
    """Return a picture of the first pairs of each factor."""
    from visavis.reports.shape_texture import pair_sheet
    from visavis.shape_texture.pairs import FACTORS

    return pair_sheet(
        {
            factor: [
                (first.permute(1, 2, 0).numpy(), second.permute(1, 2, 0).numpy())
                for first, second in (
                    pairs.pair(factor, index) for index in range(min(_PAIRS_SHOWN, pairs.count(factor)))
                )
            ]
            for factor in FACTORS
        }
    )


def checked_folder(
    output: str, names: Sequence[str], *, files: Iterable[str | None] = (), folders: Iterable[str] = ()
) -> Path:
    """Return the folder that results go to, once it is known that they can; it is not made yet.

    Args:
        output: as it is given.
        names: of the files that are written into it.
        files: that are read, and none of which may be written; None: not given.
        folders: of pictures that are read, and into which nothing goes: it would be taken for one of them.

    Raises:
        OutputError: it is no folder and cannot be made one, or a name in it is a folder's.
        InputError: results would go where something is read.
    """
    folder = Path(output)
    _check_above(folder, output)
    for read in folders:
        if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(Path(read).expanduser())):
            raise InputError(f"{output!r} is in {read!r}, whose pictures are read; name another folder with -o")
    known = identities(Path(file) for file in files if file is not None)
    for place in (folder / name for name in names):
        if not place.exists():
            continue
        check_place(place)
        if identities([place]) & known:
            raise InputError(f"the output {str(place)!r} is a file that is read; name another folder with -o")
    return folder


def folders_of(spelling: str) -> list[str]:
    """Return the folders that a data set, or pairs, are read from.

    Raises:
        InputError: an option is malformed.
    """
    if spelling.startswith("stylized:"):  # which takes no options
        return [spelling.removeprefix("stylized:")]
    where, mark, query = spelling.removeprefix("pictures:").partition("?")
    folder, options = folder_and_options(where.partition(":")[2] + mark + query)
    return [one for one in (folder, options.get("textures", "")) if one]


def write_results(folder: Path, figures: Mapping[str, Figure], name: str, document: Mapping[str, Any]) -> None:
    """Write figures and one JSON document into a folder, and say where: all are made before the first is written.

    Raises:
        OutputError: the folder cannot be made, or a file not be written.
    """
    from visavis.plotting.saving import figure_bytes

    contents = {file: figure_bytes(figure, Path(file).suffix) for file, figure in figures.items()}
    contents[name] = (json.dumps(_known(document), indent=2, allow_nan=False) + "\n").encode()
    make_folder(folder)
    write_all({folder / file: content for file, content in contents.items()})
    for file in contents:
        say(f"written: {folder / file}")


def _known(value: Any) -> Any:
    """Return what JSON can hold: NaN, which stands for what is not defined, is null."""
    if isinstance(value, Mapping):
        return {key: _known(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_known(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def say(line: str) -> None:
    """Print a line of the results."""
    out.print(plain(line), soft_wrap=True, highlight=False)


def _check_above(folder: Path, output: str) -> None:
    """Refuse a folder that is none, or that cannot be made where it is to be."""
    if not output:
        raise OutputError("the name of the folder of results is empty; name one with -o")
    for place in (folder, *folder.parents):
        try:
            found = place.stat()
        except FileNotFoundError:
            if place.is_symlink():
                raise OutputError(f"{str(place)!r} is a link that leads nowhere; name another folder with -o") from None
            continue
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            raise OutputError(f"{output!r} cannot be a folder of results ({said}); name another with -o") from error
        if not stat.S_ISDIR(found.st_mode):
            raise OutputError(f"{str(place)!r} is no folder; name one with -o, which is made where it is missing")
        if not os.access(place, os.W_OK | os.X_OK):
            raise OutputError(f"nothing can be written into {str(place)!r}; name another folder with -o")
        return


__all__ = [
    "COUNT",
    "FOLDER",
    "MODEL",
    "PAIRS",
    "PAIRS_OPTION",
    "BatchSize",
    "Count",
    "Device",
    "Draws",
    "EstimatorName",
    "Model",
    "Output",
    "PairSource",
    "Seed",
    "checked_estimator",
    "checked_folder",
    "distinct",
    "folders_of",
    "grey",
    "one_of",
    "say",
    "sheet_of",
    "side_of",
    "write_results",
]
