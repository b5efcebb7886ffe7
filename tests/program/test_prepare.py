"""What `prepare` makes of real text, and that it makes the same bytes whatever way it is run."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import fsspec
import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from harness import DATA, EOS, TOKENIZER, bundled, bundled_records, done, source
from oracles import bucket_by_search, concat_by_stream, histogram_by_counting, weights_by_formula
from tokenizers import Tokenizer

from exactcpt.pipeline.core.parameters import Exact
from exactcpt.schemas.shard import rows_per_batch

pytestmark = pytest.mark.slow

WINDOW = 512
PLAIN = ["--window", WINDOW, "--split-bytes", "60k", "--shard-bytes", "300k"]
PLAIN += ["--group-tokens", "100k"]
MIXED = [*PLAIN, "--packing", "best_fit", "--dedup", "exact", "--token-budget", "250k"]
MIXED += ["--seed", 7, "--max-weight", 1.2, "--validation-fraction", 0.05]


def corpora(settings: str, folder: object = DATA) -> list[Any]:
    """The flags of one of two jobs: plain, or with everything that selection can do."""
    if settings == "plain":
        return [*bundled(folder), *PLAIN]
    options = {"novels": ",epochs=0.5", "poems": ",epochs=1.5", "jargon": ",share=0.4"}
    again = f"--source=again={folder}/more/poems.jsonl,epochs=2"
    return [*bundled(folder, **options), again, *MIXED]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled corpora, and some of the poems a second time."""
    folder = tmp_path_factory.mktemp("corpora")
    for name in (*harness.CORPORA.values(), "tokenizer.json"):
        shutil.copy(DATA / name, folder)
    poems = (DATA / "poems.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "more").mkdir()
    (folder / "more" / "poems.jsonl").write_bytes(b"".join(poems[::3]))
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, copied: Path) -> Callable[[str], Path]:
    """The two jobs as one worker does them, each run once."""
    folder = tmp_path_factory.mktemp("prepared")

    def get(settings: str) -> Path:
        out = folder / settings
        if not out.exists():
            done("prepare", *corpora(settings, copied), "--out", out, "--workers", 1)
        return out

    return get


both = pytest.mark.parametrize("settings", ["plain", "mixed"])


# What is in the shards


def test_every_document_is_there_token_by_token(prepared):
    out = prepared("plain")
    rows = {row["id"]: row for row in harness.documents(out)}
    tokens = harness.occurrences(out, "train") | harness.occurrences(out, "validation")
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    texts = {r["id"]: r["text"] for name in harness.CORPORA for r in bundled_records(name)}
    assert rows.keys() == texts.keys()
    for name, text in texts.items():
        ids = tokens[rows[name]["doc_index"]]
        assert ids[-1] == EOS
        assert tokenizer.decode(ids[:-1], skip_special_tokens=False) == text
        assert len(ids) == rows[name]["n_tokens"]
        digest = xxhash.xxh3_128_digest(text.encode())
        assert rows[name]["content_hash"] == digest


def test_tokens_are_those_of_the_reference(prepared):
    store = harness.stored(Path(f"{prepared('plain')}.store"))
    for record in [*bundled_records("jargon")[:40], *bundled_records("poems")[:40]]:
        assert store[record["id"]] == [*harness.encode(record["text"]), EOS]


@both
def test_weights_follow_from_the_windows(prepared, settings):
    out = prepared(settings)
    manifest = harness.manifest(out)
    segments = [
        length
        for row in harness.windows(out)
        for length, document in zip(row["seq_lengths"], row["doc_index"], strict=True)
        if document >= 0
    ]
    counts = histogram_by_counting(segments, WINDOW)
    table = manifest["weights"]["table"]
    assert [row["targets"] for row in table] == counts == manifest["splits"]["train"]["histogram"]
    asked = manifest["settings"]
    assert asked["tau"] == WINDOW // 4
    tail = [row for row in table if row["in_tail"]]
    assert [row["low"] for row in tail] == [128, 256]
    spent = sum(row["targets"] * (row["weight"] - 1) for row in tail)
    assert spent / sum(row["targets"] for row in tail) == pytest.approx(asked["alpha"], rel=1e-12)
    if asked["max_weight"] is None:
        exact = Exact(tau=asked["tau"], alpha=asked["alpha"], gamma=asked["gamma"], epsilon=1e-8)
        expected = [float(w) for w in weights_by_formula(counts, exact)]
        assert [row["weight"] for row in table] == pytest.approx(expected, rel=1e-12)
    assert all(row["weight"] <= (asked["max_weight"] or math.inf) for row in table)


@both
def test_every_position_has_the_weight_of_its_context(prepared, settings):
    out = prepared(settings)
    weights = [0.0, *(row["weight"] for row in harness.manifest(out)["weights"]["table"])]
    for split, dictionary in (
        ("train", weights),
        ("validation", [0.0] + [1.0] * (len(weights) - 1)),
    ):
        for batch in harness.shards(out, split):
            found = batch["loss_weight"].values
            assert found.dictionary.to_pylist() == np.float32(dictionary).tolist()
            codes = np.asarray(found.indices).reshape(-1, WINDOW)
            columns = (batch["seq_lengths"].to_pylist(), batch["doc_index"].to_pylist())
            for row, (lengths, document) in enumerate(zip(*columns, strict=True)):
                expected = [
                    bucket_by_search(context) + 1 if context and document[i] >= 0 else 0
                    for i, length in enumerate(lengths)
                    for context in range(length)
                ]
                assert codes[row].tolist() == expected


