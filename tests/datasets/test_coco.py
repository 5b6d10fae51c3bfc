"""Data sets in COCO's format."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from visavis.datasets import COCO
from visavis.errors import InputError

WIDTH, HEIGHT = 12, 9


def content() -> dict[str, Any]:
    """Annotations before the images that they are of, ids in no order, and a name that is no ASCII."""
    return {
        "info": {"year": 2017, "images": ["not these"]},
        "annotations": [
            {"id": 5, "image_id": 30, "category_id": 18, "iscrowd": 0, "bbox": [1, 2, 3.5, 4.25], "segmentation": []},
            {
                "id": 6,
                "image_id": 10,
                "category_id": 90,
                "iscrowd": 0,
                "bbox": [2.0, 1.0, 4.0, 3.0],
                "segmentation": [[2, 1, 6, 1, 6, 4, 2, 4], [0, 0, 1, 0, 1, 1, 0, 1]],
                "note": "Schäferhund",
            },
            {
                "id": 7,
                "image_id": 30,
                "category_id": 90,
                "iscrowd": 1,
                "bbox": [0, 0, 2, 9],
                "segmentation": {"size": [9, 12], "counts": [0, 18, 90]},
            },
            {"id": 8, "image_id": 10, "category_id": 18, "bbox": [3, 3, 0, 5]},
            {"id": 9, "image_id": 10, "category_id": 18, "bbox": [10, 8, 9, 9]},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 18, "name": "dog"}],
        "images": [
            {"id": 30, "file_name": "hünd.jpg", "width": WIDTH, "height": HEIGHT},
            {"id": 20, "file_name": "empty.jpg", "width": WIDTH, "height": HEIGHT},
            {"id": 10, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT},
        ],
    }


def write(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for image in content()["images"]:
        PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(folder / image["file_name"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "instances.json", content())
    pictures(tmp_path / "images")
    return tmp_path


def test_pictures_and_objects(root):
    data = COCO(root)
    assert (data.name, data.classes, data.vocabulary) == ("coco:instances", ("toothbrush", "dog"), "coco")
    assert [sample.name for sample in data] == ["hünd.jpg", "empty.jpg", "b.jpg"]
    assert [sample.load().size for sample in data] == [(WIDTH, HEIGHT)] * 3
    dog, crowd = data[0].annotations
    assert (dog.label, dog.box, dog.crowd, dog.mask) == ("dog", (1.0, 2.0, 4.5, 6.25), False, None)
    assert (crowd.label, crowd.box, crowd.crowd) == ("toothbrush", (0.0, 0.0, 2.0, 9.0), True)
    assert data[1].annotations == ()
    # Of the other three one has no area, and one reaches beyond the picture.
    brush, cut = data[2].annotations
    assert (brush.label, brush.box) == ("toothbrush", (2.0, 1.0, 6.0, 4.0))
    assert (cut.label, cut.box) == ("dog", (10.0, 8.0, 12.0, 9.0))


def test_masks_are_read_from_the_file_when_drawn(root):
    data = COCO(root)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[1:4, 2:6] = True
    expected[0, 0] = True
    np.testing.assert_array_equal(data[2].annotations[0].mask, expected)
    crowd = np.zeros((HEIGHT, WIDTH), bool)
    crowd[:, :2] = True
    np.testing.assert_array_equal(data[0].annotations[1].mask, crowd)
    thing = data[0].annotations[1]
    write(root / "instances.json", {})
    with pytest.raises(InputError, match="has changed since it was opened"):
        _ = thing.mask


def test_samples_can_be_sent_to_other_processes(root):
    sample = pickle.loads(pickle.dumps(COCO(root)[2]))  # noqa: S301 - its own
    np.testing.assert_array_equal(sample.annotations[0].mask, COCO(root)[2].annotations[0].mask)


def test_a_bad_outline_is_named_when_drawn(root):
    bad = content()
    bad["annotations"][1]["segmentation"] = [[1, 2, 3]]
    write(root / "instances.json", bad)
    thing = COCO(root)[2].annotations[0]
    assert thing.box == (2.0, 1.0, 6.0, 4.0)
    with pytest.raises(InputError, match=r"instances\.json', annotation 6: a polygon is an even number"):
        _ = thing.mask


@pytest.mark.parametrize("folder", ["val2017", "images/val2017", "images"])
def test_the_layout_of_coco(tmp_path, folder):
    write(tmp_path / "annotations" / "instances_val2017.json", content())
    pictures(tmp_path / folder)
    data = COCO(tmp_path)
    assert data.name == "coco:instances_val2017"
    assert data.images == tmp_path / folder
    write(tmp_path / "annotations" / "instances_train2017.json", {})
    with pytest.raises(InputError, match="has the splits train2017, val2017; name one of them as split=…, not None"):
        COCO(tmp_path)
    with pytest.raises(InputError, match="not test2017"):
        COCO(tmp_path, split="test2017")
    assert COCO(tmp_path, split="val2017").file == data.file


def test_files_may_be_elsewhere(tmp_path):
    file = write(tmp_path / "one" / "mine.json", content())
    pictures(tmp_path / "two")
    data = COCO(tmp_path / "one", annotations="mine.json", images=tmp_path / "two")
    assert (data.file, data[2].source) == (file, tmp_path / "two" / "b.jpg")
    with pytest.raises(InputError, match="there is no file"):
        COCO(tmp_path / "one", annotations="yours.json")
    with pytest.raises(InputError, match=r"such as hünd\.jpg, are in none of .*; name their folder as images=…"):
        COCO(tmp_path / "one", annotations="mine.json")
    with pytest.raises(InputError, match=r"not laid out as COCO: instances\.json .* it holds mine\.json"):
        COCO(tmp_path / "one")


def test_words_of_one_s_own_are_not_coco_s(root):
    own = content()
    own["categories"][1]["name"] = "eagle"
    write(root / "instances.json", own)
    assert COCO(root).vocabulary == ""


def test_names_that_lead_out_are_refused(root, tmp_path_factory):
    for name in ("../secret.jpg", "/etc/passwd"):
        bad = content()
        bad["images"][2]["file_name"] = name
        write(root / "instances.json", bad)
        with pytest.raises(InputError, match=f"names the picture '{name}', which leads out"):
            COCO(root)
    write(root / "instances.json", content())
    secret = tmp_path_factory.mktemp("secret") / "a.jpg"
    secret.touch()
    (root / "images" / "b.jpg").unlink()
    (root / "images" / "b.jpg").symlink_to(secret)
    with pytest.raises(InputError, match="a link that leads out"):
        COCO(root)[2]


@pytest.mark.parametrize(
    ("key", "place", "change", "message"),
    [
        ("images", 0, {"width": 0}, "its size is 0 x 9"),
        ("images", 0, {"width": 12.5}, r"its size is 12\.5 x 9, but whole numbers"),
        ("images", 0, {"file_name": None}, "file_name is None, but a text was expected"),
        ("images", 0, {"id": None}, "id is None"),
        ("images", 0, {"id": 10}, "its id 10 is another's, too"),
        ("categories", 0, {"id": 18}, "its id 18 is another's, too"),
        ("categories", 0, {"name": 3}, "name is 3"),
        ("annotations", 0, {"bbox": None}, "bbox is None, but x, y, width and height were expected"),
        ("annotations", 0, {"bbox": [1, 2, 3]}, r"bbox is \[1, 2, 3\]"),
        ("annotations", 0, {"bbox": [1, 2, -3, 4]}, "whose width or height is below 0"),
        ("annotations", 0, {"bbox": [1, 2, 3, 1e20]}, "larger than any picture"),
        ("annotations", 0, {"image_id": 99}, "annotations of image 99, which it does not list"),
        ("annotations", 0, {"category_id": 99}, "annotations of category 99, which it does not list"),
        ("annotations", 0, {"category_id": [1]}, r"category_id is \[1\]"),
    ],
)
def test_what_is_malformed_is_named(root, key, place, change, message):
    bad = content()
    bad[key][place] |= change
    write(root / "instances.json", bad)
    with pytest.raises(InputError, match=message) as caught:
        COCO(root)
    assert str(root / "instances.json") in str(caught.value)


def test_other_lists_are_refused(root):
    for key, what in (("images", "lists no images"), ("categories", "lists no categories")):
        write(root / "instances.json", content() | {key: []} | ({"annotations": []}))
        with pytest.raises(InputError, match=what):
            COCO(root)
    write(root / "instances.json", content() | {"images": ["a.jpg"]})
    with pytest.raises(InputError, match=r"an element of 'images' at byte .*: an object was expected"):
        COCO(root)


def test_a_picture_of_another_size_is_refused(root):
    PIL.Image.new("RGB", (24, 18)).save(root / "images" / "b.jpg")
    with pytest.raises(InputError, match=r"is about a picture of 12 x 9 pixels, but .* has 24 x 18"):
        COCO(root)[2]


def test_many_annotations(root):
    """More than the tables first have room for, in no order."""
    many = content()
    many["annotations"] = [
        {
            "id": n,
            "image_id": (10, 20, 30)[n % 3],
            "category_id": (18, 90)[n % 5 % 2],
            "bbox": [n % 7, n % 5, 1 + n % 3, 2],
        }
        for n in range(3000)
    ]
    write(root / "instances.json", many)
    data = COCO(root)
    for index, image in enumerate((30, 20, 10)):
        own = [each["bbox"] for each in many["annotations"] if each["image_id"] == image]
        kinds = [
            {18: "dog", 90: "toothbrush"}[each["category_id"]]
            for each in many["annotations"]
            if each["image_id"] == image
        ]
        assert [thing.label for thing in data[index].annotations] == kinds
        assert [thing.box for thing in data[index].annotations] == [(x, y, x + w, y + h) for x, y, w, h in own]


def test_a_digest_is_of_the_file_with_its_outlines(tmp_path):
    def digest() -> str:
        return COCO(tmp_path, images=tmp_path).digest

    write(tmp_path / "instances.json", content())
    first = digest()
    assert digest() == first
    changed = content()
    changed["annotations"][1]["segmentation"][0][0] = 3
    write(tmp_path / "instances.json", changed)
    assert digest() != first
    data = COCO(tmp_path, images=tmp_path)
    assert data.name_of(0) == "hünd.jpg"
    (tmp_path / "instances.json").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        _ = data.digest


def test_a_file_name_longer_than_any_file_has_costs_that_picture_alone(tmp_path):
    data = content()
    data["images"][0]["file_name"] = "x" * 300
    PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "b.jpg")
    write(tmp_path / "instances.json", data)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="name their folder as images="):
        COCO(tmp_path)
    (tmp_path / "b.jpg").rename(tmp_path / "images" / "b.jpg")
    opened = COCO(tmp_path)
    with pytest.raises(InputError, match="File name too long"):
        opened[0].load()
    assert opened[2].load().size == (WIDTH, HEIGHT)
