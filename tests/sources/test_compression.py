import io
import lzma
import struct
from typing import Any

import pytest
import zstandard
from corpora import COMPRESS, COMPRESSION
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources import compression
from exactcpt.pipeline.sources.compression import DamagedError, DecompressedStream

SUFFIXES = sorted(COMPRESS)
WORDS = b" ".join(b"word %d" % (i * 7919 % 1003) for i in range(3000))

COMPRESSED_WORDS = {suffix: compress(WORDS) for suffix, compress in COMPRESS.items()}


def stream(data: bytes, suffix: str) -> DecompressedStream:
    kind: Any = COMPRESSION[suffix]
    return DecompressedStream(io.BytesIO(data), kind)


def whole(data: bytes, suffix: str, size: int = 1 << 20) -> bytes:
    opened = stream(data, suffix)
    pieces = []
    while piece := opened.read(size):
        pieces.append(piece)
    assert all(len(piece) == size for piece in pieces[:-1])
    return b"".join(pieces)


@given(
    members=st.lists(st.binary(max_size=2000), min_size=1, max_size=4),
    suffix=st.sampled_from(SUFFIXES),
    size=st.integers(1, 3000),
)
def test_members_are_joined(members: list[bytes], suffix: str, size: int) -> None:
    data = b"".join(map(COMPRESS[suffix], members))
    assert whole(data, suffix, size) == b"".join(members)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(steps=st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 9000)), max_size=5))
def test_a_look_ahead_takes_nothing(suffix: str, steps: list[tuple[int, int]]) -> None:
    opened = stream(COMPRESSED_WORDS[suffix], suffix)
    at = 0
    for ahead, size in steps:
        assert opened.peek(ahead) == WORDS[at : at + ahead]
        assert opened.read(size) == WORDS[at : at + size]
        at += size


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_ends_early_or_too_late(suffix: str) -> None:
    data = COMPRESS[suffix](WORDS)
    for cut in range(0, len(data), max(1, len(data) // 50)):
        with pytest.raises(DamagedError, match=r"it ends in the middle|not even a header"):
            whole(data[:cut], suffix)
    for more in (b"something else", data[:9], b"\0" * 512 if suffix != ".xz" else b"xz"):
        with pytest.raises(DamagedError):
            whole(data + more, suffix)


def test_padding_and_skippable_frames_of_the_formats() -> None:
    xz = COMPRESS[".xz"](b"a")
    assert whole(xz + bytes(8) + xz + bytes(4096), ".xz") == b"aa"
    skippable = struct.pack("<II", 0x184D2A50, 5) + b"12345"
    zst = COMPRESS[".zst"](b"a")
    assert whole(skippable + zst + skippable + zst + skippable, ".zst") == b"aa"


def long_window(log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=log, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(WORDS) + compressor.flush()


def test_a_window_of_2_gib_is_read() -> None:
    data = long_window(31)
    assert zstandard.get_frame_parameters(data).window_size == 1 << 31
    assert whole(data, ".zst") == WORDS
    assert whole(COMPRESS[".zst"](b"a ") + data, ".zst") == b"a " + WORDS


def test_no_more_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(long_window(31))
    data[5] = 0b10110 << 3  # the byte that says 2 GiB then says 4 GiB
    with pytest.raises(DamagedError, match="a zstd window of more than 2 GiB of memory"):
        whole(bytes(data), ".zst")
    little = lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 16)  # noqa: E731
    monkeypatch.setitem(compression.DECOMPRESSORS, "xz", little)
    with pytest.raises(DamagedError, match=r"a xz window of more than 2 GiB of memory"):
        whole(COMPRESS[".xz"](WORDS), ".xz")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_bomb_is_read_piece_by_piece(suffix: str) -> None:
    """Reading the beginning of 50 MB of one letter makes only a part of them."""
    opened = stream(COMPRESS[suffix](b"a" * 50_000_000), suffix)
    assert opened.read(1000) == b"a" * 1000
    assert len(opened._ahead) < 17 << 20
    assert opened.read(9_000_000) == b"a" * 9_000_000
