"""verify agrees with files written by hand, and notices every kind of damage to them.

Each entry of MUTATIONS changes one thing in a shard set or store that verify agrees with, and names
the checks that must speak up: those and no others.
"""

import ast
import hashlib
import json
import math
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import handmade
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade import (
    EOS,
    LARGEST,
    PAD,
    Corpus,
    Document,
    edit_documents,
    edit_manifest,
    edit_part,
    edit_shard,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from exactcpt.pipeline import verify as package
from exactcpt.pipeline.beam.each import Job
from exactcpt.pipeline.beam.runner import RunSettings
from exactcpt.pipeline.commands import verify_elsewhere
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.terminal import Console
from exactcpt.pipeline.verify import CHECKS, Report, verify
from exactcpt.pipeline.verify.claims import weight_rows
from exactcpt.pipeline.verify.report import KEPT, Problems
from exactcpt.pipeline.verify.windows import codes_of_contexts, contexts
from exactcpt.schemas import shard
from exactcpt.schemas.errors import FormatError, IncompleteError

WINDOW = 64
FIRST, SECOND = "train/shard-00000-of-00004.arrow", "train/shard-00001-of-00004.arrow"
LAST, VALIDATION = "train/shard-00003-of-00004.arrow", "validation/shard-00000-of-00001.arrow"


@pytest.fixture(autouse=True, scope="module")
def two_windows_a_batch() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "TOKENS_PER_BATCH", 2 * WINDOW)
        yield


def corpus(**changes: Any) -> Corpus:
    """Two sources, one seen twice and one by half, and a duplicate."""
    books = [Document(n, copies=2) for n in (150, 70, 5, 40, 1, 64, 200, 30)]
    notes = [Document(n) for n in (30, 9, 17, 33, 12, 5, 20, 60)]
    for note in notes[1::2]:
        note.copies, note.reason = 0, "mixing"
    notes[2].text = "twice"
    again = Document(17, copies=0, reason="duplicate", text="twice")
    held_out = [Document(n, "validation") for n in (90, 20, 4)]
    parts = [
        ("books", books),
        ("notes", notes[:5]),
        ("notes", [*notes[5:], again]),
        ("books", held_out),
    ]
    mixing = {"books": 2, "notes": 0.4}
    return Corpus(
        **{"parts": parts, "mixing": mixing, "dedup": "exact", "window": WINDOW, **changes}
    )


def written(folder: Path, corpus: Corpus) -> Path:
    handmade.write_store(folder / "store", corpus)
    handmade.write_shards(folder / "shards", corpus, folder / "store")
    return folder


@pytest.fixture(scope="module")
def concat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("concat"), corpus())


@pytest.fixture(scope="module")
def best_fit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("best_fit"), corpus(packing="best_fit"))


def check(folder: Path, *, store: bool = True) -> Report:
    return verify(str(folder / "shards"), str(folder / "store") if store else None)


def by_others(folder: Path, *, store: bool = True) -> Report:
    """The report of units that know only what lies in files, as on a cluster; see `in_turn`."""
    return verify_elsewhere.verify_elsewhere(
        Folder(str(folder / "shards")),
        str(folder / "store") if store else None,
        RunSettings(worker_type="processes"),
        Console(quiet=True),
    )