def test_selection_does_what_it_was_asked(prepared):
    out = prepared("mixed")
    manifest = harness.manifest(out)
    rows = harness.documents(out)
    train = {s["name"]: s["splits"]["train"]["tokens"] for s in manifest["sources"]}
    longest = max(row["n_tokens"] for row in rows if row["source"] != "novels")
    available = Counter[str]()
    for row in rows:
        if row["split"] == "train" and row["drop_reason"] != "duplicate":
            available[row["source"]] += row["n_tokens"]
    assert abs(train["jargon"] - 100_000) <= longest
    assert train["again"] == 0
    assert {row["drop_reason"] for row in rows if row["source"] == "again"} == {"duplicate"}
    ratio = {
        name: train[name] / (available[name] * Fraction(epochs))
        for name, epochs in (("poems", "1.5"), ("proposals", "1"))
    }
    assert ratio["poems"] == pytest.approx(ratio["proposals"], rel=0.15)
    novel = next(row["n_tokens"] for row in rows if row["source"] == "novels")
    assert 0 <= sum(train.values()) - 250_000 < novel + 3 * longest
    assert {row["copies"] for row in rows if row["split"] == "validation"} <= {0, 1}


@both
def test_no_content_is_on_both_sides(prepared, settings):
    rows = harness.documents(prepared(settings))
    sides = {
        split: {r["content_hash"] for r in rows if r["split"] == split}
        for split in ("train", "validation")
    }
    assert sides["train"] and sides["validation"]
    assert not sides["train"] & sides["validation"]


def test_best_fit_cuts_no_document_that_fits(prepared):
    out = prepared("mixed")
    lengths = {row["doc_index"]: row["n_tokens"] for row in harness.documents(out)}
    for row in harness.windows(out):
        for length, document in zip(row["seq_lengths"], row["doc_index"], strict=True):
            if document >= 0 and lengths[document] <= WINDOW:
                assert length == lengths[document]


@both
def test_verify_agrees(prepared, settings, tmp_path):
    out = prepared(settings)
    report = done("verify", out, "--json").json
    assert report["ok"]
    assert not any("no store given" in check["checked"] for check in report["checks"])
    shutil.copytree(out, tmp_path / "alone")
    assert "everything agrees" in done("verify", tmp_path / "alone").err


def test_shards_have_the_fixed_size_batches_of_the_format(prepared):
    batches = list(harness.shards(prepared("plain"), "train"))
    assert all(batch.num_rows <= rows_per_batch(WINDOW) for batch in batches)
    for batch in batches:
        assert all(not column.null_count for column in batch.columns)


def test_manifest_says_what_was_read_and_no_path_of_the_machine(prepared, copied):
    out = prepared("mixed")
    text = (out / "manifest.json").read_text("utf-8")
    assert str(copied) not in text and str(out.parent) not in text and "workers" not in text
    inputs = {(i["source"], i["path"]): i for i in harness.manifest(out)["inputs"]}
    assert inputs.keys() == {(n, f) for n, f in harness.CORPORA.items()} | {
        ("again", "poems.jsonl")
    }
    for (name, path), found in inputs.items():
        data = (copied / ("more" if name == "again" else ".") / path).read_bytes()
        assert found["bytes"] == len(data)
        assert found["xxh3_128"] == xxhash.xxh3_128_hexdigest(data)


def test_datasets_streams_rows_with_float_weights(prepared, tmp_path):
    code = (
        "import sys, datasets\n"
        "files = sys.argv[1] + '/train/*.arrow'\n"
        "d = datasets.load_dataset('arrow', data_files=files, streaming=True, split='train')\n"
        "row = next(iter(d))\n"
        "print({k: (len(v), type(v[0]).__name__, sorted(set(v))[:1]) for k, v in row.items()})\n"
        "print(sum(1 for _ in d))\n"
    )
    out = prepared("plain")
    found = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    assert f"'loss_weight': ({WINDOW}, 'float', [0.0])" in found[0]
    assert f"'input_ids': ({WINDOW}, 'int'," in found[0]
    assert int(found[1]) == harness.manifest(out)["splits"]["train"]["windows"]


# The same bytes, however it is run


VARIANTS = {
    "two threads": ["--workers", 2],
    "five threads": ["--workers", 5],
    "two processes": ["--workers", 2, "--worker-type", "processes"],
    "bundles repeated": ["--workers", 2, "--", "--direct_runner_bundle_repeat=1"],
}


