"""Reweighing: what it writes is what packing anew would write."""

import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import done, run
from hypothesis import given
from hypothesis import strategies as st
from stores import contents

from exactcpt.pipeline.config import PackConfig
from exactcpt.pipeline.pack import copying as reweigh_units
from exactcpt.pipeline.pack.reweigh import reweighed
from exactcpt.pipeline.verify.claims import weight_rows
from exactcpt.schemas.weights import dump_table

pytestmark = pytest.mark.slow

FIRST = ["--window=512", "--group-tokens=100k", "--shard-bytes=400k", "--validation-fraction=0.05"]
WAYS = {
    "concat": [*FIRST, "--dedup=exact", "--seed=3"],
    "best_fit": [*FIRST, "--packing=best_fit", "--epochs=poems=2.5", "--max-weight=1.9"],
}
CHANGES = {
    "nothing": [],
    "alpha": ["--alpha=0.5"],
    "all": ["--tau=8", "--alpha=0.3", "--gamma=1", "--epsilon=0.001", "--max-weight=1.35"],
    "no tail": ["--tau=511"],
    "heavy": ["--tau=16", "--alpha=30", "--gamma=2", "--max-weight=1000"],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("reweigh") / "store"
    sources = [
        *harness.source("poems", harness.DATA / "poems.jsonl"),
        *harness.source("proposals", harness.DATA / "proposals.jsonl"),
    ]
    tokenizer = ["--tokenizer", harness.TOKENIZER]
    done("tokenize", *sources, *tokenizer, "--split-bytes=200k", "--out", out, "--quiet")
    return out


@pytest.fixture(scope="module")
def sets(store) -> dict[str, Path]:
    """A shard set for each packing."""
    found = {}
    for name, way in WAYS.items():
        found[name] = store.parent / name
        done("pack", store, *way, "--out", found[name], "--quiet")
    return found


@pytest.fixture
def shards(sets, tmp_path) -> Path:
    """A set that a test may damage."""
    return shutil.copytree(sets["concat"], tmp_path / "shards")


def table_file(path: Path, weights: list[float], **changes: Any) -> Path:
    table = json.loads(dump_table(512, [1.0] * 7, None))
    for row, weight in zip(table["buckets"], weights, strict=True):
        row["weight"] = weight
    path.write_text(json.dumps(table | changes))
    return path


GIVEN = [0.5, 1, 1, 1.25, 1, 2, 3.5]


@pytest.mark.parametrize(
    ("way", "change"),
    [*(("concat", change) for change in CHANGES), ("best_fit", "all"), ("best_fit", "alpha")],
)
def test_it_writes_what_pack_writes(sets, store, tmp_path, way, change):
    flags = CHANGES[change]
    done("reweigh", sets[way], *flags, "--out", tmp_path / "new", "--quiet")
    later = [*WAYS[way], *flags]
    done("pack", store, *later, "--out", tmp_path / "packed", "--quiet")
    assert harness.files(tmp_path / "new") == harness.files(tmp_path / "packed")
    assert (change == "nothing") == (harness.files(tmp_path / "new") == harness.files(sets[way]))
    assert len(harness.manifest(tmp_path / "new")["shards"]["train"]) > 2


def test_warnings_are_those_of_the_new_weights(sets, tmp_path):
    done("reweigh", sets["concat"], *CHANGES["heavy"], "--out", tmp_path / "a", "--quiet")
    done("reweigh", tmp_path / "a", *CHANGES["no tail"], "--out", tmp_path / "b", "--quiet")
    first, second = (harness.manifest(tmp_path / name)["warnings"] for name in "ab")
    assert any("few targets will dominate" in warning for warning in first)
    assert not any("few targets will dominate" in warning for warning in second)
    assert any("the tail is empty" in warning for warning in second)


def test_verify_agrees(sets, store, tmp_path):
    done("reweigh", sets["best_fit"], *CHANGES["all"], "--out", tmp_path / "new", "--quiet")
    done("verify", tmp_path / "new", "--store", store)


def test_pack_finds_it_finished(sets, store, tmp_path):
    done("reweigh", sets["concat"], "--alpha=0.5", "--out", tmp_path / "new", "--quiet")
    before = harness.files(tmp_path / "new")
    flags = [*WAYS["concat"], "--alpha=0.5", "--out", tmp_path / "new", "--json", "--quiet"]
    assert done("pack", store, *flags).json["status"] == "finished before"
    again = done(
        "reweigh", sets["concat"], "--alpha=0.5", "--out", tmp_path / "new", "--json", "--quiet"
    )
    assert again.json["status"] == "finished before"
    assert harness.files(tmp_path / "new") == before


def test_a_clone_is_written_to_in_place(sets, tmp_path, monkeypatch):
    """Where the filesystem clones, only the dictionary is written."""

    def clone(source: int, target: int) -> bool:
        with open(source, "rb", closefd=False) as reads, open(target, "wb", closefd=False) as to:
            shutil.copyfileobj(reads, to)
            to.seek(0)
        return True

    done("reweigh", sets["concat"], "--alpha=0.5", "--out", tmp_path / "copied", "--quiet")
    monkeypatch.setattr(reweigh_units, "_clone", clone)
    monkeypatch.setattr(reweigh_units, "_write_all", None)
    done("reweigh", sets["concat"], "--alpha=0.5", "--out", tmp_path / "cloned", "--quiet")
    assert harness.files(tmp_path / "copied") == harness.files(tmp_path / "cloned")


@pytest.mark.parametrize("chunk", [1, 7, 64, 4096])
def test_a_swap_may_lie_across_chunks(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(reweigh_units, "CHUNK", chunk)
    data = bytes(range(200))
    (tmp_path / "a").write_bytes(data)
    swap = reweigh_units.Swap(50, b"x" * 30)
    reweigh_units._copy(tmp_path / "a", tmp_path / "b", swap)
    assert (tmp_path / "b").read_bytes() == data[:50] + b"x" * 30 + data[80:]


def test_a_remote_set(sets, tmp_path):
    done("reweigh", sets["concat"], "--alpha=0.5", "--out", tmp_path / "new", "--quiet")
    done("reweigh", sets["concat"], "--alpha=0.5", "--out", "memory://reweigh/far", "--quiet")
    done("reweigh", "memory://reweigh/far", "--out", tmp_path / "back", "--quiet")
    assert harness.files(tmp_path / "back") == harness.files(tmp_path / "new")


# Weights that are given


def test_a_table_that_was_written_gives_the_same_dictionary(sets, store, tmp_path):
    table = tmp_path / "table.json"
    done("reweigh", sets["concat"], "--alpha=0.5", "--table-only", "--out", table)
    done("reweigh", sets["concat"], "--alpha=0.5", "--out", tmp_path / "formula", "--quiet")
    done("reweigh", sets["concat"], "--table", table, "--out", tmp_path / "given", "--quiet")
    one, other = harness.files(tmp_path / "formula"), harness.files(tmp_path / "given")
    assert [name for name in one if one[name] != other[name]] == ["manifest.json"]
    done("verify", tmp_path / "given", "--store", store)


def test_given_weights(sets, tmp_path):
    table = table_file(tmp_path / "table.json", GIVEN)
    outcome = done("reweigh", sets["concat"], "--table", table, "--out", tmp_path / "new")
    assert "(given weights)" in outcome.err
    manifest = harness.manifest(tmp_path / "new")
    assert manifest["settings"]["table"] == GIVEN
    assert [manifest["settings"][n] for n in ("alpha", "gamma", "epsilon", "max_weight")] == [
        None
    ] * 4
    tail = [row for row in manifest["weights"]["table"] if row["in_tail"]]
    spent = sum(row["share"] * (row["weight"] - 1) for row in tail)
    assert manifest["weights"]["budget"] == pytest.approx(spent)
    row = harness.windows(tmp_path / "new")[0]
    assert set(row["loss_weight"]) <= {0.0, *GIVEN}
    done("verify", tmp_path / "new")


def test_from_given_weights_back_to_the_formula(sets, tmp_path):
    table = table_file(tmp_path / "table.json", GIVEN)
    done("reweigh", sets["concat"], "--table", table, "--out", tmp_path / "given", "--quiet")
    done("reweigh", tmp_path / "given", "--alpha=0.15", "--out", tmp_path / "back", "--quiet")
    assert harness.files(tmp_path / "back") == harness.files(sets["concat"])
    done("reweigh", tmp_path / "given", "--tau=64", "--out", tmp_path / "tau", "--quiet")
    assert harness.manifest(tmp_path / "tau")["settings"]["table"] == GIVEN
    done("verify", tmp_path / "tau")


def test_the_table_alone(sets, tmp_path):
    printed = done("reweigh", sets["concat"], "--alpha=0.5", "--table-only", "--quiet").out
    table = json.loads(printed)
    assert table["settings"] == {
        "tau": 128,
        "alpha": 0.5,
        "gamma": 0.5,
        "epsilon": 1e-8,
        "max_weight": None,
    }
    assert [row["bucket"] for row in table["buckets"]] == list(range(7))
    out = tmp_path / "a" / "table.json"
    done("reweigh", sets["concat"], "--alpha=0.5", "--table-only", "--out", out)
    assert out.read_text() == printed
    done("reweigh", sets["concat"], "--alpha=0.5", "--table-only", "--out", out)
    refused = run("reweigh", sets["concat"], "--table-only", "--out", out)
    assert refused.code == 2
    assert "this file holds something else" in refused.err
    done("reweigh", sets["concat"], "--table-only", "--out", out, "--overwrite")
    refused = run("reweigh", sets["concat"], "--table-only", "--out", tmp_path)
    assert refused.code == 2
    assert "--out is a folder" in refused.err


LIES = {
    "a weight": lambda m: m["settings"]["table"].__setitem__(2, 1.5),
    "the table": lambda m: m["weights"]["table"][2].update(weight=1.5),
    "both": lambda m: (
        m["settings"]["table"].__setitem__(2, 1.5),
        m["weights"]["table"][2].update(weight=1.5),
    ),
    "the budget": lambda m: m["weights"].update(budget=0.5),
    "alpha": lambda m: (m["settings"].update(alpha=0.15), m["weights"].update(alpha=0.15)),
    "a share": lambda m: m["weights"]["table"][6].update(share=0.5),
    "an inverse frequency": lambda m: m["weights"]["table"][6].update(inverse_frequency=1.0),
    "too few": lambda m: m["settings"]["table"].pop(),
    "no table": lambda m: m["settings"].pop("table"),
    "too small for float32": lambda m: m["settings"]["table"].__setitem__(2, 1e-60),
}


@pytest.mark.parametrize("lie", LIES)
def test_verify_finds_a_lying_table(sets, tmp_path, lie):
    table = table_file(tmp_path / "table.json", GIVEN)
    done("reweigh", sets["concat"], "--table", table, "--out", tmp_path / "new", "--quiet")
    manifest = harness.manifest(tmp_path / "new")
    LIES[lie](manifest)
    (tmp_path / "new" / "manifest.json").write_text(json.dumps(manifest))
    report = run("verify", tmp_path / "new", "--json", "--quiet")
    assert report.code == 1
    assert {finding["check"] for finding in report.json["findings"]} == {"weights"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": 1024}, "the weight table is for windows of 1,024 tokens"),
        ({"format": "other"}, "this is not an exactcpt weight table"),
        ({"format_version": 2}, "format version 2"),
        ({"buckets": []}, "the weight table is not valid"),
    ],
)
def test_tables_that_do_not_fit(sets, tmp_path, changes, words):
    table = table_file(tmp_path / "table.json", GIVEN, **changes)
    outcome = run("reweigh", sets["concat"], "--table", table, "--out", tmp_path / "new")
    assert outcome.code == 1
    assert words in outcome.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("weight", [math.nan, math.inf, 0.0, -1.0, 1e39, 1e-46])
def test_weights_that_a_shard_cannot_have(sets, tmp_path, weight):
    table = table_file(tmp_path / "table.json", [*GIVEN[:-1], weight])
    outcome = run("reweigh", sets["concat"], "--table", table, "--out", tmp_path / "new")
    assert outcome.code == 1
    assert "buckets[6].weight" in outcome.err or "is not a JSON number" in outcome.err
    assert not (tmp_path / "new").exists()


# Refusals


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--alpha=2", "--max-weight=1.5"], "alpha 2 is more than max_weight 1.5 allows"),
        (["--tau=512"], "tau is 512"),
        (["--tau=-1"], "tau"),
        (["--alpha=-1"], "alpha is -1.0"),
        (["--alpha=nan"], "alpha is nan"),
        (["--gamma=inf"], "gamma is inf"),
        (["--max-weight=0.5"], "max_weight is 0.5"),
        (["--table=no/such.json"], "--table cannot be read: No such file"),
        (["--table=."], "--table cannot be read: this is a folder"),
        (["--table=x.json", "--alpha=1"], "both --table and --alpha are given"),
        (["--table=x.json", "--table-only"], "both --table and --table-only are given"),
    ],
)
def test_wrong_usage(sets, tmp_path, flags, words):
    outcome = run("reweigh", sets["concat"], *flags, "--out", tmp_path / "new")
    assert outcome.code == 2
    assert words in outcome.err
    assert not (tmp_path / "new").exists()


