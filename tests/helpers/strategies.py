"""Hypothesis strategies for what the core takes."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from exactcpt.pipeline.core.buckets import bucket_count
from exactcpt.pipeline.core.parameters import Exact

POWERS = tuple(2**k + d for k in range(2, 8) for d in (-1, 0, 1))

Counts = list[int]


def windows(largest: int = 300) -> st.SearchStrategy[int]:
    """Window lengths, with powers of two and their neighbours often among them."""
    edges = [2, *(window for window in POWERS if window <= largest)]
    return st.sampled_from(edges) | st.integers(2, largest)


def arrays_of(lengths: list[int]) -> st.SearchStrategy[NDArray[np.integer]]:
    """The lengths as an array of one of the types they come in."""
    kinds = st.sampled_from([np.int32, np.int64, np.uint32])
    return kinds.map(lambda kind: np.array(lengths, dtype=kind))


@st.composite
def segments(draw: st.DrawFn, largest_window: int = 150) -> tuple[NDArray[np.integer], int]:
    """Segment lengths in 1..window, and the window."""
    window = draw(windows(largest_window))
    length = st.integers(1, window) | st.sampled_from([1, window])
    return draw(st.lists(length, max_size=20).flatmap(arrays_of)), window


@st.composite
def documents(
    draw: st.DrawFn, largest_window: int = 40, most: int = 25
) -> tuple[NDArray[np.integer], int]:
    """Document lengths and a window: short ones, multiples of the window, and their neighbours."""
    window = draw(windows(largest_window))
    near = [n for k in range(1, 4) for n in (k * window - 1, k * window, k * window + 1)]
    length = (
        st.integers(1, 3 * window) | st.integers(1, max(1, window // 3)) | st.sampled_from(near)
    )
    return draw(st.lists(length, max_size=most).flatmap(arrays_of)), window


@st.composite
def runs(draw: st.DrawFn, length: int) -> list[tuple[int, int]]:
    """Supervised runs of a document, in order and apart from each other; at least one."""
    kinds = st.lists(st.booleans(), min_size=length, max_size=length).filter(any)
    common = st.sampled_from([[True] * length, [False] * (length - 1) + [True]])
    found: list[tuple[int, int]] = []
    for at, inside in enumerate(draw(kinds | common)):
        if inside and found and found[-1][1] == at:
            found[-1] = (found[-1][0], at + 1)
        elif inside:
            found.append((at, at + 1))
    return found


@st.composite
def exacts(draw: st.DrawFn, capped: bool = False) -> Exact:
    """Parameters of the weighting; with `capped` always a ceiling that leaves room for alpha."""
    alpha = draw(st.sampled_from([0.0, 0.15, 1.0]) | st.floats(0, 5))
    spare = draw(st.sampled_from([0.0, 0.01, 0.5]) | st.floats(0, 20))
    return Exact(
        tau=draw(st.sampled_from([0, 1, 8, 9, 64, 1024]) | st.integers(0, 5000)),
        alpha=alpha,
        gamma=draw(st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(0, 4)),
        epsilon=draw(st.sampled_from([0.0, 1e-8, 1e-3, 1.0])),
        max_weight=1 + alpha + spare if capped else None,
    )


@st.composite
def histograms(draw: st.DrawFn) -> tuple[Counts, int]:
    """Counts per bucket, from none to 2^60, and the window they belong to."""
    window = draw(st.sampled_from([2, 8, 9, 4096, 8192]) | st.integers(2, 20_000))
    count = st.sampled_from([0, 1, 2**60]) | st.integers(0, 1000) | st.integers(0, 2**60)
    n_buckets = bucket_count(window)
    return draw(st.lists(count, min_size=n_buckets, max_size=n_buckets)), window


# JSON lines as people and programs write them, right and wrong.

DEEP = 1500
"""Levels of nesting: more than Python's recursion has."""