@pytest.mark.parametrize(
    ("settings", "variant"),
    [
        *[("plain", variant) for variant in VARIANTS],
        ("mixed", "two threads"),
        ("mixed", "bundles repeated"),
    ],
)
def test_workers_and_bundles_change_no_byte(prepared, copied, tmp_path, settings, variant):
    flags, out = VARIANTS[variant], tmp_path / "out"
    done("prepare", *corpora(settings, copied), "--out", out, *flags)
    assert harness.content(out) == harness.content(prepared(settings))


def test_beams_portable_job_service_gives_the_same_bytes(prepared, copied, tmp_path):
    flags = ["--runner", "PortableRunner", "--", "--job_endpoint=embed"]
    out = tmp_path / "out"
    done("prepare", *corpora("plain", copied), "--out", out, *flags, "--environment_type=LOOPBACK")
    assert harness.content(out) == harness.content(prepared("plain"))


def test_relative_patterns_from_another_folder_give_the_same_bytes(
    prepared, copied, tmp_path, monkeypatch
):
    monkeypatch.chdir(copied / "more")
    flags = [str(f).replace("./more/../", "") for f in corpora("mixed", "..")]
    done("prepare", *flags, "--out", os.path.relpath(tmp_path / "out"))
    assert harness.content(tmp_path / "out") == harness.content(prepared("mixed"))


def test_the_installed_program_in_another_locale_gives_the_same_bytes(prepared, copied, tmp_path):
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "PYTHONHASHSEED": "12345",
        "TZ": "Asia/Tokyo",
        "PYTHONUTF8": "0",
    }
    command = ["prepare", *corpora("mixed", "."), "--workers", 3, "--out", tmp_path / "out"]
    outcome = harness.finish(harness.start(*command, cwd=copied, env=environment))
    assert outcome.code == 0, outcome.err
    assert harness.content(tmp_path / "out") == harness.content(prepared("mixed"))


def test_urls_of_local_files_give_the_same_bytes(prepared, copied, tmp_path):
    flags = corpora("plain", f"file://{copied}")
    done("prepare", *flags, "--out", f"file://{tmp_path}/out")
    assert harness.content(tmp_path / "out") == harness.content(prepared("plain"))


@both
def test_tokenize_and_pack_are_prepare(prepared, copied, tmp_path, settings):
    flags = corpora(settings, copied)
    sizes = flags.index("--split-bytes")
    first = [*flags[: flags.index("--window")], *flags[sizes : sizes + 2]]
    second = flags[flags.index("--window") : sizes] + flags[sizes + 2 :]
    mixing = []
    if settings == "mixed":
        mixing = ["--epochs", "novels=0.5", "--epochs", "poems=1.5", "--epochs", "again=2"]
        mixing += ["--share", "jargon=0.4"]
    done("tokenize", *first, "--out", tmp_path / "out.store", "--workers", 2)
    done("pack", tmp_path / "out.store", *second, *mixing, "--out", tmp_path / "out")
    assert harness.content(tmp_path / "out") == harness.content(prepared(settings))


def test_tokenize_and_pack_are_prepare_where_the_tokenizer_needs_a_warning(tmp_path):
    folder = harness.changed_tokenizer(tmp_path / "t", harness.rename_eos, eos_token="<|im_end|>")
    flags = [*source("poems", DATA / "poems.jsonl"), "--tokenizer", folder]
    done("prepare", *flags, "--window", 64, "--out", tmp_path / "a")
    done("tokenize", *flags, "--out", tmp_path / "b.store")
    done("pack", tmp_path / "b.store", "--window", 64, "--out", tmp_path / "b")
    assert harness.content(tmp_path / "a") == harness.content(tmp_path / "b")
    assert any("<|im_end|>" in warning for warning in harness.manifest(tmp_path / "a")["warnings"])


def test_in_one_group_shards_do_not_depend_on_the_splits(copied, tmp_path):
    flags = [*bundled(copied), "--window", WINDOW]
    done("prepare", *flags, "--out", tmp_path / "a")
    done("prepare", *flags, "--out", tmp_path / "b", "--split-bytes", "17k")
    for split in ("train", "validation"):
        assert harness.files(tmp_path / "a" / split) == harness.files(tmp_path / "b" / split)
    for row, other in zip(
        harness.documents(tmp_path / "a"), harness.documents(tmp_path / "b"), strict=True
    ):
        assert {**row, "part": 0, "row": 0} == {**other, "part": 0, "row": 0}


def test_discarding_the_store_changes_no_byte(tmp_path):
    flags = [*source("poems", DATA / "poems.jsonl"), "--tokenizer", TOKENIZER, "--window", 256]
    done("prepare", *flags, "--out", tmp_path / "a")
    done("prepare", *flags, "--out", tmp_path / "b", "--discard-store")
    assert not (tmp_path / "b.store").exists()
    assert harness.files(tmp_path / "a") == harness.files(tmp_path / "b")
    done("verify", tmp_path / "b")


def test_the_store_may_be_anywhere(prepared, copied, tmp_path):
    flags = ["--out", tmp_path / "out", "--store", tmp_path / "elsewhere" / "s"]
    done("prepare", *corpora("plain", copied), *flags)
    expected = harness.content(prepared("plain"))
    assert harness.files(tmp_path / "out") == expected["shards"]
    assert harness.files(tmp_path / "elsewhere" / "s") == expected["store"]