def test_no_ceiling(sets, tmp_path):
    done("reweigh", sets["best_fit"], "--max-weight=inf", "--out", tmp_path / "new", "--quiet")
    assert harness.manifest(tmp_path / "new")["settings"]["max_weight"] is None


@pytest.mark.parametrize("where", ["", "/", "/new", "/../shards/train/x", "/.."])
def test_one_in_the_other(shards, where):
    outcome = run("reweigh", shards, "--out", f"{shards}{where}")
    assert outcome.code == 2
    assert "one is inside the other" in outcome.err


def test_a_link_to_itself(shards, tmp_path):
    (tmp_path / "link").symlink_to(shards)
    assert run("reweigh", shards, "--out", tmp_path / "link").code == 2


def test_out_has_something_else(sets, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    outcome = run("reweigh", sets["concat"], "--out", tmp_path)
    assert outcome.code == 2
    assert "holds other files: notes.txt" in outcome.err
    other = tmp_path / "other"
    done("reweigh", sets["concat"], "--alpha=0.5", "--out", other, "--quiet")
    outcome = run("reweigh", sets["concat"], "--alpha=0.6", "--out", other)
    assert outcome.code == 2
    assert "alpha: 0.5 -> 0.6" in outcome.err
    done("reweigh", sets["concat"], "--alpha=0.6", "--out", other, "--overwrite", "--quiet")
    assert harness.manifest(other)["settings"]["alpha"] == 0.6


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["train", "validation", "documents", "tokenizer.json"])
def test_a_damaged_file(shards, tmp_path, file):
    path = next((shards / file).glob("*")) if (shards / file).is_dir() else shards / file
    flip(path, path.stat().st_size // 2)
    outcome = run("reweigh", shards, "--alpha=0.5", "--out", tmp_path / "new")
    assert outcome.code == 1
    assert "damaged" in outcome.err or "tokenizer is not the one" in outcome.err
    assert not (tmp_path / "new" / path.relative_to(shards)).exists()
    assert not (tmp_path / "new" / "manifest.json").exists()
    assert harness.temporaries(tmp_path / "new") == []


def test_a_dictionary_that_is_not_the_manifest_s(shards, tmp_path):
    manifest = harness.manifest(shards)
    manifest["weights"]["table"][6]["weight"] = 1.75
    (shards / "manifest.json").write_text(json.dumps(manifest))
    outcome = run("reweigh", shards, "--alpha=0.5", "--out", tmp_path / "new")
    assert outcome.code == 1
    assert "it has the weights [0.0, 1.0" in outcome.err


def move_targets(manifest: dict[str, Any]) -> None:
    """Two targets of the first bucket are in the next one, wherever the manifest says so."""
    of_sources = [source["splits"]["train"] for source in manifest["sources"][:1]]
    for one in (manifest["splits"]["train"], *of_sources):
        one["histogram"][0] -= 2
        one["histogram"][1] += 2
    for row, count in zip(
        manifest["weights"]["table"], manifest["splits"]["train"]["histogram"], strict=True
    ):
        row["targets"] = count


def test_a_manifest_with_false_counts_that_fit_together(shards, tmp_path):
    manifest = harness.manifest(shards)
    move_targets(manifest)
    (shards / "manifest.json").write_text(json.dumps(manifest))
    outcome = run("reweigh", shards, "--alpha=0.5", "--out", tmp_path / "new")
    assert outcome.code == 1
    assert "the manifest's counts are not those of the shards: train: histogram is " in outcome.err
    assert f"where:    {shards}/manifest.json" in outcome.err
    assert not (tmp_path / "new").exists()


FALSE = {
    "train: histogram": lambda m: m["splits"]["train"]["histogram"].__setitem__(2, 5),
    "train: histogram of all sources": lambda m: m["sources"][0]["splits"]["train"][
        "histogram"
    ].__setitem__(1, 7),
    "train: segments": lambda m: m["splits"]["train"].__setitem__("segments", 3),
    "train: tokens": lambda m: m["splits"]["train"].__setitem__("tokens", 3),
    "validation: padding": lambda m: m["splits"]["validation"].__setitem__("padding", 3),
    "validation: windows": lambda m: m["splits"]["validation"].__setitem__("windows", 3),
    "validation: targets": lambda m: m["splits"]["validation"].__setitem__("targets", 3),
}


@pytest.mark.parametrize("what", FALSE)
def test_a_manifest_with_false_counts(shards, tmp_path, what):
    manifest = harness.manifest(shards)
    FALSE[what](manifest)
    (shards / "manifest.json").write_text(json.dumps(manifest))
    outcome = run("reweigh", shards, "--alpha=0.5", "--out", tmp_path / "new")
    assert outcome.code == 1
    split = what.partition(":")[0]
    assert outcome.err.startswith("error: the manifest")
    assert split in outcome.err
    assert f"where:    {shards}/manifest.json" in outcome.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["truncated", "missing"])
