import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources.content import (
    BEGINNINGS,
    HEAD_BYTES,
    recognise,
    recognise_json,
)

RECORDS = [{"id": f"g{i}", "text": "a line of text"} for i in range(5)]
LINES = "\n".join(map(json.dumps, RECORDS))
ARRAY = "one JSON array, not JSON Lines"
OVER_LINES = "JSON that has a value over several lines, not JSON Lines"


def named(text: str | bytes) -> str | None:
    data = text.encode() if isinstance(text, str) else text
    content = recognise_json(data[:HEAD_BYTES])
    return content.name if content else None


@pytest.mark.parametrize("beginning", BEGINNINGS, ids=repr)
def test_magic_bytes(beginning: bytes) -> None:
    content = recognise(beginning + b"whatever follows")
    assert content == BEGINNINGS[beginning] == recognise_json(beginning)
    assert recognise(b"a" + beginning) is None or b"\0" in beginning


def test_a_tar_archive() -> None:
    content = recognise(b"a.txt".ljust(257, b"\0") + b"ustar\x0000")
    assert content is not None
    assert content.name == "a tar archive"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_encodings_and_the_command_that_converts_them(encoding: str) -> None:
    content = recognise(LINES.encode(encoding))
    assert content is not None
    assert content.name == f"{encoding.upper()[:6]} text"
    assert f"iconv -f {encoding.upper().replace('-LE', 'LE').replace('-BE', 'BE')} " in content.fix


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_no_text_is_taken_for_another_encoding(text: str) -> None:
    assert recognise(text.encode()) is None or text.startswith(("%PDF-", "BZh91AY&SY"))


@pytest.mark.parametrize("indent", [None, 1, "\t"])
@pytest.mark.parametrize("count", [0, 1, 5, 5000])
def test_an_array(indent: int | str | None, count: int) -> None:
    assert named(json.dumps([RECORDS[0]] * count, indent=indent)) == ARRAY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[{LINES.replace(chr(10), f',{chr(10)}')}]", ARRAY),
        ('[\n{"text":"%s"}]' % ("x" * HEAD_BYTES), ARRAY),
        ("\ufeff \r\n[\r\n", ARRAY),
        ("[" * 200_000 + "]" * 200_000, ARRAY),
        # A bad record among good ones does not make the whole file something else.
        ("[]\n" + LINES, None),
        ('["a"]\n' + LINES, None),
        ("{\n" + LINES, None),
        ("{\r\n" + LINES, None),
        ('{"text":"cut off\n' + LINES, None),
        ('{"a":1,\n' + LINES, None),
        ("oops\n" + LINES, None),
        (LINES, None),
        (LINES.replace("\n", "\n\n"), None),
        ('{"a":' * 200_000, None),
        ('{"text":1,"n":%s}\n{}' % ("9" * 5000), None),
        ("", None),
        ("\n\n", None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_json_may_be(text: str, expected: str | None) -> None:
    assert named(text) == expected


@pytest.mark.parametrize(
    ("value", "records"),
    [
        (RECORDS[0], "."),
        ({"version": 1, "data": RECORDS}, ".data[]"),
        ({"rows": RECORDS * 2000}, ".rows[]"),
        ({"a": [], "b": []}, "."),
        ({"no name": RECORDS}, "."),
    ],
)
def test_an_object_over_several_lines(value: object, records: str) -> None:
    content = recognise_json(json.dumps(value, indent=2).encode()[:HEAD_BYTES])
    assert content is not None
    assert content.name == OVER_LINES
    assert f"jq -c '{records}' FILE" in content.fix


@pytest.mark.parametrize("page", ["<!DOCTYPE html>", "\n<HTML>", '<?xml version="1.0"?><Error>'])
def test_a_page(page: str) -> None:
    assert "a download that failed" in (named(page) or "")
    assert recognise(page.encode()) is None, "a text may be a page"


@given(st.binary(max_size=80) | st.lists(st.sampled_from('[]{}",:\n 1a'), max_size=20).map("".join))
def test_any_bytes_are_looked_at_without_an_error(data: bytes | str) -> None:
    named(data)