# Filesystems


@pytest.fixture
def memory() -> Any:
    """fsspec's filesystem in memory, empty before and after."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


def test_everything_may_be_remote(prepared, copied, tmp_path, memory):
    """One worker: two readers of a file in fsspec's memory move each other's position."""
    memory.put(f"{copied}/", "/in/", recursive=True)
    command = [*corpora("mixed", "memory://in"), "--out", "memory://out/shards", "--workers", 1]
    outcome = done("prepare", *command)
    assert "everything agrees" in done("verify", "memory://out/shards").err
    memory.get("/out/", f"{tmp_path}/", recursive=True)
    assert harness.content(tmp_path / "shards") == harness.content(prepared("mixed"))
    assert "complete" in outcome.err
    assert "finished before" in done("prepare", *command).err
    names = [str(name) for name in memory.find("/out")]
    assert not [name for name in names if name.endswith((".tmp", ".job/lock"))]


def test_a_remote_source_with_a_glob(copied, tmp_path, memory):
    memory.put(f"{copied}/poems.jsonl", "/in/deep/poems.jsonl")
    memory.put(f"{copied}/more/poems.jsonl", "/in/more/poems.jsonl")
    flags = [*source("poems", "memory://in/*/*.jsonl"), "--tokenizer", TOKENIZER]
    done("prepare", *flags, "--window", 64, "--out", tmp_path / "out")
    paths = [i["path"] for i in harness.manifest(tmp_path / "out")["inputs"]]
    assert paths == ["deep/poems.jsonl", "more/poems.jsonl"]


# Sources


RECORDS = [
    {"id": f"r{i}", "text": f"number {i}, 数字 {i}: " + "word " * (i % 17)} for i in range(300)
]


def write_parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(RECORDS), folder / "a.parquet", row_group_size=70)
    return folder / "a.parquet"


def write_arrow_file(folder: Path) -> Path:
    table = pa.Table.from_pylist(RECORDS)
    with pa.ipc.new_file(str(folder / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=37)
    return folder / "a.arrow"


def write_arrow_stream(folder: Path) -> Path:
    table = pa.Table.from_pylist(RECORDS)
    with pa.ipc.new_stream(str(folder / "s.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=41)
    return folder / "s.arrow"


def write_saved_dataset(folder: Path) -> Path:
    code = (
        "import datasets, json, sys\n"
        "rows = json.load(sys.stdin)\n"
        "datasets.Dataset.from_list(rows).save_to_disk(sys.argv[1], num_shards=2)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(folder / "saved")],
        input=json.dumps(RECORDS),
        text=True,
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "HF_HOME": str(folder / "cache")},
    )
    return folder / "saved"


def write_texts(folder: Path) -> Path:
    (folder / "texts").mkdir()
    for record in RECORDS:
        (folder / "texts" / f"{record['id']}.txt").write_text(record["text"], "utf-8")
    return folder / "texts"


def write_zst(folder: Path) -> Path:
    """Two frames, as parallel compressors and `cat` make them."""
    import zstandard

    lines = [json.dumps(record).encode() + b"\n" for record in RECORDS]
    halves = [b"".join(lines[:100]), b"".join(lines[100:])]
    data = b"".join(zstandard.ZstdCompressor().compress(half) for half in halves)
    (folder / "a.jsonl.zst").write_bytes(data)
    return folder / "a.jsonl.zst"


def write_gz(folder: Path) -> Path:
    """Two members."""
    one = harness.write_jsonl(folder / "1.jsonl.gz", RECORDS[:100]).read_bytes()
    two = harness.write_jsonl(folder / "2.jsonl.gz", RECORDS[100:]).read_bytes()
    (folder / "both").mkdir()
    (folder / "both" / "a.ndjson.gz").write_bytes(one + two)
    return folder / "both"


def write_folder(folder: Path) -> Path:
    """Files in subfolders; what is hidden, of no known format or a companion is no input."""
    below = folder / "several"
    harness.write_jsonl(below / "a" / "1.jsonl", RECORDS[:100])
    harness.write_jsonl(below / "a" / "2.json.gz", RECORDS[100:150])
    harness.write_jsonl(below / "z.ndjson", RECORDS[150:])
    for name in ("LICENSE", "README.md", "dataset_infos.json"):
        (below / name).write_text("no document")
    (below / ".hidden.jsonl").write_text("no document")
    (below / ".git").mkdir()
    (below / ".git" / "x.jsonl").write_text("no document")
    return below


FORMATS = (write_parquet, write_arrow_file, write_arrow_stream, write_saved_dataset, write_texts)
FORMATS += (write_zst, write_gz, write_folder)


@pytest.fixture(scope="module")
def plain_records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    folder = tmp_path_factory.mktemp("records")
    path = harness.write_jsonl(folder / "a.jsonl", RECORDS)
    done("tokenize", *source("docs", path), "--tokenizer", TOKENIZER, "--out", folder / "store")
    return harness.stored(folder / "store")


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("split_bytes", ["2k", "32M"])
def test_every_format_gives_the_same_documents(plain_records, tmp_path, write, split_bytes):
    path = write(tmp_path)
    flags = ["--tokenizer", TOKENIZER, "--split-bytes", split_bytes, "--out", tmp_path / "store"]
    done("tokenize", *source("docs", path), *flags)
    found = harness.stored(tmp_path / "store")
    if write is write_texts:
        found = {name.removesuffix(".txt"): tokens for name, tokens in found.items()}
    assert found == plain_records
    if write is not write_texts:
        assert list(found) == list(plain_records)


def test_other_fields_and_ids(tmp_path):
    records = [{"body": "alpha", "n": 1}, {"body": "beta", "n": None}, {"body": "gamma"}]
    path = harness.write_jsonl(tmp_path / "a.jsonl", records)
    flags = source("docs", path, text="body", id="n")
    done("tokenize", *flags, "--tokenizer", TOKENIZER, "--out", tmp_path / "store")
    assert list(harness.stored(tmp_path / "store")) == ["1", "a.jsonl:2", "a.jsonl:3"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_pretokenized_documents(tmp_path, suffix):
    ids = {"a": [5, 6, 7], "b": [4095], "c": list(range(1, 100))}
    records = [{"id": name, "ids": tokens} for name, tokens in ids.items()]
    path = tmp_path / f"a.{suffix}"
    if suffix == "jsonl":
        harness.write_jsonl(path, records)
    else:
        pq.write_table(pa.Table.from_pylist(records), path)
    flags = [*source("docs", path, tokens="ids"), "--tokenizer", TOKENIZER]
    done("prepare", *flags, "--window", 16, "--out", tmp_path / "out", "--validation-fraction", 0)
    assert harness.stored(tmp_path / "out.store") == {n: [*t, EOS] for n, t in ids.items()}
    hashes = {row["id"]: row["content_hash"] for row in harness.documents(tmp_path / "out")}
    assert hashes == {
        n: xxhash.xxh3_128_digest(np.array(t, "<i4").tobytes()) for n, t in ids.items()
    }
    done("verify", tmp_path / "out")


# Mixing


def mixed(tmp_path: Path, *flags: object, **options: object) -> tuple[dict[str, int], Path]:
    """Training tokens of poems and jargon, and where they were written."""
    sources = [
        *source("poems", DATA / "poems.jsonl", **options),
        *source("jargon", DATA / "jargon.jsonl.gz"),
    ]
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    fixed = ["--tokenizer", TOKENIZER, "--window", 128, "--validation-fraction", 0, "--out", out]
    done("prepare", *sources, *fixed, *flags)
    done("verify", out)
    found = {s["name"]: s["splits"]["train"]["tokens"] for s in harness.manifest(out)["sources"]}
    return found, out


@pytest.mark.parametrize("epochs", [0, 0.5, 1, 2, 2.25])
def test_epochs_are_counted_in_tokens_to_one_document(tmp_path, epochs):
    tokens, out = mixed(tmp_path, epochs=epochs)
    rows = [row for row in harness.documents(out) if row["source"] == "poems"]
    total = sum(row["n_tokens"] for row in rows)
    assert tokens["poems"] == sum(row["n_tokens"] * row["copies"] for row in rows)
    assert 0 <= tokens["poems"] - epochs * total < max(row["n_tokens"] for row in rows)
    copies = {row["copies"] for row in rows}
    assert copies <= {math.floor(epochs), math.ceil(epochs)}
    assert {row["drop_reason"] for row in rows if row["copies"] == 0} <= {"mixing"}


def test_a_budget_scales_all_sources(tmp_path):
    tokens, out = mixed(tmp_path, "--token-budget", "60k")
    available = {s["name"]: s["read"]["tokens"] for s in harness.manifest(out)["sources"]}
    assert sum(tokens.values()) == pytest.approx(60_000, abs=2 * 3500)
    for name in tokens:
        assert tokens[name] / available[name] == pytest.approx(
            60_000 / sum(available.values()), abs=0.05
        )


def test_a_share_is_a_part_of_the_budget(tmp_path):
    tokens, _ = mixed(tmp_path, "--token-budget", "60k", share=0.25)
    assert tokens["poems"] == pytest.approx(15_000, abs=1400)
    assert tokens["jargon"] == pytest.approx(45_000, abs=3500)


def test_a_share_of_what_is_there_repeats_it(tmp_path):
    tokens, out = mixed(tmp_path, "--token-budget", "200k", share=1)
    assert tokens["poems"] == pytest.approx(200_000, abs=1400)
    assert tokens["jargon"] == 0
    assert {row["copies"] for row in harness.documents(out) if row["source"] == "poems"} == {2, 3}


def test_a_budget_that_nobody_spends_is_warned_of(tmp_path):
    flags = [*source("poems", DATA / "poems.jsonl", share=0.5), "--tokenizer", TOKENIZER]
    fixed = ["--window", 128, "--token-budget", "60k", "--out", tmp_path / "out"]
    done("prepare", *flags, *fixed)
    (trained,) = (
        s["splits"]["train"]["tokens"] for s in harness.manifest(tmp_path / "out")["sources"]
    )
    assert 30_000 <= trained < 31_400
    expected = (
        "the shares of the token budget add up to 0.5, and no other source takes the rest: "
        f"{trained:,} tokens are trained on, of 60,000"
    )
    assert expected in harness.manifest(tmp_path / "out")["warnings"]


@pytest.mark.parametrize("flags", [["--token-budget", "60k"], []])
def test_a_budget_that_is_spent_is_not_warned_of(tmp_path, flags):
    _, out = mixed(tmp_path, *flags, **({"share": 0.5} if flags else {}))
    assert not any("budget" in warning for warning in harness.manifest(out)["warnings"])


def test_a_source_without_documents_has_the_copies_asked_for(tmp_path):
    empty = harness.write_jsonl(tmp_path / "empty.jsonl", [{"text": ""}])
    flags = [*source("poems", DATA / "poems.jsonl"), *source("empty", empty, epochs=3)]
    done("prepare", *flags, "--tokenizer", TOKENIZER, "--window", 128, "--out", tmp_path / "out")
    copies = {s["name"]: s["copies"] for s in harness.manifest(tmp_path / "out")["sources"]}
    assert copies == {"poems": 1.0, "empty": 3.0}
    done("verify", tmp_path / "out")


def test_groups_are_no_larger_however_often_a_source_is_seen(tmp_path):
    _, out = mixed(tmp_path, "--group-tokens", "3k", "--split-bytes", "5k", epochs=5)
    stored: Counter[str] = Counter()
    for row in harness.documents(out):
        stored[row["part"]] += row["n_tokens"]
    shards = harness.manifest(out)["shards"]["train"]
    assert len(shards) > 25  # one per group
    largest = max(3000, *stored.values())
    assert all(shard["windows"] * 128 < largest + 128 for shard in shards)


def drawn_order(n: int, *key: int) -> list[int]:
    """permutation(n, purpose, scope) of the page on the formats, seed 0."""
    stream = np.random.Philox(np.random.SeedSequence(0, spawn_key=key))
    free = 64 - max(1, n.bit_length())
    draws = [draw % 2**free for draw in stream.random_raw(n).tolist()]
    return sorted(range(n), key=lambda i: draws[i])


def test_windows_are_in_the_order_that_the_page_on_the_formats_defines(tmp_path):
    _, out = mixed(tmp_path, "--group-tokens", "9k", "--split-bytes", "9k", epochs=2.5)
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in harness.documents(out):
        parts.setdefault(row["part"], []).append(row)
    size = {part: sum(row["n_tokens"] for row in rows) for part, rows in parts.items()}
    times = {part: 3 if rows[0]["source"] == "poems" else 1 for part, rows in parts.items()}
    members = [(part, k) for part in sorted(parts) for k in range(times[part])]
    groups: list[list[tuple[str, int]]] = []
    for i in drawn_order(len(members), 0):
        part, k = members[i]
        if groups and sum(size[p] for p, _ in groups[-1]) + size[part] <= 9000:
            groups[-1].append((part, k))
        else:
            groups.append([(part, k)])
    assert len(groups) > 5
    expected = []
    for g, group in enumerate(groups):
        listed = [row for part, k in sorted(group) for row in parts[part] if row["copies"] > k]
        listed = [listed[i] for i in drawn_order(len(listed), 1, g, 0)]
        windows = concat_by_stream([row["n_tokens"] for row in listed], 128)
        expected += [
            [(listed[d]["doc_index"], at, n) for d, at, n in windows[w]]
            for w in drawn_order(len(windows), 2, g, 0)
        ]
    found = []
    for row in harness.windows(out):
        segments = zip(row["doc_index"], row["doc_offset"], row["seq_lengths"], strict=True)
        found.append([segment for segment in segments if segment[0] != -1])
    assert found == expected


def test_the_seed_changes_the_order_and_nothing_else(tmp_path):
    _, one = mixed(tmp_path, "--seed", 1)
    _, other = mixed(tmp_path, "--seed", 2)
    assert harness.windows(one) != harness.windows(other)
    assert harness.occurrences(one) == harness.occurrences(other)


def test_dedup_in_several_runs_on_several_threads_gives_the_same_bytes(tmp_path, monkeypatch):
    from exactcpt.pipeline.pack import repeated_units

    records = [{"id": i, "text": f"text {i % 150} of a hundred and fifty"} for i in range(400)]
    path = harness.write_jsonl(tmp_path / "a.jsonl", records)
    flags = [*source("docs", path), "--tokenizer", TOKENIZER, "--window", 16]
    flags += ["--split-bytes", "2k", "--group-tokens", "1k", "--dedup", "exact"]
    done("prepare", *flags, "--workers", 1, "--out", tmp_path / "one")
    monkeypatch.setattr(repeated_units, "DOCUMENTS_PER_RUN", 20)
    done("prepare", *flags, "--workers", 3, "--out", tmp_path / "several")
    assert harness.content(tmp_path / "several") == harness.content(tmp_path / "one")
    assert harness.read_source(tmp_path / "one")["dropped"] == {"duplicate": 250}


def test_dedup_keeps_the_first_document(tmp_path):
    records = [{"id": i, "text": f"text {i % 40}"} for i in range(100)]
    path = harness.write_jsonl(tmp_path / "a.jsonl", records)
    flags = [*source("docs", path), "--tokenizer", TOKENIZER, "--window", 16, "--dedup", "exact"]
    done("prepare", *flags, "--out", tmp_path / "out")
    rows = harness.documents(tmp_path / "out")
    assert [row["id"] for row in rows if row["copies"]] == [str(i) for i in range(40)]
    assert {row["drop_reason"] for row in rows if not row["copies"]} == {"duplicate"}
    assert harness.read_source(tmp_path / "out")["dropped"] == {"duplicate": 60}


# The tokenizer


FORGED = "before<|endoftext|>after"


@pytest.mark.parametrize("backend", ["gigatoken", "tokenizers"])
def test_no_document_can_forge_a_boundary(tmp_path, backend):
    flags = [*harness.small(tmp_path, [FORGED]), "--tokenizer-backend", backend]
    done("tokenize", *flags, "--out", tmp_path / "ordinary")
    (tokens,) = harness.stored(tmp_path / "ordinary").values()
    assert tokens.count(EOS) == 1 and tokens[-1] == EOS
    assert Tokenizer.from_file(str(TOKENIZER)).decode(tokens[:-1]) == FORGED
    done("tokenize", *flags, "--out", tmp_path / "allow", "--special-tokens-in-text", "allow")
    (tokens,) = harness.stored(tmp_path / "allow").values()
    assert tokens.count(EOS) == 2


def add_bos(tokenizer: dict[str, Any]) -> None:
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 4096, "content": "<s>"})
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [4096], "tokens": ["<s>"]}},
    }


def test_bos_follows_the_template_unless_told(tmp_path):
    folder = harness.changed_tokenizer(tmp_path / "t", add_bos)
    path = harness.write_jsonl(tmp_path / "a.jsonl", [{"id": "d", "text": "some words"}])
    flags = [*source("docs", path), "--tokenizer", folder]
    plain = [*harness.encode("some words"), EOS]
    for name, more, bos in (("a", [], [4096]), ("b", ["--bos"], [4096]), ("c", ["--no-bos"], [])):
        done("tokenize", *flags, *more, "--out", tmp_path / name)
        assert harness.stored(tmp_path / name) == {"d": [*bos, *plain]}
        manifest = harness.manifest(tmp_path / name)
        assert manifest["tokenizer"]["bos_id"] == (bos[0] if bos else None)
        assert manifest["tokenizer"]["largest_id"] == 4096


def test_pad_and_eos_of_the_tokenizers_config(tmp_path):
    def change(tokenizer: dict[str, Any]) -> None:
        harness.rename_eos(tokenizer)
        tokenizer["model"]["vocab"]["<pad>"] = 5000
        pad = {**tokenizer["added_tokens"][0], "id": 5000, "content": "<pad>"}
        tokenizer["added_tokens"].append(pad)

    folder = harness.changed_tokenizer(
        tmp_path / "t", change, eos_token={"content": "<|im_end|>"}, pad_token="<pad>"
    )
    path = harness.write_jsonl(tmp_path / "a.jsonl", [{"id": "d", "text": "some words"}])
    flags = [*source("docs", path), "--tokenizer", folder, "--validation-fraction", 0]
    outcome = done("prepare", *flags, "--window", 16, "--out", tmp_path / "out")
    manifest = harness.manifest(tmp_path / "out")
    assert "documents end with '<|im_end|>' (id 0)" in outcome.err
    assert "warning: " in outcome.err and "--eos-token" in outcome.err
    facts = manifest["tokenizer"]
    assert (facts["eos_id"], facts["pad_id"], facts["largest_id"]) == (0, 5000, 5000)
    (row,) = harness.windows(tmp_path / "out")
    assert row["input_ids"] == [*harness.encode("some words"), EOS] + [5000] * row["seq_lengths"][1]
    done("verify", tmp_path / "out")


def test_an_eos_that_was_asked_for(tmp_path):
    flags = [*harness.small(tmp_path, ["a b"]), "--eos-token", "!"]
    done("tokenize", *flags, "--out", tmp_path / "store")
    ((*_, last),) = harness.stored(tmp_path / "store").values()
    assert last == Tokenizer.from_file(str(TOKENIZER)).token_to_id("!")


# Two backends


def test_backends_give_the_same_tokens(prepared, copied, tmp_path):
    flags = [*corpora("plain", copied), "--tokenizer-backend", "tokenizers"]
    done("prepare", *flags, "--out", tmp_path / "out")
    for split in ("train", "validation"):
        assert harness.files(tmp_path / "out" / split) == harness.files(prepared("plain") / split)
    used = harness.manifest(tmp_path / "out")["tokenizer"]["backend"]
    assert used == {"requested": "tokenizers", "used": "tokenizers", "fallback": None}


@pytest.fixture
def gigatoken_errs(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Makes gigatoken encode texts that contain some bytes in another way than the reference."""
    from exactcpt.pipeline.tokens import encoders

    def break_it(needle: bytes) -> None:
        encode = encoders.Gigatoken.encode

        def wrong(self: Any, texts: Any) -> Any:
            ids = encode(self, texts)
            data = ids.data.copy()
            for i in range(len(texts)):
                if needle in texts[i].tobytes():
                    data[ids.offsets[i]] = (data[ids.offsets[i]] + 1) % 4096
            return type(ids)(ids.offsets, data)

        monkeypatch.setattr(encoders.Gigatoken, "encode", wrong)

    return break_it