def test_a_file_of_another_size(shards, tmp_path, kind):
    path = next((shards / "train").glob("*"))
    data = path.read_bytes()
    path.unlink()
    if kind == "truncated":
        path.write_bytes(data[:-8])
    outcome = run("reweigh", shards, "--out", tmp_path / "new")
    assert outcome.code == 1
    assert f"is {'damaged' if kind == 'truncated' else 'missing'}" in outcome.err
    assert not (tmp_path / "new").exists()


def test_sets_that_are_none(shards, tmp_path, store):
    (shards / "manifest.json").rename(tmp_path / "manifest.json")
    outcome = run("reweigh", shards, "--out", tmp_path / "new")
    assert outcome.code == 1
    assert "this shard set is not finished" in outcome.err
    outcome = run("reweigh", store, "--out", tmp_path / "new")
    assert outcome.code == 2
    assert "this is a token store" in outcome.err
    newer = json.loads((tmp_path / "manifest.json").read_text()) | {"format_version": 3}
    (shards / "manifest.json").write_text(json.dumps(newer))
    outcome = run("reweigh", shards, "--out", tmp_path / "new")
    assert outcome.code == 1
    assert "update exactcpt" in outcome.err


def test_a_manifest_that_points_out_of_the_set(shards, tmp_path):
    manifest = harness.manifest(shards)
    manifest["shards"]["train"][0]["path"] = "train/../../escape.arrow"
    (shards / "manifest.json").write_text(json.dumps(manifest))
    outcome = run("reweigh", shards, "--out", tmp_path / "new")
    assert outcome.code == 1
    assert "'train/../../escape.arrow' does not match" in outcome.err


