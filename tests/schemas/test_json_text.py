import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.json_text import MOST_LEVELS, parse_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**100), 2**100)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES)
def test_what_json_can_say_is_read(value):
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "an object has the key 'c' twice"),
        (b'{"\\u0061": 1, "a": 1}', "an object has the key 'a' twice"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"[1e999]", "the number 1e999 is too large"),
        (b"[-1e999]", "the number -1e999 is too large"),
        (b"[" + b"9" * 5000 + b"]", "has more than 40 digits"),
        (b"[" * 200_000, "nested in more than 100 levels"),
        (b"[" * 200 + b"]" * 200, "nested in more than 100 levels"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "nested in more than 100 levels"),
        ("{}".encode("utf-16"), "it is not UTF-8 at byte 0"),
        (b'"caf\xe9"', "it is not UTF-8 at byte 4"),
        (b"\xef\xbb\xbf{}", "Unexpected UTF-8 BOM"),
        (b"{} {}", "Extra data"),
        (b"", "Expecting value"),
    ],
)
def test_what_is_refused(data, says):
    with pytest.raises(ValueError) as caught:
        parse_json(data)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 200


def test_as_deep_as_it_may_be():
    data = b"[" * MOST_LEVELS + b"]" * MOST_LEVELS
    assert json.dumps(parse_json(data)).encode() == data


def test_half_characters_are_read():
    """Names of files that are not UTF-8 are written so."""
    assert parse_json(b'"na\\udcefve"') == "na\udcefve"


def test_the_largest_float_is_finite():
    assert math.isfinite(parse_json(b"1.7976931348623157e308"))