JSON_STRINGS = [
    b'""',
    b'"a"',
    '"é \U0001f600"'.encode(),
    rb'"\u0000"',
    rb'"\ud83d\ude00"',
    rb'"\ud800"',
    rb'"\udc00"',
    rb'"NaN, [Inf] :Infinity}"',
    b'": NaN}"',
    b'"}"',
    rb'"\"}{\""',
    b'"12"',
    rb'"\x"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\xc3',
    b'"a\0b"',
    b'"\x01"',
    b'"a\tb"',
    b'"\r"',
    b'"',
    b"'a'",
]
JSON_NUMBERS = [
    *b"0 -0 12 -3 007 1.0 1e2 1e999 -1e999 1. .5 +1 - 2147483648 9223372036854775807".split(),
    *b"9223372036854775808 NaN -NaN Inf -Inf Infinity -Infinity nan".split(),
    b"9" * 5000,
]
JSON_OTHERS = [
    *b"true false null True [] {} [1,2] [1,[2]] [1,true] [1,1.0] [1,null] [1, [-1] [-0]".split(),
    *b'["1"] [98] [99] [2147483648] [9223372036854775808] [NaN] [1,Infinity] [{}]'.split(),
    b'{"text":"inner"}',
    b"[" * DEEP + b"]" * DEEP,
    b"[" * DEEP + b'"NaN"' + b"]" * DEEP,
    b"[" * DEEP + b"NaN" + b"]" * DEEP,
    b'{"id":' * DEEP + b"1" + b"}" * DEEP,
    b"",
]
JSON_KEYS = [b'"text"', b'"id"', b'"tokens"', b'"other"', rb'"te\u0078t"', rb'"text\u0000"', b'""']
ODD_LINES = [
    *b'[] [{"text":"a"}] 1 null "a" { } } {"text":"a"}{"text":"b"} {"text":"a"},{} {}{}'.split(),
    b"",
    b" ",
    b"\t\r",
    b"\x0c",
    b'{"text":\r"a"}',
    b' {"text":"a"} ',
    b'\xef\xbb\xbf{"text":"a"}',
    b'{"text":"a"}\r{"text":"b"}',
    b'{"text":"a"}//}',
    b'{"text":"a",\n"id":"over lines"}',
    b'{"text":"a","other":{}\n}',
    b'{"text":"{\n}"}',
    b'{"text":"a"}\0',
    b'{"text":"a"}\0}',
    b'{"text":"a"}null{"text":"b"}',
    b'{"text":"a"} \rnull\t}',
    b'{"other":\n{"y":1},"text":"a"}\n{"text":"b"}{"text":"c"}',
    b'{"text":"}null"}',
]


@st.composite
def json_objects(draw: st.DrawFn) -> bytes:
    """A JSON object, or nearly one, with some of the fields that are read."""
    good = st.sampled_from([b'"a"', b'"b\\n"', b"7", b"[1,2]", b"null"])
    odd = st.sampled_from(JSON_STRINGS + JSON_NUMBERS + JSON_OTHERS)
    fields = st.tuples(st.sampled_from(JSON_KEYS), good | odd)
    members = draw(st.lists(fields, max_size=4))
    if draw(st.booleans()):
        members.append((b'"text"', b'"a"'))
    if draw(st.booleans()):
        members.append((b'"tokens"', b"[0,98]"))
    space = draw(st.sampled_from([b"", b" ", b"\t", b"\r"]))
    return b"{" + (b"," + space).join(k + b":" + space + v for k, v in members) + b"}"


@st.composite
def json_blocks(draw: st.DrawFn) -> bytes:
    """Lines, good ones and at most a few odd ones, so that both ways of reading them are taken."""
    plain = st.sampled_from(
        [
            b'{"text":"a","id":"x","tokens":[1,2]}',
            b'{"id":5,"text":"b","tokens":[]}',
            '{"tokens":[98],"text":"ü\\n"}'.encode(),
            b'{"text":"NaN: Inf","tokens":[0],"other":{"text":1}}',
        ]
    )
    lines = draw(st.lists(plain, max_size=4))
    for line in draw(st.lists(json_objects() | st.sampled_from(ODD_LINES), max_size=3)):
        lines.insert(draw(st.integers(0, len(lines))), line)
    block = draw(st.sampled_from([b"\n", b"\r\n"])).join(lines)
    return block + draw(st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]))
