"""Where pictures of conflicting cues come from: a folder as Geirhos et al. laid it out, and generated scenes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from conflict_lookup import Listed
from visavis.datasets.generated import Scenes
from visavis.datasets.scenes import render
from visavis.errors import InputError, PictureError
from visavis.shape_texture.conflicts import ConflictFolder, CueConflict, SceneConflicts

WORDS = [("disc", "dots"), ("star", "checks"), ("ring", "stripes")]


def _write(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (9, 8), (number, 0, 0)).save(root / name)
    return root


def test_a_folder_as_it_is_laid_out(tmp_path: Path) -> None:
    root = _write(
        tmp_path, "airplane/airplane1-bicycle2.png", "airplane/airplane10-oven1.png", "bear/bear3-airplane12.png"
    )
    (root / "bear" / "notes.txt").write_text("not a picture")
    (root / "bear" / ".bear1-oven1.png").write_bytes(b"hidden")
    (root / ".cache").mkdir()
    (root / "README.png").write_bytes(b"in no folder")
    folder = ConflictFolder(root)
    assert [(one.name, one.shape, one.texture) for one in folder] == [
        ("airplane/airplane1-bicycle2.png", "airplane", "bicycle"),
        ("airplane/airplane10-oven1.png", "airplane", "oven"),
        ("bear/bear3-airplane12.png", "bear", "airplane"),
    ]
    assert [folder.cues(index) for index in range(3)] == [(one.shape, one.texture) for one in folder]
    assert folder.names == ("airplane", "bear", "bicycle", "oven")
    assert folder[2].pixels()[:, 0, 0].tolist() == pytest.approx([2 / 255, 0, 0])
    assert folder[2].pixels().shape == (3, 8, 9)
    assert folder[2].image().getpixel((0, 0)) == (2, 0, 0)


def test_categories_keep_pictures_both_of_whose_cues_are_among_them(tmp_path: Path) -> None:
    root = _write(tmp_path, "cat/cat1-dog1.png", "cat/cat1-oven1.png", "oven/oven1-dog1.png", "cat/cat1-cat2.png")
    folder = ConflictFolder(root, categories=["cat", "dog"])
    assert [one.name for one in folder] == ["cat/cat1-cat2.png", "cat/cat1-dog1.png"]
    assert folder.names == ("cat", "dog")
    assert [one.conflicts for one in folder] == [False, True]
    with pytest.raises(InputError, match=r"none of the 4 pictures in .* is of bear, dog"):
        ConflictFolder(root, categories=["bear", "dog"])


@pytest.mark.parametrize(
    ("file", "texture"),
    [
        ("mp3/mp31-route66.png", "route"),
        ("mp3/mp31-teddy-bear4.png", "teddy-bear"),
        ("teddy-bear/teddy-bear1-mp32.png", "mp3"),
        ("mp3/mp312-mp34.png", "mp3"),
        ("a.b/a.b1-c+d2.png", "c+d"),
    ],
)
def test_names_with_digits_and_marks(tmp_path: Path, file: str, texture: str) -> None:
    root = _write(tmp_path, file)
    (root / "mp3").mkdir(exist_ok=True)
    assert [(one.shape, one.texture) for one in ConflictFolder(root)] == [(file.split("/", maxsplit=1)[0], texture)]


@pytest.mark.parametrize(
    "name",
    ["cat1.png", "cat-dog1.png", "cat1-dog.png", "dog1-cat1.png", "cat1-7.png", "Cat1-dog1.png", "axcat1-dog1.png"],
)
def test_the_first_file_that_does_not_fit_is_named(tmp_path: Path, name: str) -> None:
    root = _write(tmp_path, f"cat/{name}", "zebra/nothing.png")
    with pytest.raises(InputError, match=rf"cat/{name}' .*airplane/airplane1-bicycle2.png was expected"):
        ConflictFolder(root)


def test_a_texture_that_may_be_two_categories(tmp_path: Path) -> None:
    root = _write(tmp_path, "cat/cat1-mp312.png")
    (root / "mp3").mkdir()
    (root / "mp31").mkdir()
    with pytest.raises(InputError, match="may be mp3 or mp31; rename"):
        ConflictFolder(root)


def test_folders_without_conflicts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        ConflictFolder(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no cue conflicts: .* was expected, but it is empty"):
        ConflictFolder(tmp_path)
    # The folder of a category instead of theirs.
    _write(tmp_path, "cat/cat1-dog1.png")
    with pytest.raises(InputError, match=r"but it holds cat1-dog1\.png"):
        ConflictFolder(tmp_path / "cat")


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    outside = _write(tmp_path, "outside.png") / "outside.png"
    root = _write(tmp_path / "data", "cat/cat1-dog1.png")
    (root / "cat" / "cat2-dog1.png").symlink_to(outside)
    folder = ConflictFolder(root)
    assert folder[0].image().size == (9, 8)
    with pytest.raises(InputError, match="leads out of"):
        folder[1]


def test_a_damaged_picture(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "cat1-dog1.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match="not a picture"):
        ConflictFolder(tmp_path)[0].image()


def test_beyond_the_last(tmp_path: Path) -> None:
    folder = ConflictFolder(_write(tmp_path, "cat/cat1-dog1.png"))
    for index in (-1, 1):
        with pytest.raises(IndexError, match=f"no picture {index}; they are numbered from 0 to 0"):
            folder[index]
        with pytest.raises(IndexError):
            folder.cues(index)
        with pytest.raises(IndexError):
            SceneConflicts(1, WORDS)[index]
    assert len(list(folder)) == len(folder) == 1


def test_a_tensor_as_picture() -> None:
    chance = np.random.default_rng(0)
    pixels = torch.from_numpy(chance.random((3, 9, 8)))
    item = CueConflict(pixels, "a", "b", "mine")
    assert torch.equal(item.pixels(), pixels.float())
    assert np.array_equal(np.asarray(item.image()), np.rint(255 * pixels.permute(1, 2, 0).numpy()).astype(np.uint8))
    with pytest.raises(InputError, match=r"'mine' has the shape \(9, 8\), not \(3, H, W\)"):
        CueConflict(pixels[0], "a", "b", "mine").image()
    with pytest.raises(PictureError, match="float values from 0"):
        CueConflict(2 * pixels, "a", "b", "mine").pixels()


def test_cues_of_pictures_that_say_nothing_else() -> None:
    assert Listed([("a", "b"), ("b", "b")]).cues(0) == ("a", "b")


def test_scenes_have_one_categorys_shape_and_anothers_texture() -> None:
    conflicts = SceneConflicts(12, WORDS, scenes=Scenes(1, size=40, colours=["red"], turn=0), seed=3)
    assert conflicts.names == ("dots disc", "checks star", "stripes ring")
    words = dict(zip(conflicts.names, WORDS, strict=True))
    for index in range(12):
        scene, item = conflicts.scene(index), conflicts[index]
        thing = scene.objects[0]
        assert thing.shape == words[item.shape][0]
        assert thing.texture.name == words[item.texture][1]
        assert (thing.texture.colour, thing.angle) == ("red", 0)
        assert item.conflicts
        assert item.name == f"{index}: {item.shape} of {item.texture}"
        drawn = render(scene, 40)
        assert torch.equal(item.pixels(), torch.from_numpy(drawn.pixels))
        assert item.mask is not None
        assert torch.equal(item.mask, torch.from_numpy(drawn.masks[0]))
        assert conflicts.cues(index) == (item.shape, item.texture)


def test_all_pairs_come_equally_often_in_an_order_of_chance() -> None:
    conflicts = SceneConflicts(12, WORDS, seed=1)
    cues = [conflicts.cues(index) for index in range(12)]
    assert set(Counter(cues[:6]).values()) == {1}
    assert Counter(cues[:6]) == Counter(cues[6:])
    assert cues[:6] != cues[6:]
    assert cues != [SceneConflicts(12, WORDS, seed=2).cues(index) for index in range(12)]
    assert cues[:5] == [SceneConflicts(5, WORDS, seed=1).cues(index) for index in range(5)]
    assert conflicts.scene(0) != SceneConflicts(12, WORDS, seed=2).scene(0)
    assert conflicts.scene(4) == SceneConflicts(5, WORDS, seed=1).scene(4)


def test_scenes_of_named_categories() -> None:
    conflicts = SceneConflicts(2, {"ball": ("disc", "dots"), "sun": ("star", "checks")})
    assert conflicts.names == ("ball", "sun")
    assert {conflicts.cues(index) for index in range(2)} == {("ball", "sun"), ("sun", "ball")}
    assert conflicts.scene(0).objects[0].shape == {"ball": "disc", "sun": "star"}[conflicts[0].shape]


def test_scenes_that_are_refused() -> None:
    with pytest.raises(InputError, match="count is from 1 and seed from 0, not 0 and 0"):
        SceneConflicts(0, WORDS)
    with pytest.raises(InputError, match="not 1 and -1"):
        SceneConflicts(1, WORDS, seed=-1)
    with pytest.raises(InputError, match="two categories or more"):
        SceneConflicts(1, WORDS[:1])
    with pytest.raises(InputError, match="each with a texture of its own"):
        SceneConflicts(1, [("disc", "dots"), ("star", "dots")])
    with pytest.raises(InputError, match="each with a shape of its own"):
        SceneConflicts(1, {"a": ("disc", "dots"), "b": ("disc", "checks")})
    with pytest.raises(InputError, match="each with a shape of its own"):
        SceneConflicts(1, [WORDS[0], WORDS[1], WORDS[0]])
    with pytest.raises(InputError, match="there is no shape 'cow'"):
        SceneConflicts(1, [("cow", "dots"), ("star", "checks")])
    with pytest.raises(InputError, match="there is no texture 'fur'"):
        SceneConflicts(1, [("disc", "fur"), ("star", "checks")])
    with pytest.raises(InputError, match="one object"):
        SceneConflicts(1, WORDS, scenes=Scenes(1, objects=2))


def test_a_link_that_leads_to_itself(tmp_path: Path) -> None:
    root = _write(tmp_path / "data", "cat/cat1-dog1.png")
    (root / "loop").symlink_to("loop")
    assert len(ConflictFolder(root)) == 1
