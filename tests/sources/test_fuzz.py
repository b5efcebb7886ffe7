"""Mutations of good input, drawn from a seed: both ways of reading agree, and errors are our own.

`EXACTCPT_FUZZ_CASES=1000000 EXACTCPT_FUZZ_SEED=7 pytest tests/sources/test_fuzz.py` tries more.
"""

import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exactcpt.pipeline.config import SourceConfig, parse_source
from exactcpt.pipeline.sources.jsonl import _parse_line_by_line, _parse_with_arrow
from exactcpt.pipeline.sources.listing import Source, find_files
from exactcpt.pipeline.sources.reading import read_member
from exactcpt.pipeline.sources.records import Batch, Fields
from exactcpt.pipeline.sources.splits import make_splits
from exactcpt.schemas.errors import ExactcptError

CASES = int(os.environ.get("EXACTCPT_FUZZ_CASES", "3000"))
SEED = int(os.environ.get("EXACTCPT_FUZZ_SEED", "0"))

FIELDS = [
    Fields(),
    Fields(tokens="tokens", largest_id=98),
    Fields(text="text", id="text"),
    Fields(text="a.b", id="_id"),
]
GOOD = [
    b'{"text":"good","tokens":[1],"id":"x"}',
    rb'{"id": 5, "text": "a\u0000b\ud83d\ude00"}',
    b'{"text":"t","meta":{"a":[1,2,{"b":null}]},"id":null}',
    b'{"tokens":[],"text":""}',
    b'{"a.b":"q","_id":9223372036854775807,"text":"x","tokens":[98,0]}',
    '{"text":"\u2028\u0085\u00e9","id":-0}'.encode(),
]
TOKENS = rb"""
    { } [ ] " \ , : ' / // /*x*/ null true NaN Infinity -Inf -Infinity - -0 0x10 +1 .5 5. 01 1.0 1e2
    1e400 1e-400 2147483648 9223372036854775808 99999999999999999999 \ud800 \udc00 \u0000 \/ \x41
    "text" "text":null "text":"dup", "te\u0078t" "id": "id":true "id":[1] "id":{"a":1} "tokens":
    [1,null] [1,[2]] {"text":"x"} {} {"x":{"x":{"x": "2020-01-01" "1"
"""
BYTES = [b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc2\xa0", b"\xe2\x80\xa8", b"\0"]
SPACES = [b"\t", b" ", b"\r", b"\n", b"\r\n", b"\x0b", b"\x0c", b"\x1f"]
WORDS = [*TOKENS.split(), *BYTES, *SPACES, b"9" * 5000, b"[" * 300]


def mutated(draw: random.Random) -> bytes:
    """Some good lines with a few changes."""
    newline = draw.choice([b"\n", b"\r\n"])
    lines = newline.join(draw.choice(GOOD) for _ in range(draw.randint(1, 4)))
    data = bytearray(lines + draw.choice([b"", b"\n", b"\r\n", b"\n\n", b" \n"]))
    for _ in range(draw.choice([0, 1, 1, 1, 2, 3])):
        start = draw.randrange(len(data) + 1)
        stop = min(len(data), start + draw.choice([0, 0, 1, 1, 2, 5]))
        match draw.randrange(10):
            case 7:
                data[start:stop] = bytes([draw.randrange(256)])
            case 8:
                del data[start:stop]
            case 9 if data:
                copied = draw.randrange(len(data))
                data[start:start] = data[copied : copied + draw.randint(1, 12)]
            case _:
                data[start:stop] = draw.choice(WORDS)
    return bytes(data)


def shown(batch: Batch) -> tuple[Any, ...]:
    documents = [batch.content[i].tobytes() for i in range(len(batch.content))]
    return batch.ids.to_pylist(), documents, batch.rejected, batch.without_id


def test_both_ways_of_reading_lines_agree() -> None:
    draw = random.Random(SEED)
    fast = 0
    for _ in range(CASES):
        block, fields = mutated(draw), draw.choice(FIELDS)
        slow = _parse_line_by_line(block, 7, "f", fields)
        batch = _parse_with_arrow(block, 7, "f", fields)
        if batch is not None:
            fast += 1
            assert shown(batch) == shown(slow), (block, fields)
    assert 0.05 < fast / CASES < 0.9, "both ways are taken"


def test_any_file_gives_records_or_an_error_of_ours(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    suffixes = [".jsonl", ".txt", ".jsonl.gz", ".jsonl.zst", ".txt.bz2", ".json.xz", ".parquet"]
    suffixes += [".arrow", ".csv", ".tsv.gz", ".tar", ".wet", ".wet.gz"]
    for _ in range(CASES // 10):
        path = tmp_path / f"a{draw.choice(suffixes)}"
        data = mutated(draw)
        path.write_bytes(data if draw.random() < 0.8 else draw.randbytes(len(data)))
        fields = draw.choice(FIELDS)
        fields = Fields(text=fields.text, id=fields.id, max_bytes=draw.choice([20, 1 << 20]))
        with suppress(ExactcptError):
            files = find_files(Source(name="s", pattern=str(path), fields=fields)).files
            for split in make_splits(files, draw.choice([10, 1 << 20])):
                for member in split.members:
                    for batch in read_member(member, fields):
                        assert np.all(np.diff(batch.content.offsets) >= 0)
        path.unlink()


TEXTS = """
    a = , text= id= tokens= epochs= share= format= jsonl hub 1 -1 nan inf 1e309 0x1 _ 1_0
    * ? [ ] ** ../ / file:// memory:// :: %2e ~ $HOME . ' "
"""
PIECES = [*TEXTS.split(), "\u0661", " ", "\n", "\0", "\ud800", "\x1b[31m", "\U0001f4a5", ""]


def test_source_specs_are_read_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(SEED)
    for _ in range(CASES):
        text = "".join(draw.choice(PIECES) for _ in range(draw.randint(0, 9)))
        if draw.random() < 0.5:
            text = f"a=b{text}"
        try:
            source = parse_source(text)
        except ExactcptError as error:
            str(error).encode("utf-8", "surrogateescape" if "\udcff" in text else "replace")
            continue
        check(source)


def check(source: SourceConfig) -> None:
    """A source that is accepted can be printed, written into a manifest, and looked for."""
    assert source.name.isprintable()
    assert source.epochs is None or 0 <= source.epochs <= 1000
    for text in (source.name, source.pattern, source.text, source.id, source.tokens or ""):
        text.encode()
        assert "\0" not in text
    if source.format != "hub" and not source.pattern.startswith(("/", "~", "..")):
        fields = Fields(text=source.text, id=source.id, tokens=source.tokens)
        with suppress(ExactcptError):
            find_files(Source(name=source.name, pattern=source.pattern, fields=fields))
