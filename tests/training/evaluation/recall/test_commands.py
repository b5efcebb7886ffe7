"""`exactcpt recall-world`, and `exactcpt evaluate` on what it writes, as their users run them."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from harness import done, run

from exactcpt.schemas.manifest import EVALUATION, parse
from exactcpt.training.evaluation.recall.world_file import read_world

SMALL = ["--short", "20k", "--mixed", "20k", "--window", "256", "--tau", "64", "--seed", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("recall") / "world"
    done("recall-world", out, *SMALL)
    return out


def test_what_it_prints(tmp_path):
    outcome = done("recall-world", tmp_path / "world", *SMALL)
    rows = [line.split("│") for line in outcome.out.splitlines() if line.startswith("│")]
    short, mixed = ([cell.strip() for cell in row[1:-1]] for row in rows)
    assert short[0] == "short"
    assert short[3] == "0.0%"
    assert mixed[0] == "mixed"
    assert 1.5 < float(short[4]) < 2.5
    assert outcome.err.endswith(f"{tmp_path / 'world'} is complete\n")


def test_json_and_quiet(tmp_path, folder):
    found = done("recall-world", tmp_path / "a", *SMALL, "--json", "--quiet")
    assert found.err == ""
    short, mixed = found.json["corpora"]
    record = json.loads((folder / "world.json").read_text())
    for corpus, recorded in zip((short, mixed), record["corpora"], strict=True):
        assert recorded.items() <= corpus.items()
    assert short["tail_share"] == 0
    assert 0.02 < mixed["tail_share"] < 0.2
    assert short["ideal_loss"] < mixed["ideal_loss"] + 0.1 < math.log(66)
    quiet = done("recall-world", tmp_path / "b", *SMALL, "--quiet")
    assert quiet.out == quiet.err == ""


def test_a_second_time_is_no_mistake_but_another_world_is(folder):
    before = (folder / "world.json").stat()
    assert done("recall-world", folder, *SMALL, "--quiet").out == ""
    assert (folder / "world.json").stat() == before
    outcome = run("recall-world", folder, *SMALL, "--seed", 1, "--quiet")
    assert outcome.code == 2
    assert outcome.err == (
        "error: the folder to write exists, and its mixed.jsonl is not what would be written\n"
        f"  where:    {folder}\n"
        "  fix:      remove it or name another one\n"
    )


def items_of(place: Path) -> tuple[dict, list[dict]]:
    (folder,) = place.iterdir()
    path = folder / "manifest.json"
    manifest = parse(path.read_bytes(), str(path), EVALUATION)
    return manifest, pq.read_table(folder / "items.parquet").to_pylist()


def test_items_of_a_world(folder, tmp_path):
    """As long as its window; with its tokenizer; without torch."""
    arguments = [
        "evaluate", "--items-only", "--haystack", str(folder / "world.json"), "--items", "2",
        "--lengths", "256", "--out", str(tmp_path), "--quiet",
    ]  # fmt: skip
    code = (
        "import sys; from exactcpt.pipeline.cli import run_command;"
        f"assert run_command({arguments!r}) == 0;"
        "print(*{'torch', 'transformers'} & sys.modules.keys())"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert outcome.stdout.strip() == ""
    manifest, items = items_of(tmp_path)
    world, _ = read_world(folder / "world.json")
    assert (manifest["suite"], manifest["tasks"]) == ("probe", ["recall"])
    assert manifest["haystack"] == world.digest
    assert {item["task"] for item in items} == {"recall"}
    assert sorted({item["distance"] for item in items}) == [8, 16, 32, 64, 128, 192]
    prompts = (next(tmp_path.iterdir()) / "prompts.jsonl").read_text().splitlines()
    assert len(prompts) == 2 * len(items) == 2 * 2 * 2 * 6
    for prompt in map(json.loads, prompts):
        assert [world.words[i] for i in prompt["ids"]] == prompt["text"].split()


def test_the_lengths_are_the_window_and_its_multiples(folder, tmp_path):
    done(
        "evaluate", "--items-only", "--haystack", folder / "world.json", "--items", "1",
        "--out", tmp_path, "--tasks", "recall",
    )  # fmt: skip
    names = sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir())
    assert names == ["probe-1024", "probe-256", "probe-512"]


@pytest.mark.parametrize(
    ("code", "arguments", "error", "fix"),
    [
        (
            2,
            ["--haystack", "WORLD", "--tasks", "number"],
            "no task is named 'number'",
            "the task number needs text: --haystack SHARDS, or a file named *.txt or *.jsonl",
        ),
        (
            2,
            ["--haystack", "book.txt", "--tasks", "recall"],
            "no task is named 'recall'",
            "the task recall needs a recall world: --haystack DIR/world.json",
        ),
        (2, ["--haystack", "WORLD", "--tasks", "lambda"], "no task is named 'lambda'", None),
        (2, ["--haystack", "gone/world.json"], "there is no such haystack", "name one with"),
        (1, ["--haystack", "DAMAGED"], "the recall world is not JSON", "restore the file"),
    ],
)
def test_wrong_usage(folder, tmp_path, code, arguments, error, fix):
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{")
    places = {"WORLD": folder / "world.json", "DAMAGED": damaged}
    arguments = [places.get(each, each) for each in arguments]
    outcome = run("evaluate", "--items-only", *arguments, "--out", tmp_path / "out")
    assert outcome.code == code
    assert error in outcome.err
    assert (f"fix:      {fix}" in outcome.err) if fix else ("fix:" not in outcome.err)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_from_a_world_to_scores(folder, tmp_path):
    """Its corpus is prepared and trained on; the run is evaluated and compared."""
    from tiny import model_folder

    model = model_folder(tmp_path / "model", vocab_size=66, max_position_embeddings=256)
    shutil.copy(folder / "tokenizer" / "tokenizer.json", model)
    done(
        "prepare", "--source", f"mixed={folder / 'mixed.jsonl'}", "--tokenizer",
        folder / "tokenizer", "--window", "256", "--tau", "64", "--packing", "best_fit",
        "--tokenizer-backend", "tokenizers", "--validation-fraction", "0.1", "--out",
        tmp_path / "shards",
    )  # fmt: skip
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    assert manifest["warnings"] == []
    assert manifest["splits"]["train"]["cut_documents"] == 0
    record = json.loads((folder / "world.json").read_text())
    assert manifest["sources"][0]["read"]["tokens"] == record["corpora"][1]["tokens"]
    for weighting in ("exact", "uniform"):
        done(
            "train", "--shards", tmp_path / "shards", "--model", model, "--out",
            tmp_path / weighting, "--weighting", weighting, "--steps", "2", "--global-batch", "2",
            "--precision", "fp32", "--device", "cpu", "--eval-every", "0",
        )  # fmt: skip
    runs = [tmp_path / "exact", tmp_path / "uniform"]
    haystack = ["--haystack", folder / "world.json", "--items", "2", "--lengths", "256"]
    shown = done("evaluate", *runs, *haystack).out
    assert "│ 8 " in shown
    assert "│ 64 *" in shown
    compared = done("compare", *runs, "--json").json
    assert compared["probed"][0]["length"] == 256
    refused = run("evaluate", *runs, *haystack, "--suite", "probe,buckets")
    assert refused.code == 2
    assert "the suite buckets reads the validation windows of a shard set" in refused.err
