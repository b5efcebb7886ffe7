"""Windows are checked value by value; `handmade` says what they have to be."""

import io
import random
from typing import Any

import handmade
import numpy as np
import pyarrow as pa
import pytest
from handmade import Corpus, Document
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas import shard
from exactcpt.schemas.ipc import is_compressed
from exactcpt.schemas.windows import (
    SEGMENT_COLUMNS,
    check_batch,
    expected_codes,
    histogram_of,
    open_shard,
    segment_columns,
    segments_of,
    targets_by_bucket,
    tokens_of,
)

WINDOW = 64
WEIGHTS = np.array([0.0, 1.0, 1.25, 1.5, 1.75], np.float32)
CORPUS = Corpus([("a", [Document(n) for n in (40, 3, 1, 90, 64, 2, 17)])], window=WINDOW)


def columns() -> dict[str, list[Any]]:
    found = handmade.shard_columns(CORPUS, handmade.pack(CORPUS, "train"))
    return found | {"dictionary": WEIGHTS.tolist()}


def batch_of(values: dict[str, list[Any]], tmp_path: Any) -> pa.RecordBatch:
    handmade.write_shard(tmp_path / "s.arrow", values, shard.shard_schema(WINDOW))
    with pa.memory_map(str(tmp_path / "s.arrow")) as source:
        return open_shard(source, WINDOW).get_batch(0)


def check(batch: pa.RecordBatch) -> None:
    check_batch(batch, WINDOW, WEIGHTS, handmade.LARGEST)


def test_a_good_batch(tmp_path):
    batch = batch_of(columns(), tmp_path)
    check(batch)
    segments = segments_of(batch, WINDOW)
    assert np.diff(segments.bounds).tolist() == [len(row) for row in columns()["seq_lengths"]]
    assert segments.length.tolist() == [n for row in columns()["seq_lengths"] for n in row]
    ids, codes = tokens_of(batch, WINDOW, WEIGHTS)
    assert ids.tolist() == columns()["input_ids"]
    assert codes.tolist() == columns()["codes"]


def test_a_slice_of_a_batch(tmp_path):
    batch = batch_of(columns(), tmp_path)
    for row in range(batch.num_rows):
        check(batch.slice(row, 1))


@pytest.mark.parametrize("position", range(WINDOW))
def test_every_wrong_code_is_found(tmp_path, position):
    values = columns()
    values["codes"][1][position] ^= 1
    with pytest.raises(ValueError, match=f"window 1 has the code . at position {position}, but"):
        check(batch_of(values, tmp_path))


@pytest.mark.parametrize("value", [-1, -(2**31), handmade.LARGEST + 1, 2**31 - 1])
def test_every_id_that_is_none_is_found(tmp_path, value):
    values, draw = columns(), random.Random(value)
    position = draw.randrange(WINDOW)
    values["input_ids"][2][position] = value
    with pytest.raises(ValueError, match=f"window 2 has the id {value} at position {position},"):
        check(batch_of(values, tmp_path))


@pytest.mark.parametrize(
    ("column", "row", "says"),
    [
        ("seq_lengths", [40, 3, 1, 21], "do not add up to 64 tokens"),
        ("seq_lengths", [40, 3, 1, 0], "that is not 1 to 64 tokens long"),
        ("seq_lengths", [40, 3, 1, 65], "that is not 1 to 64 tokens long"),
        ("doc_index", [0, 1, 2], "has different numbers of entries"),
        ("doc_index", [0, -1, 2, 3], "has padding before its end"),
        ("doc_index", [0, -2, 2, 3], "has a negative doc_index that is not padding"),
        ("doc_offset", [0, -1, 0, 0], "has a doc_offset below 0"),
    ],
)
def test_segments_that_are_none(tmp_path, column, row, says):
    values = columns()
    assert len(values["seq_lengths"][0]) == 4
    values[column][0] = row
    with pytest.raises(ValueError, match=f"window 0 .*{says}"):
        check(batch_of(values, tmp_path))


def test_other_weights(tmp_path):
    values = columns() | {"dictionary": [0.0, 1.0, 1.0, 1.5, 1.75]}
    with pytest.raises(ValueError, match="but the manifest says"):
        check(batch_of(values, tmp_path))


