"""Encodings of labels, class lists and lists; JSON and XML from anywhere."""

import re

import pytest
from PIL import Image

from advcam.data import load, read_classes
from advcam.data.text import is_xml, read_any_text, read_json_file, read_text, read_xml
from advcam.errors import DataError

GERMAN = "image;labels\r\nbär.jpg;Käfer,Öl\r\nb.jpg;Öl\r\n"


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("bär.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (24, 20)).save(tmp_path / "images" / name)
    return tmp_path / "images"


def test_windows_1252_is_read_and_told_with_a_word_to_judge_it_by(images, tmp_path):
    (tmp_path / "l.csv").write_bytes(GERMAN.encode("cp1252"))
    data = load(images, tmp_path / "l.csv")
    assert data.classes.names == ("Käfer", "Öl")
    assert {item.id: item.labels for item in data.items} == {"b": (1,), "bär": (0, 1)}
    assert not data.skipped
    assert data.form == (
        "CSV, separated by semicolons, columns image and labels (2 classes), Windows-1252 (as in 'bär.jpg'; if that is garbled,"
        " save the file as UTF-8)"
    )


def test_of_class_list_and_lists_too(images, tmp_path):
    for name, text in (("l.csv", GERMAN), ("c.csv", "id;name\n3;Käfer\n4;Öl\n"), ("t.txt", "bär\nb\n")):
        (tmp_path / name).write_bytes(text.encode("utf-8" if name == "l.csv" else "cp1252"))
    data = load(images, tmp_path / "l.csv", tmp_path / "c.csv", tmp_path / "t.txt")
    assert (data.classes.ids, len(data.train)) == ((3, 4), 2)
    assert re.findall(r"(\S+) in Windows-1252 \(as in '(\S+)'", data.form) == [("c.csv", "Käfer"), ("t.txt", "bär")]


@pytest.mark.parametrize(("encoding", "told"), [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", "UTF-16"), ("utf-32", "UTF-32")])
def test_encodings_that_say_what_they_are(tmp_path, encoding, told):
    (tmp_path / "l.csv").write_bytes(GERMAN.encode(encoding))
    assert read_any_text(tmp_path / "l.csv", "labels file").told == told
    assert read_text(tmp_path / "l.csv", "labels file") == GERMAN


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the labels file is empty"),
        (b" \r\n", "the labels file is empty"),
        (b"PK\x03\x04\x14\x00", "is a spreadsheet or a zip, expected a labels file; save the sheet as CSV"),
        ("image,labels\na,cat\n".encode("utf-16-le"), "holds bytes of value 0"),
        (b"\xff\xfea", "l.csv:1: not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\x90\x81", "l.csv:1: not UTF-8"),
    ],
)
def test_bytes_that_are_no_text(tmp_path, data, said):
    (tmp_path / "l.csv").write_bytes(data)
    with pytest.raises(DataError, match=re.escape(said)):
        read_any_text(tmp_path / "l.csv", "labels file")


def test_what_must_be_utf8_is_not_guessed(tmp_path):
    (tmp_path / "r.toml").write_bytes(b"about = 'K\xe4fer'\n")
    with pytest.raises(DataError, match=r"r.toml:1: not UTF-8; save the recipe as UTF-8"):
        read_text(tmp_path / "r.toml", "recipe")


@pytest.mark.parametrize("name", ["nowhere", ".", "\0", "x" * 5000])
def test_paths_that_hold_no_file(tmp_path, name):
    with pytest.raises(DataError):
        read_any_text(tmp_path / name, "labels file")


def test_json_and_xml_that_are_none_say_the_line(tmp_path):
    for text, said in (("{\n'a': 1}", ":2: not valid JSON"), ("[" * 200_000, "nested too deeply"), ("9" * 5000, "thousands")):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(DataError, match=f"x.json.*{said}"):
            read_json_file(tmp_path / "x.json", "labels file")
    (tmp_path / "x.xml").write_text("<a>\n<b>\n</a>")
    with pytest.raises(DataError, match=r"x.xml:3: not valid XML \(mismatched tag"):
        read_xml(tmp_path / "x.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_xml_is_known_by_its_first_bytes(encoding):
    assert is_xml(" \n<annotations/>".encode(encoding))
    assert not is_xml("image,labels\n<a>,cat\n".encode(encoding))


def test_a_class_list_of_any_separator(tmp_path):
    for text in ("id,name\n7,cat\n", "\ufeffID;Name\r\n7;cat\r\n", "name\tid\tcolour\rcat\t7\tred\r"):
        (tmp_path / "c.csv").write_text(text, newline="")
        assert (read_classes(tmp_path / "c.csv").ids, read_classes(tmp_path / "c.csv").names) == ((7,), ("cat",))