NEEDLES = {"in the torture set": "漢字かな", "in the beginning": "关关雎鸠", "later": "渭城朝雨"}


@pytest.mark.parametrize("where", NEEDLES)
def test_one_difference_and_the_job_falls_back_for_all_of_it(tmp_path, gigatoken_errs, where):
    flags = [*source("poems", DATA / "poems.jsonl"), "--tokenizer", TOKENIZER, "--window", 64]
    flags += ["--split-bytes", "20k"]
    done("prepare", *flags, "--tokenizer-backend", "tokenizers", "--out", tmp_path / "reference")
    gigatoken_errs(NEEDLES[where].encode())
    outcome = done("prepare", *flags, "--out", tmp_path / "out")
    assert "using tokenizers" in outcome.err or "again with tokenizers" in outcome.err
    backend = harness.manifest(tmp_path / "out")["tokenizer"]["backend"]
    assert (backend["requested"], backend["used"]) == ("auto", "tokenizers")
    assert "differently" in backend["fallback"]
    assert harness.stored(tmp_path / "out.store") == harness.stored(tmp_path / "reference.store")
    for split in ("train", "validation"):
        one, other = (harness.files(tmp_path / n / split) for n in ("out", "reference"))
        assert one == other
    summaries = (tmp_path / "out.store" / "parts").glob("*.json")
    assert {json.loads(s.read_text())["backend"] for s in summaries} == {"tokenizers"}
    again = done("prepare", *flags, "--out", tmp_path / "out")
    assert "finished before" in again.err