def test_killed_half_way(sets, tmp_path, monkeypatch):
    """What was whole stays, what was not is not taken for it, and the next run ends the job."""
    calls = []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return copy(*arguments)

    copy = reweigh_units._copy
    out = tmp_path / "new"
    with monkeypatch.context() as patch:
        patch.setattr(reweigh_units, "_copy", killed)
        flags = ["--alpha=0.5", "--workers", 1]
        assert run("reweigh", sets["concat"], *flags, "--out", out).code == 1
    assert not (out / "manifest.json").exists()
    (out / "train" / ".shard.0.tmp").write_bytes(b"left by a process that was killed")
    assert len(list((out / "train").glob("*.arrow"))) == 2
    done("reweigh", sets["concat"], "--alpha=0.5", "--out", out, "--quiet")
    done("reweigh", sets["concat"], "--alpha=0.5", "--out", tmp_path / "whole", "--quiet")
    assert contents(out) == contents(tmp_path / "whole")


JOB_SERVICE = [
    "--runner=PortableRunner", "--", "--job_endpoint=embed", "--environment_type=LOOPBACK"
]  # fmt: skip
WHERE = {
    "one thread": ["--workers=1"],
    "three threads": ["--workers=3"],
    "two processes": ["--workers=2", "--worker-type=processes"],
    "a job service": JOB_SERVICE,
}