@pytest.fixture(autouse=True)
def in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a Beam graph: the last unit first, each of the values as a worker gets them."""

    def do_each(job: Job, _settings: RunSettings, _folder: Folder, poll: Callable) -> None:
        for value in reversed(job.values):
            job.unit(*pickle.loads(pickle.dumps((value, job.shared))))
            poll()

    monkeypatch.setattr(verify_elsewhere, "do_each", do_each)


def complaints(report: Report) -> set[str]:
    return {finding.check for finding in report.findings}


# What is right


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
@pytest.mark.parametrize("store", [True, False])
def test_agrees_with_files_written_by_hand(
    packing: str, store: bool, request: pytest.FixtureRequest
) -> None:
    report = check(request.getfixturevalue(packing), store=store)
    assert report.findings == ()
    assert report.ok
    assert [c.name for c in report.checks] == list(CHECKS)
    assert all(c.checked for c in report.checks)
    assert report.documents == 20
    assert by_others(request.getfixturevalue(packing), store=store) == report
    assert report.tokens == sum(d.length * d.copies for d in corpus().documents)
    assert report.windows >= report.tokens // WINDOW


@settings(max_examples=30)
@given(data=st.data(), packing=st.sampled_from(["concat", "best_fit"]))
def test_agrees_with_any_corpus_written_by_hand(
    data: st.DataObject, packing: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    window = data.draw(st.sampled_from([2, 3, 8, 9, 16, 33, 64]))
    document = st.builds(
        Document,
        length=st.integers(1, 4 * window),
        split=st.sampled_from(["train", "train", "validation"]),
    )
    copies = {name: data.draw(st.integers(1, 3)) for name in "ab"}
    parts = data.draw(
        st.lists(st.tuples(st.sampled_from("ab"), st.lists(document, max_size=8)), max_size=4)
    )
    for source, documents in parts:
        for d in documents:
            d.copies = copies[source] if d.split == "train" else 1
    made = corpus(
        parts=parts,
        window=window,
        packing=packing,
        mixing=copies,
        dedup=data.draw(st.sampled_from(["none", "exact"])),
        tau=data.draw(st.sampled_from([0, 8, 16, 1000])),
        max_weight=data.draw(st.sampled_from([None, 1.15, 1.2, 5.0])),
        gamma=data.draw(st.sampled_from([0.0, 0.5, 1.0, 2.5])),
    )
    report = check(written(tmp_path_factory.mktemp("any"), made))
    assert report.findings == ()


def test_a_set_on_another_filesystem(concat: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(f"{concat}/", "/verify/", recursive=True)
    try:
        report = verify("memory://verify/shards", "memory://verify/store")
        assert report == check(concat)
        memory.rm("/verify/shards/tokenizer.json")
        report = verify("memory://verify/shards")
        assert [f.where for f in report.findings] == ["tokenizer.json"]
    finally:
        memory.rm("/verify", recursive=True)


def test_a_path_with_colons_is_a_path(concat: Path, tmp_path: Path) -> None:
    (tmp_path / "a::b").symlink_to(concat)
    assert check(tmp_path / "a::b") == check(concat)


def test_progress_counts_bytes_up_to_all_of_them(concat: Path) -> None:
    calls: list[tuple[int, int]] = []
    shards, store = str(concat / "shards"), str(concat / "store")
    report = verify(shards, store, progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert {total for _, total in calls} == {report.bytes}
    assert calls[-1] == (report.bytes, report.bytes)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_contexts_are_the_visible_tokens_of_a_mask(lengths: list[int]) -> None:
    segment = [i for i, length in enumerate(lengths) for _ in range(length)]
    visible = [sum(segment[k] == segment[j] for k in range(j)) for j in range(len(segment))]
    assert contexts(np.array(lengths, np.int32)).tolist() == visible


@given(st.integers(2, 5000))
def test_codes_are_those_of_buckets_counted_by_hand(window: int) -> None:
    expected = [0, *(1 + handmade.bucket(context) for context in range(1, window))]
    assert codes_of_contexts(window).tolist() == expected


@given(
    counts=st.lists(st.integers(0, 10**12), min_size=1, max_size=14),
    tau=st.sampled_from([0, 8, 100, 1024]),
    alpha=st.sampled_from([0.0, 0.15, 0.7]),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    max_weight=st.sampled_from([None, 1.7, 2.0, 10.0]),
)
def test_weights_are_those_of_the_formula(
    counts: list[int], tau: int, alpha: float, gamma: float, max_weight: float | None
) -> None:
    window = 2 ** (len(counts) + 2)
    made = corpus(window=window, tau=tau, alpha=alpha, gamma=gamma, max_weight=max_weight)
    parameters = {
        "window": window,
        "tau": tau,
        "alpha": alpha,
        "gamma": gamma,
        "epsilon": 1e-8,
        "max_weight": max_weight,
    }
    rows = weight_rows(counts, parameters)
    for row, expected in zip(rows, handmade.weight_table(counts, made), strict=True):
        assert {**row, "weight": None} == pytest.approx({**expected, "weight": None})
        assert math.isclose(row["weight"], expected["weight"], rel_tol=1e-9)


# What cannot be verified at all


def test_no_manifest(concat: Path, tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="no manifest"):
        verify(str(tmp_path))
    with pytest.raises(IncompleteError, match="no manifest"):
        verify(str(concat / "shards"), str(tmp_path))


def test_no_valid_manifest(concat: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not an exactcpt shard set"):
        verify(str(concat / "store"))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(FormatError, match="not JSON"):
        verify(str(tmp_path))


def test_a_path_out_of_the_folder(concat: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(concat / "shards", tmp_path / "shards"))
    edit_manifest(shards, lambda m: m["shards"]["train"][0].update(path="../shards/" + FIRST))
    with pytest.raises(FormatError, match="does not match"):
        verify(str(shards))


# What is wrong

Mutation = Callable[[Path], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A change of a set and its store, the checks that must notice, and what one of them says."""

    checks: set[str]
    change: Mutation
    packing: str = "concat"
    store: bool = False
    says: str = ""


MUTATIONS: dict[str, Case] = {}


def register(name: str, checks: str, change: Mutation, **how: Any) -> None:
    assert name not in MUTATIONS
    MUTATIONS[name] = Case(checks=set(checks.split()), change=change, **how)


def mutation(*checks: str, **how: Any) -> Callable[[Mutation], Mutation]:
    def decorate(change: Mutation) -> Mutation:
        register(change.__name__, " ".join(checks), change, **how)
        return change

    return decorate


def manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    edit_manifest(folder / "shards", edit)


def in_shard(path: str, edit: Callable[[dict[str, list[Any]]], object], **how: Any) -> Mutation:
    return lambda folder: edit_shard(folder / "shards", path, edit, **how)


def in_documents(edit: Callable[[list[dict[str, Any]]], object]) -> Mutation:
    return lambda folder: edit_documents(folder / "shards", edit)


def in_manifest(edit: Callable[[dict[str, Any]], object]) -> Mutation:
    return lambda folder: manifest(folder, edit)


def nothing(_: object) -> None:
    pass


# files


@mutation("files")
def a_byte_flipped(folder: Path) -> None:
    path = folder / "shards" / FIRST
    data = bytearray(path.read_bytes())
    data[7] ^= 1  # padding behind the magic bytes
    path.write_bytes(data)


@mutation("files")
def a_shard_missing(folder: Path) -> None:
    (folder / "shards" / FIRST).unlink()


@mutation("files")
def a_shard_cut_short(folder: Path) -> None:
    path = folder / "shards" / FIRST
    path.write_bytes(path.read_bytes()[:-100])


@mutation("files")
def an_empty_shard(folder: Path) -> None:
    (folder / "shards" / FIRST).write_bytes(b"")


@mutation("files")
def a_shard_that_is_a_folder(folder: Path) -> None:
    (folder / "shards" / FIRST).unlink()
    (folder / "shards" / FIRST).mkdir()


