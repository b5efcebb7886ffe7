"""What `inspect` says of a store is what `pack` then writes; what it says of shards is in them."""

import json
import shlex
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from harness import (
    DATA,
    TOKENIZER,
    bundled,
    bundled_records,
    done,
    manifest,
    run,
    source,
    windows,
    write_jsonl,
)
from oracles import bucket_by_search

pytestmark = pytest.mark.slow

SOURCES = ("novels", "jargon", "poems", "again")
SEVERAL_GROUPS = ["--group-tokens", "60k"]

CASES = {
    "as it comes": [],
    "best_fit": ["--packing", "best_fit"],
    "groups": [*SEVERAL_GROUPS, "--window", "512", "--seed", "7"],
    "best_fit in groups": [*SEVERAL_GROUPS, "--packing", "best_fit", "--window", "1000"],
    "dedup": ["--dedup", "exact", *SEVERAL_GROUPS, "--window", "2k"],
    "epochs": ["--epochs", "novels=2.5", "--epochs", "poems=0.3", *SEVERAL_GROUPS],
    "shares": ["--share", "poems=0.4", "--token-budget", "300k", "--packing", "best_fit"],
    "all at once": [
        *("--dedup", "exact", *SEVERAL_GROUPS),
        *("--epochs", "poems=1.5", "--epochs", "jargon=0", "--epochs", "again=0.4"),
        *("--validation-fraction", "0.2", "--seed", "3", "--window", "4096", "--tau", "700"),
        *("--alpha", "0.4", "--gamma", "1.5", "--epsilon", "0.001", "--max-weight", "1.6"),
    ],
    "a tiny window": ["--window", "9", "--tau", "0"],
    "an empty tail": ["--window", "1M", "--tau", "500k"],
    "nothing to train on": [f"--epochs={name}=0" for name in SOURCES],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small parts of several sources; of one, every other document is another one's, too."""
    folder = tmp_path_factory.mktemp("inspected") / "corpus.store"
    sources = [flag for flag in bundled() if "proposals" not in flag]
    texts = [poem["text"] for poem in bundled_records("poems")]
    records = [{"id": str(i), "text": t if i % 2 else t + "!"} for i, t in enumerate(texts)]
    again = source("again", write_jsonl(folder.parent / "again.jsonl", records))
    done("tokenize", *sources, *again, "--split-bytes", "20k", "--out", folder, "--quiet")
    return folder


@pytest.fixture(scope="module")
def packed(store: Path) -> Iterator[Any]:
    """Packs a store once for each list of flags."""
    made: dict[tuple[str, ...], Path] = {}

    def pack(*flags: str) -> Path:
        out = store.parent / f"shards{len(made)}"
        if flags not in made:
            done("pack", store, *flags, "--out", out, "--quiet")
            made[flags] = out
        return made[flags]

    return pack


def inspected(*arguments: object) -> list[dict[str, Any]]:
    return done("inspect", *arguments, "--json").json["subjects"]


def the_row(*arguments: object) -> dict[str, Any]:
    ((row,),) = [subject["rows"] for subject in inspected(*arguments)]
    return row


@pytest.fixture(params=CASES.values(), ids=CASES)
def flags(request: pytest.FixtureRequest) -> list[str]:
    return request.param


def test_a_store_answers_what_pack_writes(store: Path, packed: Any, flags: list[str]):
    row, shards = the_row(store, *flags), packed(*flags)
    written = manifest(shards)
    train = written["splits"]["train"]
    counts = ("windows", "tokens", "padding", "segments", "cut_documents", "targets")
    assert {name: row[name] for name in counts} == {name: train[name] for name in counts}
    assert [bucket["targets"] for bucket in row["buckets"]] == train["histogram"]
    assert row["settings"] | {"tokenize": manifest(store)["settings"]} == written["settings"]
    table = written["weights"]["table"]
    for name in ("bucket", "low", "high", "targets", "in_tail", "inverse_frequency", "weight"):
        assert [bucket[name] for bucket in row["buckets"]] == [bucket[name] for bucket in table]
    assert [bucket["tail_share"] for bucket in row["buckets"]] == [b["share"] for b in table]
    assert row["budget"] == {
        "asked": written["weights"]["alpha"],
        "spent": written["weights"]["budget"],
    }
    for mine, theirs in zip(row["sources"], written["sources"], strict=True):
        assert mine["name"] == theirs["name"]
        for name in ("documents", "tokens", "targets", "histogram"):
            assert mine[name] == theirs["splits"]["train"][name]


def test_windows_with_a_tail_are_counted_in_the_shards(store: Path, packed: Any, flags: list[str]):
    row, shards = the_row(store, *flags), packed(*flags)
    largest = [
        max(n for n, d in zip(w["seq_lengths"], w["doc_index"], strict=True) if d >= 0) - 1
        for w in windows(shards)
    ]
    in_tail = {bucket["bucket"] for bucket in row["buckets"] if bucket["in_tail"]}
    buckets = [bucket_by_search(context) for context in largest if context > 0]
    assert row["tail_windows"] == sum(bucket in in_tail for bucket in buckets)
    assert row["windows_by_largest"] == [buckets.count(b["bucket"]) for b in row["buckets"]]
    assert row["largest_context"] == max(largest, default=0)


def test_shards_say_the_same_as_their_store(store: Path, packed: Any, flags: list[str]):
    of_store, of_shards = the_row(store, *flags), the_row(packed(*flags))
    commands = of_store.pop("command"), of_shards.pop("command")
    assert of_shards == of_store
    assert commands[0].replace(shlex.quote(str(store)), "STORE") == commands[1]


@pytest.mark.parametrize("case", ["epochs", "shares", "all at once"])
def test_the_command_makes_what_the_row_says(store: Path, case: str, tmp_path: Path):
    row = the_row(store, *CASES[case])
    program, *words = shlex.split(row["command"])
    assert program == "exactcpt"
    assert words[-1] == "OUT"
    done(*words[:-1], tmp_path / "again", "--quiet")
    found = the_row(tmp_path / "again")
    assert found | {"command": ""} == row | {"command": ""}


def test_one_question_of_many_rows_is_many_questions_of_one(store: Path):
    swept = [
        *("--window", "512,4096", "--packing", "concat,best_fit", "--tau", "100,200"),
        *("--alpha", "0.1,1", "--gamma", "0,1", "--epsilon", "0,0.1", "--max-weight", "2.5,30"),
    ]
    (subject,) = inspected(store, *swept, *SEVERAL_GROUPS)
    assert len(subject["rows"]) == 2**7
    for row in subject["rows"][::17]:
        names = ("window", "packing", "tau", "alpha", "gamma", "epsilon", "max_weight")
        one = [f"--{name.replace('_', '-')}={row['settings'][name]}" for name in names]
        assert the_row(store, *one, *SEVERAL_GROUPS) == row


def test_shards_answer_for_other_weights(store: Path, packed: Any):
    weights = ["--tau", "256", "--alpha", "0.7", "--gamma", "1", "--epsilon", "0.01"]
    asked = the_row(packed(), *weights, "--max-weight", "3")
    answer = the_row(store, *weights, "--max-weight", "3")
    assert asked | {"command": ""} == answer | {"command": ""}
    assert asked["command"] == shlex.join(
        ["exactcpt", "reweigh", str(packed()), *weights, "--max-weight", "3", "--out", "OUT"]
    )


def test_shards_know_their_store_where_it_is_beside_them(store: Path, tmp_path: Path):
    done("pack", store, "--window", "2k", "--out", tmp_path / "here", "--quiet")
    assert " STORE " in the_row(tmp_path / "here")["command"]
    (tmp_path / "here.store").symlink_to(store)
    assert f" {tmp_path / 'here.store'} " in the_row(tmp_path / "here")["command"]
    outcome = run("inspect", tmp_path / "here", "--window", "4k")
    assert outcome.code == 2
    assert outcome.err == (
        "error: --window asks about another packing, and these shards are already packed\n"
        "  expected: a token store, or only --tau, --alpha, --gamma, --epsilon, --max-weight\n"
        f"  fix:      inspect their token store: {tmp_path / 'here.store'}\n"
    )


def validator() -> jsonschema.Draft202012Validator:
    text = resources.files("exactcpt.schemas").joinpath("inspection.schema.json").read_text("utf-8")
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_json_is_as_its_schema_says(store: Path, packed: Any, flags: list[str]):
    found = done("inspect", store, packed(*flags), "--json").json
    validator().validate(found)
    found["subjects"][0]["rows"][0]["windows"] = -1
    found["subjects"][1]["rows"][0]["more"] = 1
    assert len(list(validator().iter_errors(found))) == 2


def test_an_inspection_writes_nothing(store: Path, packed: Any):
    before = {path: path.stat().st_mtime_ns for path in store.parent.rglob("*")}
    inspected(store, packed())
    done("inspect", store, "--dedup", "exact", "--epochs", "poems=0.5")
    assert {path: path.stat().st_mtime_ns for path in store.parent.rglob("*")} == before


# Given weights


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set whose weights were given: 1, 2, ... by bucket."""
    folder = tmp_path_factory.mktemp("given")
    flags = [*source("poems", DATA / "poems.jsonl"), "--window", 64]
    done("prepare", *flags, "--tokenizer", TOKENIZER, "--out", folder / "set")
    buckets = [
        {"bucket": b, "low": low, "high": high, "weight": float(b + 1)}
        for b, (low, high) in enumerate([(0, 7), (8, 15), (16, 31), (32, 63)])
    ]
    head = {"format": "exactcpt weight table", "format_version": 1, "window": 64, "settings": None}
    (folder / "table.json").write_text(json.dumps({**head, "buckets": buckets}))
    done("reweigh", folder / "set", "--table", folder / "table.json", "--out", folder / "given")
    return folder


def test_given_weights_are_inspected_as_they_are(given):
    outcome = done("inspect", given / "given", "--json")
    (row,) = outcome.json["subjects"][0]["rows"]
    assert [bucket["weight"] for bucket in row["buckets"]] == [1, 2, 3, 4]
    assert row["settings"]["table"] == [1, 2, 3, 4] and row["settings"]["alpha"] is None
    counts = [bucket["targets"] for bucket in row["buckets"]]
    mass = sum(c * w for c, w in zip(counts, [1, 2, 3, 4], strict=True))
    assert row["mean_weight"] == pytest.approx(mass / sum(counts))
    tail = counts[2] + counts[3]
    assert row["budget"]["asked"] is None
    assert row["budget"]["spent"] == pytest.approx((2 * counts[2] + 3 * counts[3]) / tail)
    assert f"reweigh {given / 'given'} --table FILE" in row["command"]
    assert "with given weights" in done("inspect", given / "given").out
    assert "table" in done("inspect", given / "given", given / "set").out


def test_the_formula_instead_of_given_weights(given):
    other = done("inspect", given / "given", "--alpha", "0.3", "--json").json
    expected = done("inspect", given / "set", "--alpha", "0.3", "--json").json
    (found,), (wanted,) = (each["subjects"][0]["rows"] for each in (other, expected))
    assert found["buckets"] == wanted["buckets"]


def test_a_report_cannot_vary_given_weights(given, tmp_path):
    outcome = run("inspect", given / "given", "--html", tmp_path / "report.html")
    assert outcome.code == 2 and "were given, not computed" in outcome.err
    assert not (tmp_path / "report.html").exists()


def test_two_with_other_sources_are_compared(given, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # the paths are long
    flags = [*source("notes", DATA / "jargon.jsonl.gz"), "--window", 64, "--no-bos"]
    done("prepare", *flags, "--tokenizer", TOKENIZER, "--out", tmp_path / "other")
    text = done("inspect", given / "set", tmp_path / "other").out
    assert "tokenize sources poems text" in text and "source notes tokens" in text


def test_a_set_with_a_ceiling_is_inspected_without(given, tmp_path):
    flags = ["--alpha", "2", "--max-weight", "3.5", "--gamma", "3"]
    done("reweigh", given / "set", *flags, "--out", tmp_path / "capped")
    rows = done("inspect", tmp_path / "capped", "--max-weight", "3.5,inf", "--json").json
    capped, free = rows["subjects"][0]["rows"]
    assert capped["settings"]["max_weight"] == 3.5 and free["settings"]["max_weight"] is None
    command = shlex.split(free["command"].replace("OUT", str(tmp_path / "free")))
    assert command[0] == "exactcpt" and "inf" in command
    done(*command[1:])
    (found,) = done("inspect", tmp_path / "free", "--json").json["subjects"][0]["rows"]
    assert found["buckets"] == free["buckets"]


def test_one_file_for_both_reports(given, tmp_path):
    flags = ["--html", tmp_path / "both", "--svg", tmp_path / "both"]
    outcome = run("inspect", given / "set", *flags)
    assert outcome.code == 2 and "--html and --svg name the same file" in outcome.err
