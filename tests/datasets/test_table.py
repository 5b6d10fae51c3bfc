"""Folders of pictures with a table."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from visavis.datasets import FolderDataset
from visavis.errors import InputError

HEAD = "file,label,x0,y0,x1,y1\n"
BOXES = HEAD + "b.jpg,dog,1,2,3.5,4\na/a.jpg,cat,0,0,99,8\nb.jpg,cat,5,5,6,6\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    for name in ("a/a.jpg", "b.jpg"):
        PIL.Image.new("RGB", (20, 10)).save(tmp_path / name)
    return tmp_path


def table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder


def test_labels_alone(folder):
    data = FolderDataset(
        table(folder, 'file,class_index,wnid,label\r\nb.jpg,3,n02,"dog, hound"\r\n\r\na/a.jpg,1,n01,cat')
    )
    assert (data.classes, len(data), data.vocabulary) == (("cat", "dog, hound"), 2, "")
    assert [(sample.name, sample.label, sample.annotations) for sample in data] == [
        ("b.jpg", "dog, hound", ()),
        ("a/a.jpg", "cat", ()),
    ]
    assert data[1].load().size == (20, 10)
    assert FolderDataset(folder, label="wnid").classes == ("n01", "n02")
    assert data.name == f"folder:{folder.name}/labels.csv"


def test_several_boxes_of_a_picture(folder):
    data = FolderDataset(table(folder, "\N{BYTE ORDER MARK}" + BOXES))
    assert [sample.name for sample in data] == ["b.jpg", "a/a.jpg"]
    assert [(thing.label, thing.box) for thing in data[0].annotations] == [
        ("dog", (1.0, 2.0, 3.5, 4.0)),
        ("cat", (5.0, 5.0, 6.0, 6.0)),
    ]
    assert [sample.label for sample in data] == [None, "cat"]
    # What reaches beyond the picture ends at its border.
    assert data[1].annotations[0].box == (0.0, 0.0, 20.0, 8.0)


def test_boxes_are_of_the_picture_as_shown(folder):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (20, 10)).save(folder / "b.jpg", exif=exif)
    data = FolderDataset(table(folder, "file,label,x0,y0,x1,y1\nb.jpg,dog,1,12,99,99"))
    assert data[0].annotations[0].box == (1.0, 12.0, 10.0, 20.0)


def test_a_row_may_have_no_box(folder):
    data = FolderDataset(table(folder, "file,label,x0,y0,x1,y1\nb.jpg,dog,,,,\nb.jpg,dog,1,2,3,4"))
    assert data[0].label == "dog"
    assert [thing.box for thing in data[0].annotations] == [(1.0, 2.0, 3.0, 4.0)]


def test_columns_may_have_other_names(folder):
    table(folder, "path,name,left,top,right,bottom,label,x0\nb.jpg,dog,1,2,3,4,no,no", "mine.csv")
    names = {"file": "path", "label": "name", "x0": "left", "y0": "top", "x1": "right", "y1": "bottom"}
    data = FolderDataset(folder, table="mine.csv", **names)
    assert (data[0].label, data[0].annotations[0].box) == ("dog", (1.0, 2.0, 3.0, 4.0))
    with pytest.raises(InputError, match="has no column file or y0 or x1 or y1, but path, name, left"):
        FolderDataset(folder, table="mine.csv")
    with pytest.raises(InputError, match="has no column a or b or c or d, but path"):
        FolderDataset(folder, table="mine.csv", file="path", label="name", x0="a", y0="b", x1="c", y1="d")
    with pytest.raises(InputError, match="has no column up, but path"):
        FolderDataset(folder, table="mine.csv", **(names | {"y0": "up"}))


def test_a_table_elsewhere(folder, tmp_path_factory):
    elsewhere = table(tmp_path_factory.mktemp("elsewhere"), BOXES)
    assert FolderDataset(folder, table=elsewhere / "labels.csv")[0].source == folder / "b.jpg"
    with pytest.raises(InputError, match=r"there is no table '.*labels\.csv'; name it as table=… \(there is no \.csv"):
        FolderDataset(folder)
    table(folder, BOXES, "other.csv")
    with pytest.raises(InputError, match=r"table=… \(other\.csv\)"):
        FolderDataset(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column file or label, but none"),
        ("file,label\n", "has no rows but the names of its columns"),
        ("file;label\nb.jpg;dog", "has no column file or label, but file;label"),
        ("file,label,label\nb.jpg,a,b", "two columns of one name"),
        ("file,label\nb.jpg", "has 1 values in line 2, but 2 columns"),
        ("file,label\na/a.jpg,cat\nb.jpg,dog,hound", "has 3 values in line 3, but 2 columns"),
        ("file,label\nb.jpg,", "has no label in line 2"),
        ("file,label\n,dog", r"labels\.csv, line 2' names a picture ''"),
        ("file,label\n../../etc/passwd,dog", r"line 2' names the picture '../../etc/passwd', which leads out"),
        ("file,label\n/etc/passwd,dog", r"line 2' names the picture '/etc/passwd', which leads out"),
        ("file,label\nb.jpg,dog\nb.jpg,cat", r"gives 'b\.jpg' \(line 2\) the labels cat and dog, but not all of them"),
        ("file,label,x0,y0,x1,y1\nb.jpg,dog,1,2,3,", r"\['1', '2', '3', ''\] in line 2, but four numbers"),
        ("file,label,x0,y0,x1,y1\nb.jpg,dog,1,2,1,4", "in line 2, but x0 < x1 and y0 < y1 were expected"),
        ("file,label,x0,y0,x1,y1\nb.jpg,dog,1,4,2,2", "in line 2, but x0 < x1 and y0 < y1 were expected"),
        ("file,label,x0,y0,x1,y1\nb.jpg,dog,1,2,inf,4", "in line 2, but x0 < x1"),
        ("file,label,x0,y0,x1,y1\nb.jpg,dog,1,2,nan,4", "in line 2, but x0 < x1"),
        ("file,label,x0,y0,x1,y1\nb.jpg,dog,0.1,0.2,0.3,1", "all boxes of .* are between 0 and 1; boxes are in pixels"),
        ('file,label\nb.jpg,"dog', "is no CSV table"),
        ('file,label\nb.jpg,"dog" hound', "is no CSV table"),
    ],
)
def test_what_is_malformed_is_named(folder, text, message):
    with pytest.raises(InputError, match=message) as caught:
        FolderDataset(table(folder, text))
    assert "labels.csv" in str(caught.value)


def test_other_text_is_refused(folder):
    (folder / "labels.csv").write_bytes(b"file,label\nb.jpg,K\xe4fer\n")
    with pytest.raises(InputError, match="is no UTF-8 text"):
        FolderDataset(folder)


def test_a_box_beside_the_picture_is_refused(folder):
    data = FolderDataset(table(folder, "file,label,x0,y0,x1,y1\nb.jpg,dog,30,2,40,4"))
    with pytest.raises(
        InputError, match=r"labels\.csv, line 2' has the box \(30, 2, 40, 4\), which lies outside its picture"
    ):
        data[0]


def test_a_missing_picture_is_told_when_it_is_loaded(folder):
    sample = FolderDataset(table(folder, "file,label,x0,y0,x1,y1\nmissing.jpg,dog,1,2,3,4"))[0]
    assert sample.annotations[0].box == (1.0, 2.0, 3.0, 4.0)
    with pytest.raises(InputError, match=r"there is no file '.*missing\.jpg'"):
        sample.load()


def test_links_that_lead_out_are_refused(folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("secret") / "a.jpg"
    secret.touch()
    (folder / "c.jpg").symlink_to(secret)
    with pytest.raises(InputError, match="a link that leads out"):
        FolderDataset(table(folder, "file,label\nc.jpg,dog"))[0]


def test_one_picture_under_two_spellings_of_its_name_is_one(folder):
    data = FolderDataset(
        table(folder, "file,label,x0,y0,x1,y1\nb.jpg,dog,1,2,3,4\n./b.jpg,dog,5,6,7,8\na//a.jpg,cat,,,,")
    )
    assert [sample.name for sample in data] == ["b.jpg", "a/a.jpg"] == [data.name_of(index) for index in range(2)]
    assert [thing.box for thing in data[0].annotations] == [(1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)]


def test_a_box_outside_its_picture_is_named_by_its_line(folder):
    data = FolderDataset(
        table(folder, "file,label,x0,y0,x1,y1\nb.jpg,dog,1,2,3,4\na/a.jpg,cat,,,,\nb.jpg,dog,50,6,70,8")
    )
    with pytest.raises(InputError, match=r"labels\.csv, line 4' has the box \(50, 6, 70, 8\), which lies outside"):
        data[0]
    assert data.name_of(0) == "b.jpg"


def test_a_digest_changes_with_what_the_table_says(folder):
    def digest(text: str) -> str:
        return FolderDataset(table(folder, text)).digest

    first = digest(BOXES)
    assert first == digest(BOXES.replace("\n", "\r\n").replace("1,2,3.5", "1,2.0,3.5"))
    for old, new in (("3.5", "3.6"), ("dog", "hen"), ("a/a.jpg", "a/b.jpg"), ("b.jpg,cat,5,5,6,6\n", "")):
        assert digest(BOXES.replace(old, new)) != first
    lines = BOXES.splitlines()
    assert digest("\n".join([lines[0], lines[2], lines[1], lines[3]])) != first


def test_a_table_whose_name_no_file_can_have_is_none(folder):
    with pytest.raises(InputError, match="there is no table"):
        FolderDataset(folder, table="x" * 300)
