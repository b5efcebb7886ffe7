from pathlib import Path

import pytest
import xxhash
from corpora import (
    find,
)
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources import scanning
from exactcpt.pipeline.sources.scanning import scan


@given(data=st.binary(max_size=60), offsets=st.lists(st.integers(0, 60)), block=st.integers(1, 9))
def test_scan(folder: Path, data: bytes, offsets: list[int], block: int) -> None:
    data = data.replace(b"\1", b"\n")
    (folder / "scan.jsonl").write_bytes(data)
    [file] = find(folder / "scan.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "READ_BYTES", block)
        facts = scan(file, offsets)
    assert facts.xxh3_128 == xxhash.xxh3_128_hexdigest(data)
    assert facts.newlines == {at: data[:at].count(b"\n") for at in offsets}
