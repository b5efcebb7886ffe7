from pathlib import Path

import pytest
import xxhash
from corpora import ANNEX, LFS, find, put
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources import scanning
from exactcpt.pipeline.sources.scanning import refuse_pointer_file, scan
from exactcpt.schemas.errors import ExactcptError


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


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.arrow", "a.txt"])
@pytest.mark.parametrize("pointer", [LFS, ANNEX])
def test_pointers_are_no_data(memory: str, tmp_path: Path, name: str, pointer: bytes) -> None:
    """Local ones are refused when they are listed, before any work."""
    put(f"{memory}/{name}", pointer)
    [file] = find(memory)
    with pytest.raises(ExactcptError, match=r"this is a (Git LFS|git-annex) pointer"):
        scan(file, [])
    with pytest.raises(ExactcptError, match=r"this is a (Git LFS|git-annex) pointer"):
        refuse_pointer_file(file)
    (tmp_path / name).write_bytes(pointer)
    for pattern in (tmp_path, tmp_path / name, tmp_path / "*"):
        with pytest.raises(ExactcptError, match=r"this is a (Git LFS|git-annex) pointer"):
            find(pattern)
