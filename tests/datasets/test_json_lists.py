"""Lists in large JSON files, read element by element through a window of any size."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visavis.datasets import json_lists
from visavis.datasets.json_lists import element_at, elements
from visavis.errors import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FILES = st.dictionaries(st.sampled_from(["a", "é", "x", "info"]), st.lists(VALUES, max_size=4) | VALUES, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(FILES, st.lists(VALUES, max_size=4), st.integers(1, 9), st.booleans(), st.sampled_from([None, 1]))
def test_elements_are_those_of_the_whole(tmp_path, monkeypatch, rest, items, window, escaped, indent):
    monkeypatch.setattr(json_lists, "_CHUNK", window)
    path = tmp_path / "a.json"
    content = rest | {"items": items, "é": [1]}
    path.write_text(json.dumps(content, ensure_ascii=escaped, indent=indent), encoding="utf-8")
    found = list(elements(path, ("items", "é")))
    assert [element.value for element in found if element.key == "items"] == items
    assert [element.value for element in found if element.key == "é"] == [1]
    assert [element_at(path, element.start, element.length) for element in found] == [each.value for each in found]


def test_marks_and_spaces_do_not_matter(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf \r\n{ "n" : 12 ,\t"items" : [ 1 , "\\u00e9\xc3\xa9" ] } \n')
    assert [(each.value, each.start, each.length) for each in elements(path, ("items",))] == [
        (1, 31, 1),
        ("éé", 35, 10),
    ]
    path.write_text("{}")
    assert list(elements(path, ("items",))) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"at byte 0: the file is an object with the lists items, but the file ends"),
        ("[1]", r"at byte 0: the file is an object with the lists items, but there is '\['"),
        ('{"items": 3}', r"at byte 10: 'items' is a list, but there is '3'"),
        ('{"items": [1, 2', r"a comma, or the end of the list 'items', but the file ends"),
        ('{"items": [1 2]}', r"at byte 13: a comma, or the end of the list 'items', but there is '2'"),
        ('{"items": [1,]}', "at byte 13: Expecting value"),
        ('{"items": [1]', "a comma, or the end of the object, but the file ends"),
        ('{"items" [1]}', "a colon after 'items', but there is"),
        ("{3: [1]}", "a key in quotation marks was expected"),
        ('{"items": [NaN]}', "at byte 11: NaN is no number of JSON"),
        ('{"items": [1e999]}', "at byte 11: 1e999 is too large a number"),
        ('{"items": ["open]}', "at byte 11: Unterminated string"),
        ('{"x": ' + "[" * 100_000, "nested too deeply"),
        ('{"items": ["\xff"]}', "at byte 11: it is no UTF-8"),
    ],
)
def test_what_is_malformed_is_named_with_its_place(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message) as caught:
        list(elements(path, ("items",)))
    assert str(path) in str(caught.value)


def test_other_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="there is no file"):
        list(elements(tmp_path / "a.json", ("items",)))
    path = tmp_path / "a.json"
    path.write_text('{"items": [1]}', encoding="utf-16")
    with pytest.raises(InputError, match="at byte 0"):
        list(elements(path, ("items",)))
    monkeypatch.setattr(json_lists, "_LARGEST", 3)
    with pytest.raises(InputError, match="is larger than"):
        list(elements(path, ("items",)))


def test_a_value_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lists, "_CHUNK", 64)
    monkeypatch.setattr(json_lists, "_LONGEST", 1000)
    path = tmp_path / "a.json"
    path.write_text('{"items": ["' + "a" * 10_000)
    read = []
    decode = json_lists._DECODER.raw_decode

    def watched(text: str, place: int) -> object:
        read.append(len(text))
        return decode(text, place)

    monkeypatch.setattr(json_lists._DECODER, "raw_decode", watched)
    with pytest.raises(InputError, match="Unterminated string"):
        list(elements(path, ("items",)))
    assert max(read) < 2500
    assert len(read) < 12


def test_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lists, "_CHUNK", 1 << 16)
    path: Path = tmp_path / "a.json"
    path.write_text(json.dumps({"items": [{"number": number, "text": "a" * 20_000} for number in range(300)]}))
    tracemalloc.start()
    assert sum(element.value["number"] for element in elements(path, ("items",))) == 300 * 299 // 2
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 6_000_000
    assert peak < 1_000_000


def test_a_file_that_changed_is_noticed(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"items": [[1, 2]]}')
    (element,) = elements(path, ("items",))
    path.write_text('{"items": [31, 12]}')
    with pytest.raises(InputError, match="has changed since it was opened"):
        element_at(path, element.start, element.length)
    path.unlink()
    with pytest.raises(InputError, match="has changed since it was opened"):
        element_at(path, element.start, element.length)
