import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources import lines
from exactcpt.pipeline.sources.lines import LongLineError, blocks_of_lines, rest_of_line


@given(
    content=st.lists(st.sampled_from([b"", b"a", b"bb", b"c" * 9]), max_size=8),
    block_bytes=st.integers(1, 12),
    limit=st.integers(1, 10),
    start=st.integers(0, 30),
    size=st.none() | st.integers(0, 30),
)
def test_the_same_lines_or_the_same_error_for_any_block(
    content: list[bytes], block_bytes: int, limit: int, start: int, size: int | None
) -> None:
    data = b"\n".join(content)[start:]
    stream = io.BytesIO(data)
    # What begins in the first `size` bytes, up to the end of the line that goes on after them.
    whole = data if size is None else data[:size]
    if size is not None and whole and not whole.endswith(b"\n"):
        whole += data[size:].partition(b"\n")[0] + (b"\n" if b"\n" in data[size:] else b"")
    long = [i for i, line in enumerate(whole.split(b"\n")) if len(line) > limit]
    read, found = b"", None
    try:
        for block in blocks_of_lines(stream, block_bytes, size, limit):
            read += block
    except LongLineError as error:
        found = read.count(b"\n") + error.index
    assert found == (long[0] if long else None)
    assert read == whole if not long else whole.startswith(read)


@given(data=st.binary(max_size=20).map(lambda b: b.replace(b"\x00", b"\n")), step=st.integers(1, 5))
def test_the_rest_of_a_line(data: bytes, step: int) -> None:
    stream = io.BytesIO(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "STEP_BYTES", step)
        rest = rest_of_line(stream, 100)
    assert rest == io.BytesIO(data).readline()
    assert stream.tell() == len(rest)


class Endless:
    """A stream of one letter that counts what is read."""

    position = 0

    def read(self, size: int) -> bytes:
        self.position += size
        return b"a" * size


@pytest.mark.parametrize("remaining", [None, 10])
def test_no_more_of_a_long_line_is_read_than_the_limit(remaining: int | None) -> None:
    stream = Endless()
    with pytest.raises(LongLineError):
        list(blocks_of_lines(stream, 1000, remaining, 500_000))
    assert stream.position <= 500_000 + lines.STEP_BYTES + 1000
