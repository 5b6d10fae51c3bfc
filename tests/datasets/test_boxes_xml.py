"""Boxes in VOC's XML, and what is refused of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from visavis.datasets.boxes_xml import read_boxes
from visavis.errors import InputError

PERSON = """<annotation><folder>VOC2007</folder><filename>a.jpg</filename>
<size><width>50</width><height>40</height><depth>3</depth></size>
<object><name>person</name><truncated>1</truncated><difficult>0</difficult>
  <part><name>head</name><bndbox><xmin>11</xmin><ymin>12</ymin><xmax>13</xmax><ymax>14</ymax></bndbox></part>
  <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>50</xmax><ymax>40.5</ymax></bndbox></object>
<object><name>dog</name><difficult>1</difficult>
  <bndbox><ymax>9</ymax><xmax>7</xmax><ymin>9</ymin><xmin>7</xmin></bndbox></object></annotation>"""


def written(folder: Path, text: str) -> Path:
    path = folder / "a.xml"
    path.write_text(text)
    return path


def test_objects_are_read_as_they_stand(tmp_path):
    found = read_boxes(written(tmp_path, PERSON), "a", 1)
    assert found.size == (50, 40)
    person, dog = found.annotations
    assert (person.label, person.box, person.truncated, person.difficult) == ("person", (0, 1, 50, 40.5), True, False)
    # A box from 7 to 7 is one pixel.
    assert (dog.label, dog.box, dog.truncated, dog.difficult) == ("dog", (6, 8, 7, 9), False, True)


def test_pixels_may_be_numbered_from_0(tmp_path):
    person, dog = read_boxes(written(tmp_path, PERSON), "a", 0).annotations
    assert person.box == (1, 2, 51, 41.5)
    assert dog.box == (7, 9, 8, 10)


def test_a_size_may_be_missing(tmp_path):
    for text in ("", "<size><width>0</width><height>0</height></size>"):
        found = read_boxes(written(tmp_path, f"<annotation>{text}</annotation>"), "a", 1)
        assert found.size is None
        assert found.annotations == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<filename>a.jpg", "<filename>../../etc/passwd", "is about the picture '../../etc/passwd', but lies where"),
        ("<filename>a.jpg", "<filename>/a.jpg", "is about the picture '/a.jpg', but lies where that of 'a' belongs"),
        ("<filename>a.jpg", "<filename>b.jpg", "is about the picture 'b.jpg'"),
        ("<name>dog</name>", "", "has no <name> for object 2"),
        ("<ymax>9</ymax>", "", r"has '' as <ymax> of object 2 \(dog\), but a number was expected"),
        ("<ymax>9</ymax>", "<ymax>nan</ymax>", "has 'nan' as <ymax> of object 2"),
        ("<ymax>9</ymax>", "<ymax>8</ymax>", r"from \(7, 9\) to \(7, 8\) for object 2 \(dog\), which ends before it b"),
        ("<width>50", "<width>wide", "has 'wide' as <width> of the size"),
        ("<difficult>1", "<difficult>2", "has '2' as <difficult> of object 2, but 0 or 1 was expected"),
        ("</annotation>", "", "is no well-formed XML"),
        ("annotation>", "html>", "has the root element <html>, but <annotation> was expected"),
        ("<annotation>", "<!DOCTYPE a><annotation>", "declares a document type or an entity"),
        ("<annotation>", "<!doctype a><annotation>", "declares a document type or an entity"),
    ],
)
def test_what_is_malformed_is_named(tmp_path, old, new, message):
    path = written(tmp_path, PERSON.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        read_boxes(path, "a", 1)
    assert str(path) in str(caught.value)


def test_an_object_without_a_box_of_its_own_is_refused(tmp_path):
    path = written(
        tmp_path,
        "<annotation><object><name>person</name><part><bndbox><xmin>1</xmin></bndbox></part></object></annotation>",
    )
    with pytest.raises(InputError, match="has no <bndbox> for object 1"):
        read_boxes(path, "a", 1)


def test_a_billion_laughs_are_refused_at_once(tmp_path):
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 30))
    bomb = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l0 "ha">{levels}]><annotation>&l29;</annotation>'
    began = time.monotonic()
    with pytest.raises(InputError, match="declares a document type or an entity"):
        read_boxes(written(tmp_path, bomb), "a", 1)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-7"])
def test_a_declaration_cannot_hide_in_another_encoding(tmp_path, encoding):
    path = tmp_path / "a.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a><annotation/>'.encode(encoding))
    with pytest.raises(InputError, match=r"no UTF-8|not well-formed|document type|no well-formed"):
        read_boxes(path, "a", 1)


def test_the_encoding_that_a_file_claims_does_not_count(tmp_path):
    """Read as EBCDIC, as it claims, this would have a document type; as the UTF-8 that it is, it is no XML."""
    path = tmp_path / "a.xml"
    claim = b'<?xml version="1.0" encoding="cp037"?>'
    path.write_bytes(claim + "<!DOCTYPE a><annotation/>".encode("cp037").replace(b"\xff", b""))
    with pytest.raises(InputError, match=r"no UTF-8|no well-formed XML"):
        read_boxes(path, "a", 1)


def test_a_huge_file_is_not_read(tmp_path):
    path = written(tmp_path, PERSON + " " * (1 << 20))
    with pytest.raises(InputError, match="more than 1024 KiB"):
        read_boxes(path, "a", 1)