@pytest.mark.parametrize("where", WHERE)
def test_it_writes_the_same_anywhere_and_tells_of_the_same_file(sets, shards, tmp_path, where):
    """Of two damaged files the first is told, though the later one is by far the smaller."""
    done("reweigh", sets["concat"], "--alpha=0.5", "--out", tmp_path / "one", "--quiet")
    out = tmp_path / "out"
    done("reweigh", shards, "--alpha=0.5", "--out", out, "--quiet", *WHERE[where])
    assert contents(out) == contents(tmp_path / "one")
    shutil.rmtree(out)
    train = sorted((shards / "train").glob("*"))
    for path in (train[1], next((shards / "documents").glob("*"))):
        flip(path, path.stat().st_size // 2)
    outcome = run("reweigh", shards, "--alpha=0.5", "--out", out, *WHERE[where])
    assert outcome.code == 1
    assert f"error: a file of the shard set is damaged\n  where:    {train[1]}\n" in outcome.err
    assert (out / train[0].relative_to(shards)).exists()
    assert not (out / "manifest.json").exists()
    shutil.copy(sets["concat"] / train[1].relative_to(shards), train[1])
    outcome = run("reweigh", shards, "--alpha=0.5", "--out", out, *WHERE[where])
    assert "documents/part-00000.parquet\n" in outcome.err
    shutil.copytree(sets["concat"] / "documents", shards / "documents", dirs_exist_ok=True)
    done("reweigh", shards, "--alpha=0.5", "--out", out, "--quiet", *WHERE[where])
    assert contents(out) == contents(tmp_path / "one")


def test_workers_of_a_cluster_reach_only_urls(sets, tmp_path):
    outcome = run("reweigh", sets["concat"], "--out", tmp_path / "new", "--runner=FlinkRunner")
    assert outcome.code == 2
    assert "the workers of FlinkRunner cannot read or write a path" in outcome.err


def test_threads_need_no_beam(sets, tmp_path):
    program = (
        "import sys; from exactcpt.pipeline.cli import run_command\n"
        "code = run_command(sys.argv[1:]); sys.exit(code or 'apache_beam' in sys.modules)"
    )
    words = ["reweigh", sets["concat"], "--alpha=0.5", "--out", tmp_path / "new", "--quiet"]
    subprocess.run([sys.executable, "-c", program, *map(str, words)], check=True)


def test_sigkill(sets, store, tmp_path):
    """The same with a real kill; packing can also continue where reweighing stopped."""
    out = tmp_path / "new"
    process = harness.start("reweigh", sets["concat"], "--alpha=0.5", "--out", out)
    harness.until(lambda: list(out.glob("train/*.arrow")))
    process.send_signal(signal.SIGKILL)
    harness.finish(process)
    done("pack", store, *WAYS["concat"], "--alpha=0.5", "--out", out, "--quiet")
    done("reweigh", sets["concat"], "--alpha=0.5", "--out", tmp_path / "whole", "--quiet")
    assert harness.files(out) == harness.files(tmp_path / "whole")


def test_a_full_disk_is_told_before(sets, tmp_path, monkeypatch):
    import collections

    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 990, 10))
    outcome = run("reweigh", sets["concat"], "--out", tmp_path / "new")
    assert outcome.code == 1
    assert "the disk has too little room" in outcome.err


