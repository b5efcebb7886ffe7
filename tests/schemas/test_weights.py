"""Weight tables as files."""

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.core.buckets import bucket_count, bucket_of, lower_edges
from exactcpt.pipeline.core.parameters import PARAMETERS
from exactcpt.schemas.errors import FormatError
from exactcpt.schemas.weights import (
    TABLE_SETTINGS,
    bucket_ranges,
    dump_table,
    is_weight,
    parse_table,
)

SETTINGS = {"window": 64, "tau": 16, "alpha": 0.5, "gamma": 1.0, "epsilon": 0.0, "max_weight": None}
windows = st.integers(2, 1 << 20)


@given(windows)
def test_the_buckets_are_those_of_the_shards(window):
    ranges = bucket_ranges(window)
    assert [low for low, _ in ranges] == lower_edges(bucket_count(window)).tolist()
    assert all(bucket_of(high) == b for b, (_, high) in enumerate(ranges))
    assert ranges[-1][1] == window - 1


def test_a_table_says_all_parameters_that_it_was_computed_with():
    assert TABLE_SETTINGS == PARAMETERS


@given(windows, st.data())
def test_what_is_written_is_read(window, data):
    weight = st.floats(2.0**-126, 3e38)
    n = bucket_count(window)
    weights = data.draw(st.lists(weight, min_size=n, max_size=n))
    assert parse_table(dump_table(window, weights, None), "here", window) == weights


def test_the_file():
    assert json.loads(dump_table(64, [1.0, 1.0, 1.5, 2.0], SETTINGS)) == {
        "format": "exactcpt weight table",
        "format_version": 1,
        "window": 64,
        "settings": {
            "tau": 16,
            "alpha": 0.5,
            "gamma": 1.0,
            "epsilon": 0.0,
            "max_weight": None,
        },
        "buckets": [
            {"bucket": 0, "low": 0, "high": 7, "weight": 1.0},
            {"bucket": 1, "low": 8, "high": 15, "weight": 1.0},
            {"bucket": 2, "low": 16, "high": 31, "weight": 1.5},
            {"bucket": 3, "low": 32, "high": 63, "weight": 2.0},
        ],
    }


@given(st.floats())
def test_a_weight_is_what_float32_can_say(value):
    try:
        rounded = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        rounded = math.inf
    assert is_weight(value) == (0 < rounded < math.inf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.update(window=128),
            "the weight table is for windows of 128 tokens\n"
            "  where:    t.json\n"
            "  expected: 64\n"
            "  fix:      write one for these shards with `exactcpt reweigh --table-only`",
        ),
        (
            lambda t: t["buckets"].pop(),
            "the weight table has 3 buckets\n"
            "  where:    t.json\n"
            "  expected: 4 for windows of 64 tokens",
        ),
        (
            lambda t: t["buckets"].reverse(),
            "bucket 3 has contexts 32 to 63\n"
            "  where:    t.json at $.buckets[0]\n"
            "  expected: bucket 0 with contexts 0 to 7",
        ),
        (
            lambda t: t["buckets"][1].update(weight=1e39),
            "bucket 1 has weight 1e+39\n"
            "  where:    t.json at $.buckets[1].weight\n"
            "  expected: a finite number above 0, in float32 too; 0 would mean no target",
        ),
        (
            lambda t: t["buckets"][1].update(weight=0),
            "the weight table is not valid: 0 is less than or equal to the minimum of 0\n"
            "  where:    t.json at $.buckets[1].weight",
        ),
        (
            lambda t: t.update(format_version=2),
            "the exactcpt weight table has format version 2\n"
            "  where:    t.json\n"
            "  expected: at most 1\n"
            "  fix:      update exactcpt",
        ),
    ],
)
def test_errors(change, message):
    table = json.loads(dump_table(64, [1.0] * 4, None))
    change(table)
    with pytest.raises(FormatError) as raised:
        parse_table(json.dumps(table).encode(), "t.json", 64)
    assert str(raised.value) == message


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_what_json_has_no_number_for(weight):
    table = json.loads(dump_table(64, [1.0] * 4, None))
    table["buckets"][1]["weight"] = weight
    with pytest.raises(FormatError, match="is not a JSON number"):
        parse_table(json.dumps(table).encode(), "t.json", 64)


def test_no_json():
    with pytest.raises(FormatError, match="the weight table is not JSON"):
        parse_table(b"{", "t.json", 64)