@mutation("files")
def a_shard_too_many(folder: Path) -> None:
    shutil.copy(folder / "shards" / FIRST, folder / "shards/train/more.arrow")


@mutation("files")
def a_documents_file_too_many(folder: Path) -> None:
    (folder / "shards/documents/part-00002.parquet").write_bytes(b"")


@mutation("files")
def a_documents_file_missing(folder: Path) -> None:
    (folder / "shards/documents/part-00000.parquet").unlink()


@mutation("files")
def a_documents_file_cut_short(folder: Path) -> None:
    path = folder / "shards/documents/part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1])


@mutation("files")
def another_tokenizer(folder: Path) -> None:
    (folder / "shards/tokenizer.json").write_text("{}")


def replace_tokenizer(folder: Path, content: str) -> None:
    """Another tokenizer in the set and in its store, whose checksums are right."""
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    for kind in ("store", "shards"):
        (folder / kind / "tokenizer.json").write_text(content)
        edit_manifest(folder / kind, lambda m: m["tokenizer"].update(sha256=sha256))
    handmade.adopt_store(folder / "shards", folder / "store")


@mutation("files", "store", store=True, says="it is no tokenizer: ")
def a_tokenizer_that_is_none(folder: Path) -> None:
    replace_tokenizer(folder, "{}")


@mutation("files", "store", store=True, says="it is no tokenizer: ")
def a_tokenizer_at_which_the_library_panics(folder: Path) -> None:
    broken = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    model = {"type": "WordLevel", "vocab": {"<eos>": EOS}, "unk_token": "none"}
    replace_tokenizer(folder, json.dumps({"model": model, "normalizer": broken}))


@mutation("files", "store", store=True, says=str(EOS))
def a_tokenizer_of_fewer_ids(folder: Path) -> None:
    model = {"type": "WordLevel", "vocab": {"<eos>": EOS}, "unk_token": "none"}
    replace_tokenizer(folder, json.dumps({"model": model}))


@mutation("files", "store", store=True, says="7")
def a_tokenizer_of_another_end(folder: Path) -> None:
    model = {"type": "WordLevel", "vocab": {"<eos>": 7, "<pad>": PAD}, "unk_token": "none"}
    replace_tokenizer(folder, json.dumps({"model": model}))


@mutation("files")
def no_tokenizer(folder: Path) -> None:
    (folder / "shards/tokenizer.json").unlink()


@mutation("files", says="a file leads out of its folder")
def a_link_out_of_the_folder(folder: Path) -> None:
    path = folder / "shards" / FIRST
    path.rename(folder / "elsewhere.arrow")
    path.symlink_to(folder / "elsewhere.arrow")


@mutation("files", says="this is a named pipe")
def a_pipe_for_a_shard(folder: Path) -> None:
    (folder / "shards" / FIRST).unlink()
    os.mkfifo(folder / "shards" / FIRST)


@mutation("files", says="this is a named pipe")
def a_pipe_for_the_tokenizer(folder: Path) -> None:
    (folder / "shards/tokenizer.json").unlink()
    os.mkfifo(folder / "shards/tokenizer.json")


@mutation()
def a_temporary_and_a_job_folder(folder: Path) -> None:
    (folder / "shards/train/.shard.arrow.tmp").write_bytes(b"half")
    (folder / "shards/.job").mkdir()


# schema


def typed(**fields: pa.DataType) -> pa.Schema:
    schema = shard.shard_schema(WINDOW)
    for name, kind in fields.items():
        position = schema.get_field_index(name)
        schema = schema.set(position, pa.field(name, kind, nullable=False))
    return schema


def nullable() -> pa.Schema:
    field = shard.shard_schema(WINDOW).field("doc_index").with_nullable(True)
    return shard.shard_schema(WINDOW).set(3, field)


def a_null_token(columns: dict[str, list[Any]]) -> None:
    columns["input_ids"][0][3] = None


def a_null_offset(columns: dict[str, list[Any]]) -> None:
    columns["doc_offset"][0][0] = None


def a_null_code(columns: dict[str, list[Any]]) -> None:
    columns["codes"][0][0] = None


def a_null_weight(columns: dict[str, list[Any]]) -> None:
    columns["dictionary"][2] = None


def a_code_past_the_dictionary(columns: dict[str, list[Any]]) -> None:
    columns["codes"][0][0] = 200


for edit in (a_null_token, a_null_offset, a_null_code, a_null_weight, a_code_past_the_dictionary):
    register(edit.__name__, "schema", in_shard(FIRST, edit))

for name, schema in {
    "tokens_of_64_bits": typed(input_ids=pa.list_(pa.field("item", pa.int64(), False), WINDOW)),
    "children_that_may_be_null": typed(seq_lengths=pa.list_(pa.int32())),
    "children_of_another_name": typed(seq_lengths=pa.list_(pa.field("n", pa.int32(), False))),
    "a_column_that_may_be_null": nullable(),
    "metadata_in_the_schema": shard.shard_schema(WINDOW).with_metadata({"a": "b"}),
}.items():
    register(name, "schema", in_shard(FIRST, nothing, schema=schema))

for name, how in {
    "batches_too_large": {"rows_per_batch": 3},
    "batches_too_small": {"rows_per_batch": 1},
    "lz4": {"compression": "lz4"},
    "zstd": {"compression": "zstd"},
}.items():
    register(name, "schema", in_shard(FIRST, nothing, **how))


@mutation("schema", "weights")
def another_window_in_the_settings(folder: Path) -> None:
    manifest(folder, lambda m: m["settings"].update(window=2 * WINDOW))