# The weights themselves


@given(
    counts=st.lists(st.integers(0, 10**12), min_size=7, max_size=7),
    tau=st.integers(0, 511),
    alpha=st.floats(0, 1000),
    gamma=st.floats(0, 10),
    epsilon=st.floats(0, 1),
)
def test_the_new_weights_are_those_that_verify_expects(counts, tau, alpha, gamma, epsilon):
    empty = {"weight": 1.0, "high": 511, "low": 0, "targets": 1, "in_tail": True}
    share = {"tokens": 1}
    manifest = {
        "versions": {},
        "settings": {
            "window": 512,
            "tau": 128,
            "alpha": 0.15,
            "gamma": 0.5,
            "epsilon": 1e-8,
            "max_weight": None,
            "mixing": {"a": {"epochs": 1.0}},
            "validation_fraction": 0.0,
            "token_budget": None,
        },
        "splits": {"train": {"histogram": counts, "windows": 1}},
        "sources": [{"name": "a", "splits": {"train": share}}],
        "weights": {"table": [empty] * 7},
        "warnings": [],
    }
    change = {"tau": tau, "alpha": alpha, "gamma": gamma, "epsilon": epsilon}
    new = reweighed(manifest, change)
    PackConfig(window=512, **change)
    expected = [row["weight"] for row in weight_rows(counts, new["settings"])]
    assert [row["weight"] for row in new["weights"]["table"]] == pytest.approx(expected, rel=1e-6)
