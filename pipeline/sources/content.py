"""What a file holds, by its first bytes: a name may promise something else.

A compressed file without its suffix, an archive, a page that says "not found", UTF-16, or a whole
file that is one JSON value are not damaged. An error about their records or bytes would lead the
reader astray, so they are recognised before anything is parsed.
"""

import json
import re
import shlex
from typing import NamedTuple

from ..core.choices import FORMATS, Format
from .formats import COMPRESSED, format_of

__all__ = ["HEAD_BYTES", "Content", "how_to_read", "recognise", "recognise_json", "recognise_lines"]

HEAD_BYTES = 64 << 10
"""Bytes at the beginning of a file that are looked at."""


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        name: what it is, as it ends the sentence "the file is ...".
        fix: what the user can do to have it read; `FILE` stands for the file's name.
        formats: the formats that can be read from it as it is.
    """

    name: str
    fix: str
    formats: tuple[Format, ...] = ()

    def in_words(self, name: str) -> str:
        """The fix for a file of this name."""
        return self.fix.replace("FILE", shlex.quote(name))


UNPACK = "unpack it, and name the files that come out"
TAR_ADVICE = (
    "if it is a WebDataset (samples with .txt or .json members), give its name the suffix .tar; "
    f"otherwise {UNPACK}"
)
INDEXED = "name the .bin file beside it in the source"
RENAME = "if that is so, give its name the suffix {}"
BEGINNINGS: dict[bytes, Content] = {
    b"\x1f\x8b": Content("compressed with gzip", RENAME.format(".gz")),
    b"\x28\xb5\x2f\xfd": Content("compressed with zstd", RENAME.format(".zst")),
    b"BZh91AY&SY": Content("compressed with bzip2", RENAME.format(".bz2")),
    b"\xfd7zXZ\0": Content("compressed with xz", RENAME.format(".xz")),
    b"\x04\x22\x4d\x18": Content("compressed with lz4", "decompress it: lz4 -d FILE"),
    b"WARC/1.": Content(
        "a WARC file",
        "if its records are text (WET), give its name the suffix .wet; otherwise extract the text",
        ("wet",),
    ),
    b"PK\x03\x04": Content("a zip archive", UNPACK),
    b"7z\xbc\xaf\x27\x1c": Content("a 7z archive", UNPACK),
    b"Rar!\x1a\x07": Content("a RAR archive", UNPACK),
    # The 0x15 begins the header of the first page.
    b"PAR1\x15": Content("a Parquet file", RENAME.format(".parquet"), ("parquet",)),
    b"ARROW1\0\0": Content("an Arrow file", RENAME.format(".arrow"), ("arrow",)),
    b"\xff\xff\xff\xff": Content("an Arrow stream", RENAME.format(".arrow"), ("arrow",)),
    b"\x93NUMPY": Content("an array of NumPy", RENAME.format(".npy"), ("npy",)),
    b"MMIDIDX\0\0": Content("the index of a Megatron data set", INDEXED),
    b"%PDF-": Content("a PDF document", "extract its text: pdftotext FILE"),
    b"SQLite format 3\0": Content("an SQLite database", "export its records as JSON lines"),
    # Those of UTF-32 come first, since one of them begins with UTF-16's.
    b"\xff\xfe\0\0": Content("UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8 FILE > NEW"),
    b"\0\0\xfe\xff": Content("UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8 FILE > NEW"),
    b"\xff\xfe": Content("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    b"\xfe\xff": Content("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
}
TAR_AT, TAR = 257, b"ustar"
PAGE = re.compile(rb"\s*<(?:!doctype|html|head|\?xml|error)", re.IGNORECASE)
TYPICAL_UTF16 = 0.4
"""The share of zero bytes at even or odd places that shows UTF-16; other text has none."""


def how_to_read(name: str, head: bytes) -> str:
    """What the user can do with a file whose name shows no format.

    Args:
        name: the file's name.
        head: its first bytes.
    """
    content = recognise(head)
    if content is not None and content.formats:
        return f"add ,format={content.formats[0]} to the source: it seems to be {content.name}"
    if content is not None and content.name == f"compressed with {format_of(name)[1]}":
        return (
            f"add ,format=F to the source if it is one of {', '.join(COMPRESSED)}; "
            "otherwise decompress it"
        )
    if content is not None:
        return f"it seems to be {content.name}: {content.in_words(name)}"
    return f"add ,format=F to the source, where F is one of {', '.join(FORMATS)}"


def recognise(head: bytes) -> Content | None:
    """What the first bytes of a file show; None for text, and for what is not known."""
    for beginning, content in BEGINNINGS.items():
        if head.startswith(beginning):
            return content
    if head[TAR_AT:].startswith(TAR):
        return Content("a tar archive", TAR_ADVICE, ("webdataset",))
    for first, order in ((0, "BE"), (1, "LE")):
        half = head[first:1000:2]
        if (
            len(half) >= 4
            and half.count(0) > TYPICAL_UTF16 * len(half)
            and any(head[1 - first : 1000 : 2])
        ):
            return Content(
                "UTF-16 text",
                f"if that is so, convert it: iconv -f UTF-16{order} -t UTF-8 FILE > NEW",
            )
    return None


def recognise_lines(head: bytes) -> Content | None:
    """What the first bytes show of a file that should have records on lines; None if it may."""
    known = recognise(head)
    if known is None and PAGE.match(head):
        return Content(
            "an HTML or XML page, perhaps the error of a download that failed",
            "look at it, and download the file again",
        )
    return known


def recognise_json(head: bytes) -> Content | None:
    """What the first bytes show of a file that should be JSON Lines; None if that may be true."""
    known = recognise_lines(head)
    if known is not None:
        return known
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if text.startswith("["):
        return _array(text, is_all=len(head) < HEAD_BYTES)
    return _object(text) if text.startswith("{") else None


def _array(text: str, *, is_all: bool) -> Content | None:
    """A file that is one array; a line that is an array may be one bad record among good ones."""
    line, _, rest = text.partition("\n")
    if _is_json(line) and (rest.strip() or not is_all):
        return None
    return Content(
        "one JSON array, not JSON Lines",
        "write each record on its line: jq -c '.[]' FILE > NEW.jsonl",
    )


def _object(text: str) -> Content | None:
    """An object that goes on after its first line, up to something that its second line has."""
    first, _, rest = text.partition("\n")
    second = len(first) + 1 + len(rest) - len(rest.lstrip())
    try:
        value, end = json.JSONDecoder().raw_decode(text)
        if end <= second:
            return None
        arrays = [key for key, part in value.items() if isinstance(part, list)]
    except json.JSONDecodeError as error:
        if error.pos <= second:
            return None
        arrays = re.findall(r'^\{\s*"(\w+)"\s*:\s*\[', text)
    except (RecursionError, ValueError):
        return None
    records = f".{arrays[0]}[]" if len(arrays) == 1 and arrays[0].isidentifier() else "."
    return Content(
        "JSON that has a value over several lines, not JSON Lines",
        f"write each record on its line: jq -c '{records}' FILE > NEW.jsonl",
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (RecursionError, ValueError):
        return False
    return True