@pytest.mark.parametrize("window", [2, 3, 7, 8, 9, 64, 100, 4096])
def test_codes(window):
    of_one = [0, *(1 + handmade.bucket(context) for context in range(1, window))]
    for lengths in ([window], [1], [1, 1], [window, 1, 2, window // 2, window]):
        codes = [code for length in lengths for code in of_one[:length]]
        assert expected_codes(np.array(lengths, np.int32), False, window) == bytes(codes)
        codes[len(codes) - lengths[-1] :] = [0] * lengths[-1]
        assert expected_codes(np.array(lengths, np.int32), True, window) == bytes(codes)


@given(st.lists(st.integers(1, WINDOW)))
def test_the_histogram_of_segments(lengths):
    found = targets_by_bucket(np.bincount(lengths, minlength=WINDOW + 1), WINDOW)
    windows = [[(0, 0, length)] for length in lengths]
    assert found == handmade.histogram(windows, WINDOW)


# Files


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_shard(tmp_path, compression):
    path = tmp_path / "s.arrow"
    schema = shard.shard_schema(WINDOW)
    handmade.write_shard(path, columns(), schema, compression=compression)
    with pa.memory_map(str(path)) as source, pytest.raises(ValueError, match="compressed"):
        open_shard(source, WINDOW)


@pytest.mark.parametrize("version", ["V4", "V5"])
def test_a_codec_named_as_arrow_0_17_did(version):
    """Only in files of that version does Arrow decompress what names its codec there."""
    sink, batch = io.BytesIO(), pa.record_batch({"a": [1, 2]})
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion[version])
    with pa.ipc.new_file(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch, custom_metadata={"ARROW:experimental_compression": "zstd"})
    try:
        pa.ipc.open_file(sink.getvalue()).get_batch(0)
        decompresses = False
    except OSError as error:
        decompresses = "decompression" in str(error)
    assert is_compressed(sink) == decompresses == (version == "V4")


def test_columns_of_segments_alone(tmp_path):
    handmade.write_shard(tmp_path / "s.arrow", columns(), shard.shard_schema(WINDOW))
    with (tmp_path / "s.arrow").open("rb") as file:
        batch = open_shard(file, WINDOW, SEGMENT_COLUMNS).get_batch(0)
        assert tuple(batch.schema.names) == SEGMENT_COLUMNS


def test_another_window(tmp_path):
    handmade.write_shard(tmp_path / "s.arrow", columns(), shard.shard_schema(WINDOW))
    with pa.memory_map(str(tmp_path / "s.arrow")) as source, pytest.raises(ValueError, match="has"):
        open_shard(source, 2 * WINDOW)


@pytest.mark.parametrize("data", [b"", b"ARROW1", b"x" * 40, b"ARROW1\0\0" + bytes(40) + b"ARROW1"])
def test_what_is_no_arrow_file(data):
    with pytest.raises(pa.ArrowInvalid):
        is_compressed(io.BytesIO(data))


@given(st.data())
def test_damaged_metadata_is_no_other_error(data):
    """Whatever is in the metadata, the answer is yes, no, or that it is damaged."""
    sink = io.BytesIO()
    batch = pa.record_batch({"a": pa.array(["x", "y"]).dictionary_encode(), "b": [1, 2]})
    options = pa.ipc.IpcWriteOptions(compression=data.draw(st.sampled_from([None, "zstd"])))
    with pa.ipc.new_file(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    whole = bytearray(sink.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 9))
        size = data.draw(st.sampled_from([1, 4, 8]))
        whole[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    try:
        is_compressed(io.BytesIO(bytes(whole)))
    except pa.ArrowInvalid as error:
        assert str(error)


# supervised spans


ANSWERS = Corpus(
    [
        (
            "a",
            [
                Document(40, answers=((3, 9), (30, 40))),
                Document(3, answers=((0, 3),)),
                Document(1),
                Document(90, answers=((5, 6), (85, 90))),
                Document(64, answers=((63, 64),)),
                Document(17, answers=((0, 1), (2, 17))),
            ],
        )
    ],
    window=WINDOW,
)


def answered() -> dict[str, list[Any]]:
    found = handmade.shard_columns(ANSWERS, handmade.pack(ANSWERS, "train"))
    return found | {"dictionary": WEIGHTS.tolist()}


def batch_with_spans(values: dict[str, list[Any]], tmp_path: Any) -> pa.RecordBatch:
    handmade.write_shard(tmp_path / "s.arrow", values, shard.shard_schema(WINDOW, spans=True))
    with pa.memory_map(str(tmp_path / "s.arrow")) as source:
        return open_shard(source, WINDOW, spans=True).get_batch(0)


def test_spans_of_windows(tmp_path):
    batch = batch_with_spans(answered(), tmp_path)
    check(batch)
    segments = segments_of(batch, WINDOW)
    for row, spans in enumerate(answered()["supervised"]):
        found = segments.spans_of(row)
        assert found is not None
        assert found.tolist() == [[span["start"], span["stop"]] for span in spans]
        check(batch.slice(row, 1))
    windows = handmade.pack(ANSWERS, "train")
    expected = handmade.histogram(windows, WINDOW, supervises=ANSWERS.supervises)
    assert histogram_of([segments], WINDOW) == expected
    rows = [segments_of(batch.slice(row, 1), WINDOW) for row in range(batch.num_rows)]
    assert histogram_of(rows, WINDOW) == expected


@pytest.mark.parametrize("position", range(1, WINDOW))
def test_every_wrong_code_is_found_beside_spans(tmp_path, position):
    values = answered()
    values["codes"][1][position] ^= 1
    says = f"window 1 has the code . at position {position}, but (outside|that of its effective)"
    with pytest.raises(ValueError, match=says):
        check(batch_with_spans(values, tmp_path))


@pytest.mark.parametrize(
    ("spans", "says"),
    [
        ([(-1, 2)], "that is no run of its 64 positions"),
        ([(60, 65)], "that is no run of its 64 positions"),
        ([(5, 5)], "that is no run of its 64 positions"),
        ([(7, 5)], "that is no run of its 64 positions"),
        ([(30, 41)], "that goes beyond a segment"),
        ([(3, 9), (9, 12)], "that is not apart from the one before"),
        ([(3, 9), (8, 12)], "that is not apart from the one before"),
        ([(30, 40), (3, 9)], "that is not apart from the one before"),
    ],
)
def test_spans_that_are_none(tmp_path, spans, says):
    values = answered()
    values["supervised"][0] = [{"start": start, "stop": stop} for start, stop in spans]
    with pytest.raises(ValueError, match=f"window 0 has a supervised span .*{says}"):
        segments_of(batch_with_spans(values, tmp_path), WINDOW)


def test_spans_of_two_segments_may_touch(tmp_path):
    values = answered()
    assert {"start": 40, "stop": 43} in values["supervised"][0]
    assert {"start": 30, "stop": 40} in values["supervised"][0]
    check(batch_with_spans(values, tmp_path))


def test_a_span_in_padding(tmp_path):
    values = answered()
    assert values["doc_index"][-1][-1] == shard.PADDING
    values["supervised"][-1].append({"start": 63, "stop": 64})
    with pytest.raises(ValueError, match="in padding"):
        segments_of(batch_with_spans(values, tmp_path), WINDOW)


def test_a_column_that_the_manifest_does_not_tell_of(tmp_path):
    """Without the spans, the codes are wrong; and a set that tells of spans has to have them."""
    batch_with_spans(answered(), tmp_path)
    with pa.memory_map(str(tmp_path / "s.arrow")) as source:
        with pytest.raises(ValueError, match="that of its effective context"):
            check(open_shard(source, WINDOW).get_batch(0))
        batch = open_shard(source, WINDOW, segment_columns(True), spans=True).get_batch(0)
        assert batch.schema.names == [*SEGMENT_COLUMNS, "supervised"]
    handmade.write_shard(tmp_path / "s.arrow", columns(), shard.shard_schema(WINDOW))
    with (
        pa.memory_map(str(tmp_path / "s.arrow")) as source,
        pytest.raises(ValueError, match="it has no column supervised"),
    ):
        open_shard(source, WINDOW, spans=True)