@pytest.mark.parametrize("where", NEEDLES)
def test_gigatoken_that_was_asked_for_must_not_differ(tmp_path, gigatoken_errs, where):
    gigatoken_errs(NEEDLES[where].encode())
    flags = [*source("poems", DATA / "poems.jsonl"), "--tokenizer", TOKENIZER, "--window", 64]
    flags += ["--split-bytes", "20k", "--tokenizer-backend", "gigatoken"]
    outcome = harness.run("prepare", *flags, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "differently" in outcome.err and "--tokenizer-backend" in outcome.err
    assert not (tmp_path / "out.store" / "manifest.json").exists()


def word_level(tokenizer: dict[str, Any]) -> None:
    """Makes a tokenizer one that gigatoken does not support."""
    words = ["<|endoftext|>", "one", "two", "[UNK]"]
    tokenizer["model"] = {
        "type": "WordLevel",
        "vocab": {w: i for i, w in enumerate(words)},
        "unk_token": "[UNK]",
    }
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    tokenizer["decoder"] = None


@pytest.mark.parametrize("backend", ["auto", "gigatoken"])
def test_token_ids_ask_for_no_backend(tmp_path, backend):
    """Nothing is encoded, so nothing is said of who would have encoded it."""
    folder = harness.changed_tokenizer(tmp_path / "t", word_level)
    path = harness.write_jsonl(tmp_path / "a.jsonl", [{"ids": [1, 2]}])
    flags = ["--tokenizer", folder, "--tokenizer-backend", backend]
    ids = source("ids", path, tokens="ids")
    outcome = done("tokenize", *ids, *flags, "--out", tmp_path / "store")
    assert "gigatoken" not in outcome.err
    manifest = harness.manifest(tmp_path / "store")
    used = {"requested": backend, "used": "tokenizers", "fallback": None}
    assert manifest["tokenizer"]["backend"] == used
    assert not any("encoded" in warning for warning in manifest["warnings"])
    text = source("text", harness.write_jsonl(tmp_path / "b.jsonl", [{"text": "one"}]))
    both = harness.run("tokenize", *ids, *text, *flags, "--out", tmp_path / "both")
    assert (both.code, "does not support" in both.err) == (backend == "gigatoken", True)


def test_a_tokenizer_that_gigatoken_does_not_support(tmp_path):
    folder = harness.changed_tokenizer(tmp_path / "t", word_level)
    path = harness.write_jsonl(tmp_path / "a.jsonl", [{"id": "d", "text": "two one three"}])
    flags = [*source("docs", path), "--tokenizer", folder]
    outcome = done("tokenize", *flags, "--out", tmp_path / "store")
    assert harness.stored(tmp_path / "store") == {"d": [2, 1, 3, 0]}
    backend = harness.manifest(tmp_path / "store")["tokenizer"]["backend"]
    assert backend["used"] == "tokenizers" and "does not support" in backend["fallback"]
    assert "warning: " in outcome.err
    asked = harness.run(
        "tokenize", *flags, "--tokenizer-backend", "gigatoken", "--out", tmp_path / "other"
    )
    assert asked.code == 1 and "does not support" in asked.err