@mutation("schema")
def a_shard_that_is_no_arrow_file(folder: Path) -> None:
    (folder / "shards" / FIRST).write_bytes(b"")
    handmade.refresh_checksums(folder / "shards")


@mutation("schema")
def windows_of_a_shard_miscounted(folder: Path) -> None:
    manifest(folder, lambda m: m["shards"]["train"][1].update(windows=4))


@mutation("schema")
def shards_out_of_order(folder: Path) -> None:
    manifest(folder, lambda m: m["shards"]["train"].reverse())


# segments


def last_window(columns: dict[str, list[Any]]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Ids, lengths, documents and offsets of the last window, which is padded."""
    names = ("input_ids", "seq_lengths", "doc_index", "doc_offset")
    ids, lengths, documents, offsets = (columns[name][-1] for name in names)
    assert documents[-1] == -1
    assert lengths[-1] > 2
    return ids, lengths, documents, offsets


def segments_too_short(columns: dict[str, list[Any]]) -> None:
    columns["seq_lengths"][0][0] -= 1


def a_segment_of_no_tokens(columns: dict[str, list[Any]]) -> None:
    for name, value in (("seq_lengths", 0), ("doc_index", 0), ("doc_offset", 0)):
        columns[name][0].insert(0, value)


def a_segment_of_negative_length(columns: dict[str, list[Any]]) -> None:
    columns["seq_lengths"][0][0] += 70
    for name, value in (("seq_lengths", -70), ("doc_index", 0), ("doc_offset", 0)):
        columns[name][0].append(value)


def a_window_without_segments(columns: dict[str, list[Any]]) -> None:
    for name in ("seq_lengths", "doc_index", "doc_offset"):
        columns[name][0] = []


def columns_of_different_lengths(columns: dict[str, list[Any]]) -> None:
    columns["doc_offset"][1].append(0)


def two_runs_of_padding(columns: dict[str, list[Any]]) -> None:
    _, lengths, documents, offsets = last_window(columns)
    lengths[-1:] = [1, lengths[-1] - 1]
    documents.append(-1)
    offsets.append(0)


def padding_at_the_start(columns: dict[str, list[Any]]) -> None:
    for part in last_window(columns)[1:]:
        part.reverse()


def padding_of_another_id(columns: dict[str, list[Any]]) -> None:
    last_window(columns)[0][-1] = 1


def padding_with_an_offset(columns: dict[str, list[Any]]) -> None:
    last_window(columns)[3][-1] = 1


def an_offset_below_zero(columns: dict[str, list[Any]]) -> None:
    columns["doc_offset"][0][0] = -1


def a_document_past_the_table(columns: dict[str, list[Any]]) -> None:
    columns["doc_index"][0][0] = 20


def a_document_below_padding(columns: dict[str, list[Any]]) -> None:
    columns["doc_index"][0][0] = -2


for edit in (
    segments_too_short,
    a_segment_of_no_tokens,
    a_segment_of_negative_length,
    a_window_without_segments,
    columns_of_different_lengths,
    two_runs_of_padding,
    padding_at_the_start,
    padding_of_another_id,
    padding_with_an_offset,
    an_offset_below_zero,
    a_document_past_the_table,
    a_document_below_padding,
):
    register(edit.__name__, "segments", in_shard(LAST, edit))


# codes


def a_code_of_the_next_bucket(columns: dict[str, list[Any]]) -> None:
    columns["codes"][2][5] += 1


def a_first_token_supervised(columns: dict[str, list[Any]]) -> None:
    columns["codes"][0][0] = 1


def supervised_padding(columns: dict[str, list[Any]]) -> None:
    columns["codes"][-1][-1] = 1


def codes_that_ignore_boundaries(columns: dict[str, list[Any]]) -> None:
    whole = handmade.window_codes([(0, 0, WINDOW)])
    columns["codes"] = [whole for _ in columns["codes"]]


for edit in (
    a_code_of_the_next_bucket,
    a_first_token_supervised,
    supervised_padding,
    codes_that_ignore_boundaries,
):
    register(edit.__name__, "codes", in_shard(LAST, edit))


# weights


def a_weight_off_by_a_millionth(columns: dict[str, list[Any]]) -> None:
    columns["dictionary"][3] *= 1 + 1e-6


def unsupervised_positions_with_a_weight(columns: dict[str, list[Any]]) -> None:
    columns["dictionary"][0] = 1.0


def a_dictionary_too_long(columns: dict[str, list[Any]]) -> None:
    columns["dictionary"].append(1.0)


for edit in (
    a_weight_off_by_a_millionth,
    unsupervised_positions_with_a_weight,
    a_dictionary_too_long,
):
    register(edit.__name__, "weights", in_shard(SECOND, edit))


@mutation("weights")
def validation_weighted_as_train(folder: Path) -> None:
    weights = handmade.read_shard(folder / "shards" / FIRST)["dictionary"]
    edit_shard(folder / "shards", VALIDATION, lambda columns: columns.update(dictionary=weights))


@mutation("weights")
def another_table_everywhere(folder: Path) -> None:
    """The table and all dictionaries agree with each other, but not with the histogram."""
    weights = [1.0, 1.0, 1.15, 1.15]
    manifest(
        folder,
        lambda m: [
            row.update(weight=w) for row, w in zip(m["weights"]["table"], weights, strict=True)
        ],
    )
    for path in (folder / "shards/train").iterdir():
        edit_shard(
            folder / "shards", f"train/{path.name}", lambda c: c.update(dictionary=[0.0, *weights])
        )


for name, edit in {
    "another_tau": lambda m: m["settings"].update(tau=32),
    "another_gamma": lambda m: m["settings"].update(gamma=0.6),
    "another_epsilon": lambda m: m["settings"].update(epsilon=0.1),
    "another_ceiling": lambda m: m["settings"].update(max_weight=1.151),
    "another_alpha": lambda m: m["settings"].update(alpha=0.2),
    "another_alpha_of_the_table": lambda m: m["weights"].update(alpha=0.2),
    "another_budget": lambda m: m["weights"].update(budget=0.2),
    "a_bucket_too_few": lambda m: m["weights"]["table"].pop(),
    "targets_of_a_bucket": lambda m: m["weights"]["table"][0].update(targets=1),
    "edge_of_a_bucket": lambda m: m["weights"]["table"][3].update(high=64),
    "a_bucket_put_into_the_tail": lambda m: m["weights"]["table"][1].update(in_tail=True),
    "share_of_a_bucket": lambda m: m["weights"]["table"][2].update(share=0.5),
    "no_inverse_frequency": lambda m: m["weights"]["table"][2].update(inverse_frequency=None),
}.items():
    register(name, "weights", in_manifest(edit))


register(
    "a_ceiling_that_alpha_breaks",
    "weights",
    in_manifest(lambda m: m["settings"].update(max_weight=1.1)),
    says="alpha 0.15, max_weight 1.1",
)

# histogram

for key in ("windows", "tokens", "padding", "segments", "cut_documents", "targets"):
    register(
        f"{key}_of_a_split",
        "histogram",
        in_manifest(lambda m, key=key: m["splits"]["train"].update({key: 7})),
    )


def one_target_moved(claims: dict[str, Any]) -> None:
    claims["histogram"][0] -= 1
    claims["histogram"][1] += 1


def side(m: dict[str, Any], source: int, split: str) -> dict[str, Any]:
    return m["sources"][source]["splits"][split]


for name, checks, edit in (
    ("histogram_of_train", "histogram weights", lambda m: one_target_moved(m["splits"]["train"])),
    ("histogram_of_validation", "histogram", lambda m: one_target_moved(m["splits"]["validation"])),
    ("histogram_of_a_source", "histogram", lambda m: one_target_moved(side(m, 0, "train"))),
    ("targets_of_a_source", "histogram", lambda m: side(m, 1, "train").update(targets=1)),
    ("tokens_of_a_source", "histogram documents", lambda m: side(m, 0, "train").update(tokens=1)),
    (
        "documents_of_a_source",
        "histogram documents",
        lambda m: side(m, 0, "validation").update(documents=1),
    ),
):
    register(name, checks, in_manifest(edit))


# tokens


def an_id_past_the_vocabulary(columns: dict[str, list[Any]]) -> None:
    columns["input_ids"][0][0] = LARGEST + 1


def a_negative_id(columns: dict[str, list[Any]]) -> None:
    columns["input_ids"][1][1] = -5


def a_document_that_does_not_end(columns: dict[str, list[Any]]) -> None:
    ids = last_window(columns)[0]
    ids[len(ids) - ids[::-1].index(EOS) - 1] = 1


for edit in (an_id_past_the_vocabulary, a_negative_id, a_document_that_does_not_end):
    register(edit.__name__, "tokens", in_shard(LAST, edit))


# coverage


def rename_shards(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Numbers a list of shards anew, perhaps with copies, in the folder and the manifest."""
    train = folder / "shards/train"
    shutil.copytree(train, folder / "old")
    shutil.rmtree(train)
    train.mkdir()
    for i, entry in enumerate(entries):
        path = shard.shard_name("train", i, len(entries))
        shutil.copy(folder / "old" / Path(entry["path"]).name, folder / "shards" / path)
        entry["path"] = path
    manifest(folder, lambda m: m["shards"].update(train=entries))


@mutation("coverage", "histogram")
def a_shard_twice(folder: Path) -> None:
    entries = handmade.read_manifest(folder / "shards")["shards"]["train"]
    rename_shards(folder, [*entries, dict(entries[1])])


@mutation("coverage", "histogram")
def a_shard_forgotten(folder: Path) -> None:
    rename_shards(folder, handmade.read_manifest(folder / "shards")["shards"]["train"][:-1])


@mutation("coverage")
def a_window_twice_instead_of_another(folder: Path) -> None:
    """Both are one segment from the middle of a long document, so every count stays the same."""
    found = []
    for path in (FIRST, SECOND):
        columns = handmade.read_shard(folder / "shards" / path)
        whole = [i for i, lengths in enumerate(columns["seq_lengths"]) if lengths == [WINDOW]]
        found += [(path, i) for i in whole if columns["doc_offset"][i] != [0]]
    (path, i), (other, k) = found[0], found[-1]
    source = handmade.read_shard(folder / "shards" / other)
    assert (path, i) != (other, k)

    def copy(columns: dict[str, list[Any]]) -> None:
        for name in ("input_ids", "codes", "seq_lengths", "doc_index", "doc_offset"):
            columns[name][i] = source[name][k]

    edit_shard(folder / "shards", path, copy)


def rewritten(folder: Path, **changes: Any) -> None:
    """Writes the folder again with another corpus."""
    shutil.rmtree(folder)
    written(folder, corpus(**changes))


@mutation("coverage")
def a_document_for_another_of_its_length(folder: Path) -> None:
    rewritten(folder, parts=[("books", [Document(9) for _ in range(4)])], mixing={})
    path = shard.shard_name("train", 0, 1)
    edit_shard(folder / "shards", path, lambda columns: columns["doc_index"][0].__setitem__(0, 1))


@mutation("coverage")
def a_document_for_one_that_was_dropped(folder: Path) -> None:
    kept, dropped = Document(9), Document(9, copies=0, reason="mixing")
    rewritten(folder, parts=[("books", [kept, dropped])], mixing={"books": 0.5})
    path = shard.shard_name("train", 0, 1)
    edit_shard(folder / "shards", path, lambda columns: columns["doc_index"][0].__setitem__(0, 1))


@mutation("coverage", "documents", "mixing")
def a_copy_more_in_the_table(folder: Path) -> None:
    edit_documents(folder / "shards", lambda rows: rows[3].update(copies=3))


# documents


def swapped_rows(rows: list[dict[str, Any]]) -> None:
    rows[0]["doc_index"], rows[1]["doc_index"] = 1, 0


for name, checks, says, edit in (
    ("doc_index_out_of_order", "documents", "doc_index 1", swapped_rows),
    ("a_row_number", "documents", "row 5", lambda rows: rows[2].update(row=5)),
    (
        "a_part_interrupted",
        "documents",
        "begins again",
        lambda rows: rows[2].update(part="000002-0000", row=0),
    ),
    (
        "parts_out_of_order",
        "documents",
        "out of order",
        lambda rows: [row.update(part="000009-0000") for row in rows[:8]],
    ),
    (
        "two_sources_in_a_part",
        "documents histogram mixing",
        "two sources",
        lambda rows: rows[4].update(source="notes"),
    ),
    ("a_document_of_no_tokens", "documents", "0 tokens", lambda rows: rows[9].update(n_tokens=0)),
    (
        "copies_below_zero",
        "documents coverage mixing",
        "-1 copies",
        lambda rows: rows[9].update(copies=-1),
    ),
    (
        "an_unknown_split",
        "documents split",
        "an unknown split",
        lambda rows: rows[2].update(split="test"),
    ),
    (
        "an_unknown_reason",
        "documents",
        "an unknown drop_reason",
        lambda rows: rows[9].update(drop_reason="boredom"),
    ),
    (
        "no_reason",
        "documents",
        "copies is 0, and there is no drop_reason",
        lambda rows: rows[9].update(drop_reason=None),
    ),
    (
        "a_reason_without_a_drop",
        "documents",
        "copies is 1, and there is a drop_reason",
        lambda rows: rows[8].update(drop_reason="mixing"),
    ),
):
    register(name, checks, in_documents(edit), says=says)

for name, edit in {
    "documents_read": lambda m: m["sources"][0]["read"].update(documents=1),
    "tokens_read": lambda m: m["sources"][0]["read"].update(tokens=1),
    "documents_dropped": lambda m: m["sources"][1].update(dropped={"mixing": 5}),
    "rows_of_the_table": lambda m: m["documents"][0].update(rows=3),
}.items():
    register(name, "documents", in_manifest(edit))


@mutation("documents", "histogram", "mixing", says="source notes")
def a_source_forgotten(folder: Path) -> None:
    manifest(folder, lambda m: m["sources"][1].update(name="letters"))


@mutation("documents")
def a_table_that_is_no_parquet_file(folder: Path) -> None:
    (folder / "shards/documents/part-00000.parquet").write_bytes(b"PAR1")
    handmade.refresh_checksums(folder / "shards")


@mutation("documents")
def an_id_that_is_no_text(folder: Path) -> None:
    path = folder / "shards/documents/part-00000.parquet"
    table = pq.read_table(path)
    ids = pa.array([b"\xff"] * len(table)).view(pa.string())
    pq.write_table(table.set_column(1, table.schema.field("id"), ids), path)
    handmade.refresh(folder / "shards")


@mutation("documents")
def another_schema_of_the_table(folder: Path) -> None:
    path = folder / "shards/documents/part-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(5, "n_tokens", table["n_tokens"].cast(pa.int64())), path)
    handmade.refresh(folder / "shards")


@mutation("documents", says="files ['documents/part-00001.parquet'")
def files_of_the_table_out_of_order(folder: Path) -> None:
    manifest(folder, lambda m: m["documents"].reverse())


# dedup, mixing, split, packing


@mutation("dedup")
def duplicates_dropped_without_dedup(folder: Path) -> None:
    manifest(folder, lambda m: m["settings"].update(dedup="none"))


@mutation("dedup")
def a_document_dropped_that_is_no_duplicate(folder: Path) -> None:
    edit_documents(folder / "shards", lambda rows: rows[16].update(content_hash=b"0" * 16))


@mutation("dedup")
def a_duplicate_kept(folder: Path) -> None:
    edit_documents(
        folder / "shards", lambda rows: rows[1].update(content_hash=rows[0]["content_hash"])
    )


@mutation("split", "mixing")
def another_seed(folder: Path) -> None:
    manifest(folder, lambda m: m["settings"].update(seed=1))


@mutation("split")
def another_validation_fraction(folder: Path) -> None:
    manifest(folder, lambda m: m["settings"].update(validation_fraction=0.5))


@mutation("mixing", says="1 copy")
def another_document_kept(folder: Path) -> None:
    """The source has as many tokens as it should: only the ranks can tell."""
    kept, dropped = Document(9), Document(9, copies=0, reason="mixing")
    rewritten(folder, parts=[("books", [kept, dropped])], mixing={"books": 0.5})
    edit_documents(folder / "shards", lambda rows: swap_hashes(rows, 0, 1))


def swap_hashes(rows: list[dict[str, Any]], i: int, j: int) -> None:
    hashes = rows[j]["content_hash"], rows[i]["content_hash"]
    rows[i]["content_hash"], rows[j]["content_hash"] = hashes


@mutation("mixing")
def copies_not_as_asked(folder: Path) -> None:
    manifest(folder, lambda m: m["settings"]["mixing"].update(notes={"epochs": 0.6}))


@mutation("mixing")
def a_source_without_its_tokens(folder: Path) -> None:
    def edit(m: dict[str, Any]) -> None:
        m["sources"][1]["copies"] = 0.9
        m["settings"]["mixing"]["notes"] = {"epochs": 0.9}

    manifest(folder, edit)


@mutation("mixing")
def a_share_not_kept(folder: Path) -> None:
    def edit(m: dict[str, Any]) -> None:
        m["settings"]["token_budget"] = 1000
        m["settings"]["mixing"] = {"books": {"share": 0.5}}

    manifest(folder, edit)


@mutation("mixing", says="e+27 copies")
def more_copies_than_there_may_be(folder: Path) -> None:
    def edit(m: dict[str, Any]) -> None:
        m["settings"]["token_budget"] = 10**30
        m["settings"]["mixing"] = {"books": {"share": 1}}

    manifest(folder, edit)


@mutation("mixing")
def validation_dropped_by_mixing(folder: Path) -> None:
    dropped = Document(9, "validation", copies=0, reason="mixing")
    rewritten(folder, parts=[("books", [Document(9), dropped])], mixing={})


@mutation("split", "dedup")
def a_content_on_both_sides(folder: Path) -> None:
    edit_documents(
        folder / "shards", lambda rows: rows[17].update(content_hash=rows[0]["content_hash"])
    )


@mutation("split")
def a_content_on_both_sides_without_dedup(folder: Path) -> None:
    documents = [Document(9, split, text="one") for split in ("train", "validation")]
    rewritten(folder, parts=[("books", documents)], mixing={}, dedup="none")


@mutation("split", "documents", "mixing")
def a_document_moved_to_validation(folder: Path) -> None:
    edit_documents(folder / "shards", lambda rows: rows[8].update(split="validation"))


@mutation("split", "coverage", "documents")
def validation_seen_twice(folder: Path) -> None:
    edit_documents(folder / "shards", lambda rows: rows[17].update(copies=2))


@mutation("packing")
def documents_cut_under_best_fit(folder: Path) -> None:
    manifest(folder, lambda m: m["settings"].update(packing="best_fit"))


@mutation("packing", "histogram", packing="best_fit")
def a_document_cut_inside_a_window(folder: Path) -> None:
    """One segment becomes two, all codes follow; the manifest is told of all but the histogram."""

    def cut(columns: dict[str, list[Any]]) -> None:
        length, document = columns["seq_lengths"][0][0], columns["doc_index"][0][0]
        columns["seq_lengths"][0][:1] = [20, length - 20]
        columns["doc_index"][0][:1] = [document, document]
        columns["doc_offset"][0][:1] = [0, 20]
        names = ("doc_index", "doc_offset", "seq_lengths")
        segments = list(zip(*(columns[name][0] for name in names), strict=True))
        columns["codes"][0] = handmade.window_codes(segments)

    edit_shard(folder / "shards", FIRST, cut)


# store


def two_tokens_swapped(columns: dict[str, list[Any]]) -> None:
    ids = columns["input_ids"][1]
    ids[2], ids[3] = ids[3], ids[2]


register("two_tokens_swapped", "store", in_shard(FIRST, two_tokens_swapped), store=True)


@mutation("store", store=True)
def another_store(folder: Path) -> None:
    edit_manifest(folder / "store", lambda m: m["versions"].update(exactcpt="1"))


@mutation("store", store=True)
def another_tokenizer_of_the_store(folder: Path) -> None:
    (folder / "store/tokenizer.json").write_text("{}")


@mutation("store", store=True)
def a_part_missing(folder: Path) -> None:
    (folder / "store/parts/000001-0000.arrow").unlink()


@mutation("store", store=True)
def a_part_truncated(folder: Path) -> None:
    path = folder / "store/parts/000001-0000.arrow"
    path.write_bytes(path.read_bytes()[:-200])


@mutation("store", store=True)
def a_part_that_is_no_arrow_file(folder: Path) -> None:
    (folder / "store/parts/000001-0000.arrow").write_bytes(b"ARROW1")
    handmade.refresh_store(folder / "store")
    handmade.adopt_store(folder / "shards", folder / "store")


def tokens_changed(columns: dict[str, list[Any]], _: object) -> None:
    columns["tokens"][2][0] += 1


def ids_changed(columns: dict[str, list[Any]], _: object) -> None:
    columns["id"][1] = "another"


def hashes_changed(_: object, index: dict[str, list[Any]]) -> None:
    index["content_hash"][1] = b"1" * 16


def lengths_changed(_: object, index: dict[str, list[Any]]) -> None:
    index["length"][1] += 1


def rows_changed(_: object, index: dict[str, list[Any]]) -> None:
    index["row"][1] += 1


for change in (tokens_changed, ids_changed, hashes_changed, lengths_changed, rows_changed):

    def in_part(folder: Path, change: Any = change) -> None:
        edit_part(folder / "store", 1, change)
        handmade.adopt_store(folder / "shards", folder / "store")

    register(f"{change.__name__}_in_the_store", "store", in_part, store=True)

for name, checks, edit in (
    ("another_id_in_the_table", "store", lambda rows: rows[5].update(id="x")),
    ("another_hash_in_the_table", "store", lambda rows: rows[5].update(content_hash=b"1" * 16)),
    (
        "another_part_in_the_table",
        "store",
        lambda rows: [r.update(part="000004-0000") for r in rows[17:]],
    ),
):
    register(name, checks, in_documents(edit), store=True)


@mutation("store", store=True)
def a_document_more_in_the_store(folder: Path) -> None:
    def add(columns: dict[str, list[Any]], index: dict[str, list[Any]]) -> None:
        for values in (*columns.values(), *index.values()):
            values.append(values[-1])
        index["row"][-1] += 1

    edit_part(folder / "store", 3, add)
    edit_manifest(folder / "store", lambda m: m["parts"][3].update(documents=4, tokens=118))
    handmade.adopt_store(folder / "shards", folder / "store")


@mutation("store", store=True)
def other_counts_than_the_store(folder: Path) -> None:
    manifest(folder, lambda m: m["sources"][0]["read"].update(text_bytes=7))


for key in ("unknown_tokens", "inner_ends", "documents_with_inner_ends"):

    def another_count_of_tokens(folder: Path, key: str = key) -> None:
        for kind in ("store", "shards"):

            def change(m: dict[str, Any]) -> None:
                m["sources"][1]["read"]["encoding"][key] += 1

            edit_manifest(folder / kind, change)
        handmade.adopt_store(folder / "shards", folder / "store")

    register(f"another_number_of_{key}", "store", another_count_of_tokens, store=True)


@mutation("store", store=True)
def a_source_of_which_the_manifest_knows_nothing(folder: Path) -> None:
    edit_manifest(folder / "store", lambda m: m["sources"].pop())
    handmade.adopt_store(folder / "shards", folder / "store")


@mutation(store=True)
def a_store_that_an_earlier_version_wrote(folder: Path) -> None:
    """It counted neither unknown tokens nor inner ends, so nothing is wrong."""
    for kind in ("store", "shards"):

        def change(m: dict[str, Any]) -> None:
            del m["tokenizer"]["unk_id"]
            for source in m["sources"]:
                del source["read"]["encoding"]

        edit_manifest(folder / kind, change)
    handmade.adopt_store(folder / "shards", folder / "store")


for key, value in {
    "inputs": [{"source": "a", "path": "b", "bytes": 1, "xxh3_128": None, "skipped": None}],
    "tokenizer": {"backend": {"requested": "auto", "used": "gigatoken", "fallback": None}},
    "settings": {"tokenize": {"min_tokens": 2}},
}.items():

    def in_one_manifest(folder: Path, key: str = key, value: Any = value) -> None:
        change = (
            value
            if isinstance(value, list)
            else {**handmade.read_manifest(folder / "shards")[key], **value}
        )
        manifest(folder, lambda m: m.update({key: change}))

    register(f"other_{key}_than_the_store", "store", in_one_manifest, store=True)


@pytest.mark.parametrize("name", MUTATIONS)
def test_notices(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    case = MUTATIONS[name]
    folder = tmp_path / "copy"
    shutil.copytree(request.getfixturevalue(case.packing), folder)
    case.change(folder)
    report = check(folder, store=case.store)
    assert complaints(report) == case.checks, "\n".join(map(str, report.findings))
    assert report.ok == (not case.checks)
    assert not case.says or any(case.says in finding.found for finding in report.findings)
    assert by_others(folder, store=case.store) == report


def test_every_check_has_a_mutation_that_only_it_notices() -> None:
    alone = [case.checks for case in MUTATIONS.values() if len(case.checks) == 1]
    assert set().union(*alone) == set(CHECKS)


@given(st.lists(st.tuples(st.sampled_from(["files", "schema"]), st.integers(0, 30)), max_size=6))
def test_problems_in_pieces_are_those_of_one(some: list[tuple[str, int]]) -> None:
    """Whether they are added here, or merged, or merged from JSON."""
    one, merged, read = Problems(), Problems(), Problems()
    for i, (check, wrong) in enumerate(some):
        piece = Problems()
        for problems in (one, piece):
            where = "piece {} place {}".format
            problems.each(check, np.ones(wrong), lambda k, i=i, w=where: w(i, k), "x", "y")
            problems.note(check, f"piece {i}")
        merged.merge(piece)
        read.merge(Problems.from_json(json.loads(json.dumps(piece.to_json()))))
    for found in (merged, read):
        assert (found.findings, found.checks()) == (one.findings, one.checks())


def test_all_problems_are_counted_and_the_first_are_kept(concat: Path, tmp_path: Path) -> None:
    shutil.copytree(concat, tmp_path / "copy")
    in_shard(FIRST, lambda columns: columns["input_ids"].__setitem__(0, [-1] * WINDOW))(
        tmp_path / "copy"
    )
    report = check(tmp_path / "copy", store=False)
    kept = [f for f in report.findings if f.check == "tokens"]
    assert len(kept) == KEPT
    assert {c.name: c.problems for c in report.checks}["tokens"] >= WINDOW
    assert kept[1].where == f"{FIRST}, window 0, position 1"
    assert (kept[1].found, kept[1].expected) == ("id -1", f"0..{LARGEST}")


def test_is_written_against_the_format_and_not_against_what_writes_it() -> None:
    """Nothing of exactcpt is imported but the schemas."""
    modules = [path.read_text("utf-8") for path in Path(package.__path__[0]).glob("*.py")]
    own = [
        node.module
        for source in modules
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        and (node.level > 1 or "exactcpt" in (node.module or ""))
    ]
    assert len(modules) > 1
    assert own
    assert all(name is not None and name.split(".")[0] == "schemas" for name in own)


def test_padding_is_not_a_token_of_the_vocabulary_here() -> None:
    """Mutations of padding must not be hidden by ids that happen to be equal."""
    assert PAD not in {token for i, d in enumerate(corpus().documents) for token in d.tokens(i)}
