"""The scripts of `benchmarks/` as a whole."""

from __future__ import annotations

from benchmarks.scripts import FOLDER


def test_no_script_hides_a_folder_of_tests() -> None:
    """Both lie on the path of imports while tests run: of two with one name, only the first is found."""
    folders = {path.name for path in (FOLDER.parent / "tests").iterdir() if path.is_dir()}
    assert {"units", "methods"} <= folders
    assert not folders & {path.stem for path in FOLDER.glob("*.py")}
