import json
import tomllib
import unicodedata

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.errors import FormatError
from exactcpt.schemas.printable import escaped_json, escaped_toml, printable

ANY = st.text() | st.text(st.characters(codec=None, categories=["Cc", "Cf", "Cs", "Zl", "Zp"]))
WHOLE = st.text() | st.text(st.characters(categories=["Cc", "Cf", "Zl", "Zp"]))
"""Without half characters: two of them are one whole to JSON, and nothing to TOML."""
OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")


def is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in OBEYED and character not in "\n\t\u200c\u200d"


@given(ANY)
def test_nothing_obeyed_is_left(text):
    assert not any(map(is_obeyed, printable(text)))
    assert not any(map(is_obeyed, escaped_json(text)))
    assert not any(map(is_obeyed, escaped_toml(text)))
    assert printable(printable(text)) == printable(text)


@given(st.text(st.characters(exclude_categories=OBEYED)))
def test_other_text_stays(text):
    assert printable(text) == escaped_json(text) == escaped_toml(text) == text


@given(st.dictionaries(WHOLE, WHOLE))
def test_escapes_keep_the_values_of_json(value):
    text = json.dumps(value, ensure_ascii=False)
    assert json.loads(escaped_json(text)) == value


@given(st.dictionaries(WHOLE, WHOLE))
def test_escapes_keep_the_values_of_toml(value):
    assert tomllib.loads(escaped_toml(tomli_w.dumps(value))) == value


def test_names():
    assert printable("a\x1b[31mb\x00\x7f\x9b\r\n\t.") == "a␛[31mb␀␡<U+009B>␍\n\t."
    assert printable("\u202egnp.exe\u2066\udcff") == "<U+202E>gnp.exe<U+2066><U+DCFF>"
    assert printable("می\u200cخواهم 👩\u200d👧") == "می\u200cخواهم 👩\u200d👧"


def test_errors_are_printable():
    evil = "a\x1b]0;x\x07"
    error = FormatError(evil, where=evil, expected=evil, fix=evil)
    assert str(error).count("a␛]0;x␇") == 4
    assert "\x1b" not in str(error)
