"""How many objects of gigatoken a job loads, and on how many cores each encodes."""

import json
from pathlib import Path

import pytest
import zstandard
from harness import TOKENIZER, content, done, source, write_jsonl
from stores import splits_of, task_of

from exactcpt.pipeline.config import TokenizeConfig, parse_source
from exactcpt.pipeline.tokens import builder, cores
from exactcpt.pipeline.tokens.parts import write_parts
from exactcpt.pipeline.tokens.plan import plan_tokenize


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    monkeypatch.setattr(cores, "_own_objects", None)


def test_the_text_of_a_plan_is_counted_as_it_will_be_encoded(tmp_path: Path) -> None:
    record = json.dumps({"text": "some words"}).encode()
    (tmp_path / "plain.jsonl").write_bytes(record)
    packed = zstandard.compress(record * 50)
    (tmp_path / "packed.jsonl.zst").write_bytes(packed)
    write_jsonl(tmp_path / "ids.jsonl", [{"ids": [1, 2, 3]}])
    sources = tuple(
        parse_source(f"{name}={tmp_path / file}")
        for name, file in (
            ("a", "plain.jsonl"),
            ("b", "packed.jsonl.zst"),
            ("c", "ids.jsonl,tokens=ids"),
        )
    )
    plan = plan_tokenize(TokenizeConfig(sources=sources, tokenizer=str(TOKENIZER)))
    assert plan.text_bytes == len(record) + 3 * len(packed)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", "tokenize"])
def test_a_job_that_is_long_loads_an_object_per_thread_and_writes_the_same(
    command, tmp_path, monkeypatch
):
    write_jsonl(tmp_path / "docs.jsonl", [{"text": f"words and a number {i}"} for i in range(200)])
    flags = [*source("docs", tmp_path / "docs.jsonl"), "--tokenizer", TOKENIZER, "--workers", 3]
    flags += ["--split-bytes", 1000]
    flags += ["--window", 64] if command == "prepare" else []
    done(command, *flags, "--out", tmp_path / "short")
    assert cores._own_objects is None
    monkeypatch.setattr(cores, "LOADING_PAYS", 0)
    done(command, *flags, "--out", tmp_path / "long")
    assert cores._own_objects == 3
    assert content(tmp_path / "long") == content(tmp_path / "short")


def test_a_split_that_is_written_is_a_unit(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "docs.jsonl", [{"text": "some words"}])
    (split,) = splits_of({"a": tmp_path / "docs.jsonl"})
    units: list[int] = []
    add = builder.PartBuilder.add

    def added(self, batch):
        units.append(cores._units)
        add(self, batch)

    monkeypatch.setattr(builder.PartBuilder, "add", added)
    write_parts(split, task_of(tmp_path / "store"), {})
    assert units == [1]
    assert cores._units == 0
