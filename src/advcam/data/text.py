"""Text, JSON and XML from files of any origin; whatever a file holds, it is read or refused with the file's name."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from advcam.errors import DataError

if TYPE_CHECKING:
    from .places import Place

WIDE = (
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"),
)  # fmt: skip
"""Byte order marks and their encodings, longer marks first."""

SIGNS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"),
)  # fmt: skip
"""First bytes of an XML file and the encoding that they imply, whatever its declaration says."""

WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "x-sjis": "cp932", "euc-kr": "cp949"}
"""Declared encodings, and the superset that is usually meant."""


@dataclass(frozen=True)
class Text:
    """A text, and the encoding that it was read in."""

    text: str
    encoding: str = "UTF-8"

    @property
    def told(self) -> str:
        """The encoding as it is told where it is not UTF-8; where it was guessed, with a word to judge it by."""
        if self.encoding != "Windows-1252":
            return "" if self.encoding == "UTF-8" else self.encoding
        word = re.search(r"[\w./-]{0,20}[^\x00-\x7f][\w./-]{0,20}", self.text)
        return f"{self.encoding} (as in {word[0] if word else ''!r}; if that is garbled, save the file as UTF-8)"


def written(where: str, name: str) -> str:
    """A name from JSON, checked to be encodable.

    Raises:
        DataError: a lone surrogate, which JSON's escapes allow.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: the name {name!a} is not valid Unicode; rename it") from None
    return name


def read_bytes(path: Place, what: str) -> bytes:
    """A file's bytes.

    Raises:
        DataError: missing, a folder, or unreadable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such {what}; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path}: expected a {what}, got a folder") from None
    except (OSError, ValueError) as error:  # the latter: a zero in the path
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def read_text(path: Place, what: str) -> str:
    """A text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; the mark is dropped.

    Raises:
        DataError: missing, a folder, empty, or in another encoding.
    """
    return decoded(path, read_bytes(path, what), what, legacy=False).text


def read_any_text(path: Place, what: str) -> Text:
    """A text file as :func:`read_text` reads it, or else in Windows-1252, as spreadsheets write it.

    Raises:
        DataError: missing, a folder, empty, or in another encoding.
    """
    return decoded(path, read_bytes(path, what), what)


def decoded(path: Place, data: bytes, what: str, legacy: bool = True) -> Text:
    """The text of a file's bytes; see :func:`read_any_text`, or :func:`read_text` where ``legacy`` is false."""
    if data.startswith(b"PK\x03\x04"):
        raise DataError(f"{path}: is a spreadsheet or a zip, expected a {what}; save the sheet as CSV, or unpack the zip")
    encoding = next((name for mark, name in WIDE if data.startswith(mark)), "UTF-8")
    try:
        text = data.decode("utf-8-sig" if encoding == "UTF-8" else encoding)
    except UnicodeDecodeError as error:
        text, encoding = _windows(data) if legacy and encoding == "UTF-8" else "", "Windows-1252"
        if not text:
            line = data[: error.start].count(b"\n") + 1
            raise DataError(f"{path}:{line}: not UTF-8; save the {what} as UTF-8") from None
    if "\0" in text:
        raise DataError(f"{path}: holds bytes of value 0, so it is no {what}; save the {what} as text in UTF-8")
    if not text.strip():
        raise DataError(f"{path}: the {what} is empty")
    return Text(text, encoding)


def _windows(data: bytes) -> str:
    """Bytes that are not UTF-8 as Windows-1252; empty where they hold what that does not, or are damaged UTF-8."""
    letters = [letter for letter in data.decode(errors="replace") if letter > "\x7f"]
    if 2 * letters.count("\ufffd") <= len(letters):
        return ""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return ""


class Doubled(list[tuple[str, Any]]):
    """A JSON object with duplicate keys, as pairs."""


def read_json_file(path: Place, what: str) -> Any:
    """Reads JSON; see :func:`parsed`.

    Raises:
        DataError: as :func:`read_any_text`, or not JSON; says the line.
    """
    return parsed(path, read_any_text(path, what).text)


def parsed(path: Place, text: str, line: int = 0) -> Any:
    """The value of JSON text; an object with duplicate keys becomes a list of pairs.

    Args:
        path: of the file, for messages.
        text: the JSON.
        line: lines of the file before it.

    Raises:
        DataError: not JSON; says the line.
    """

    def kept(pairs: list[tuple[str, Any]]) -> Any:
        made = dict(pairs)
        return made if len(made) == len(pairs) else Doubled(pairs)

    try:
        return json.loads(text, object_pairs_hook=kept)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{line + error.lineno}: not valid JSON ({error.msg})") from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply to be labels") from None
    except ValueError:  # more digits than Python converts
        raise DataError(f"{path}: holds a number of thousands of digits; expected ids, names and coordinates") from None


def read_xml(path: Place, data: bytes | None = None) -> ElementTree.Element:
    """The root of an XML file.

    Args:
        path: of the file.
        data: its bytes, if already read.

    Raises:
        DataError: not XML, an unknown or wrong encoding, or a document type; names file and line.
    """
    try:
        return ElementTree.fromstring(_xml_text(path, read_bytes(path, "XML file") if data is None else data))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}:{error.position[0]}: not valid XML ({error}); copy the file again") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid XML ({error}); save it as UTF-8") from None


def is_xml(data: bytes) -> bool:
    """Whether a file's bytes begin as XML does, in whatever encoding."""
    return data[:400].translate(None, b"\0\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<")


def _xml_text(path: Place, data: bytes) -> str:
    """XML as text without its declaration, decoded by its first bytes, its declared encoding, or as UTF-8.

    Raises:
        DataError: an unknown or wrong encoding, or a document type, which could define anything.
    """
    said = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([^\"'>]*)[\"']", data[:1000])
    declared = said[1].decode("ascii", "backslashreplace") if said else "utf-8"
    name = next((encoding for sign, encoding in SIGNS if data.startswith(sign)), WIDER.get(declared.lower(), declared))
    try:
        text = data.decode(name)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: encoding {declared}, but byte {error.start} is invalid in it; save it as UTF-8") from None
    except (LookupError, ValueError):
        raise DataError(f"{path}: encoding {name:.40} is not known; save it as UTF-8") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: has a document type (<!DOCTYPE ...>), which annotations do not need; remove it")
    return re.sub(r"^\s*<\?xml[^>]*\?>", lambda found: "\n" * found[0].count("\n"), text)  # keeps the line numbers
