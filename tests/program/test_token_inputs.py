"""Documents that other programs have tokenized become token stores, whatever file they are in."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import TOKENIZER, done, manifest, run, stored, write_jsonl
from token_files import write_datatrove, write_mds, write_megatron

pytestmark = pytest.mark.slow

END = 0
DOCUMENTS = [[n % 50 + 1] * (n % 7 + 1) + [END] for n in range(40)]


def write_with_index(folder: Path, documents: list[list[int]]) -> None:
    """The formats that have an index, each in a folder of its name."""
    for name in ("megatron", "datatrove"):
        (folder / name).mkdir(exist_ok=True)
    write_megatron(folder / "megatron" / "a", [[ids] for ids in documents])
    write_datatrove(folder / "datatrove" / "a.ds", documents)
    write_mds(folder / "mds", [[{"ids": ids} for ids in documents]], {"ids": "ndarray"})


def write_all(folder: Path) -> dict[str, str]:
    """The same documents in every format; the pattern of each source, with its options."""
    write_with_index(folder, DOCUMENTS)
    (folder / "npy").mkdir()
    stream = [i for ids in DOCUMENTS for i in ids]
    np.save(folder / "npy" / "a.npy", np.array(stream, np.uint16))
    write_jsonl(folder / "lines.jsonl", [{"ids": ids} for ids in DOCUMENTS])
    return {
        "megatron": f"{folder}/megatron",
        "datatrove": f"{folder}/datatrove",
        "npy": f"{folder}/npy",
        "mds": f"{folder}/mds,tokens=ids",
        "lines": f"{folder}/lines.jsonl,tokens=ids",
    }


def flags(name: str, pattern: str, out: Path) -> list[Any]:
    common = ["--tokenizer", TOKENIZER, "--workers", 1, "--split-bytes", 1000]
    return [f"--source={name}={pattern}", *common, "--out", out]


def test_every_format_gives_the_same_documents(tmp_path: Path) -> None:
    found = {}
    for name, pattern in write_all(tmp_path).items():
        done("tokenize", *flags(name, pattern, tmp_path / f"{name}.store"))
        found[name] = [*stored(tmp_path / f"{name}.store").values()]
    assert found == dict.fromkeys(found, DOCUMENTS)


def test_the_manifest_has_every_file_that_was_read(tmp_path: Path) -> None:
    inputs = {}
    for name, pattern in write_all(tmp_path).items():
        done("tokenize", *flags(name, pattern, tmp_path / f"{name}.store"))
        told = manifest(tmp_path / f"{name}.store")
        assert told["warnings"] == []
        assert all(each["xxh3_128"] for each in told["inputs"])
        inputs[name] = [each["path"] for each in told["inputs"]]
    assert inputs == {
        "megatron": ["a.bin", "a.idx"],
        "datatrove": ["a.ds", "a.ds.index"],
        "npy": ["a.npy"],
        "mds": ["shard.00000.mds", "index.json"],
        "lines": ["lines.jsonl"],
    }


@pytest.mark.parametrize("name", ["megatron", "datatrove", "mds"])
def test_an_index_is_part_of_the_input(tmp_path: Path, name: str) -> None:
    pattern = write_all(tmp_path)[name]
    out = tmp_path / "store"
    done("tokenize", *flags(name, pattern, out))
    index = {"megatron": "a.idx", "datatrove": "a.ds.index", "mds": "index.json"}[name]
    path = tmp_path / name / index
    os.utime(path, (1, 1))
    again = done("tokenize", *flags(name, pattern, out))
    assert "1 input with another time than before" in again.err
    assert "was finished before, with the same settings and inputs" in again.err
    write_with_index(tmp_path, [DOCUMENTS[0] + DOCUMENTS[1], *DOCUMENTS[2:]])
    other = run("tokenize", *flags(name, pattern, out))
    assert other.code == 2
    assert "inputs have changed since this folder was begun" in other.err
    assert str(path) in other.err


def test_a_file_whose_index_is_damaged_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_megatron(tmp_path / "in" / name, [[ids] for ids in DOCUMENTS])
    with (tmp_path / "in" / "b.idx").open("ab") as file:
        file.write(b"\0")
    job = flags("web", f"{tmp_path}/in", tmp_path / "store")
    failed = run("tokenize", *job)
    assert failed.code == 1
    assert "b.idx has" in failed.err
    done("tokenize", *job, "--on-bad-file", "skip")
    told = manifest(tmp_path / "store")
    assert [each["path"] for each in told["inputs"] if each["skipped"]] == ["b.bin"]
    assert [*stored(tmp_path / "store").values()] == DOCUMENTS


def test_equal_indexes_are_no_equal_inputs(tmp_path: Path) -> None:
    for name, first in (("a", 1), ("b", 2)):
        write_megatron(tmp_path / name, [[[first, 2, END]]])
    done("tokenize", *flags("web", f"{tmp_path}/*.bin", tmp_path / "store"))
    assert manifest(tmp_path / "store")["warnings"] == []


@pytest.mark.parametrize("option", ["text=body", "id=n", "tokens=ids"])
@pytest.mark.parametrize("name", ["megatron", "datatrove", "npy"])
def test_files_of_ids_have_no_fields(tmp_path: Path, name: str, option: str) -> None:
    pattern = write_all(tmp_path)[name]
    refused = run("tokenize", *flags(name, f"{pattern},{option}", tmp_path / "store"))
    assert refused.code == 2
    field = option.partition("=")[0]
    assert f"source '{name}' has {field}=FIELD, but is read as {name}" in refused.err


def test_documents_without_tokens_are_dropped_as_empty(tmp_path: Path) -> None:
    write_megatron(tmp_path / "a", [[[1, END]], [], [[END]], [[2]]])
    done("tokenize", *flags("web", f"{tmp_path}/a.bin", tmp_path / "store"))
    [source] = manifest(tmp_path / "store")["sources"]
    assert source["read"]["dropped"] == {"empty": 2}
    assert [*stored(tmp_path / "store").values()] == [[1, END], [2, END]]


def test_inspect_takes_them_too(tmp_path: Path) -> None:
    for name, pattern in write_all(tmp_path).items():
        command = ["inspect", f"--source={name}={pattern}", "--tokenizer", TOKENIZER, "--json"]
        found = done(*command, "--sample", 1, "--window", 32).json
        assert found
