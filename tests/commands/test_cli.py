"""The commands as people and programs see them: help, output, exit codes, wrong usage."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import click
import harness
import pytest
from click.shell_completion import ShellComplete
from harness import DATA, TOKENIZER, bundled, done, finish, run, source, start

from exactcpt.pipeline import cli as program
from exactcpt.pipeline.cli import GROUPS, cli
from exactcpt.pipeline.commands.options import HELP, SECTIONS
from exactcpt.pipeline.config import SETTINGS

COMMANDS = ("prepare", "tokenize", "pack", "verify")
POEMS = [*source("poems", DATA / "poems.jsonl"), "--tokenizer", str(TOKENIZER)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "out"
    done("prepare", *POEMS, "--window", 256, "--out", out)
    return out


def usage_error(*arguments: object) -> str:
    """The message of a command that was used wrongly: exit 2, on stderr alone, and short."""
    outcome = run(*arguments)
    assert outcome.code == 2, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) <= 8
    return outcome.err


# Help


def test_help_names_every_command():
    text = done("--help").out
    assert text.startswith("Usage: exactcpt ")
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\S", text, re.MULTILINE)
    assert "..." not in text.partition("Prepare:")[2], "a first sentence is cut off"
    assert done("-h").out == text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_commands(command):
    text = done(command, "--help").out
    assert f"Usage: exactcpt {command} " in text
    assert max(map(len, text.splitlines())) <= 100


def test_every_setting_has_a_flag_and_a_default_in_help():
    text = done("prepare", "--help").out
    flags = ["--" + name.replace("_", "-") for name in SETTINGS]
    flags += ["--source", "--store", "--out", "--discard-store", "--dry-run", "--workers"]
    flags += ["--worker-type", "--runner", "--overwrite", "--config", "--print-config", "--json"]
    flags += ["--quiet", "--debug", "--no-bos"]
    missing = [flag for flag in flags if not re.search(rf"{flag}\b", text)]
    assert not missing
    for default in ("8,192", "0.15", "0.5", "1e-08", "0.01", "concat", "auto", "embedded"):
        assert re.search(rf"\[default:\s+{re.escape(default)}\]", text)


def test_a_setting_has_one_help_text_in_all_commands():
    found: dict[str, set[str]] = {}
    for command in ("prepare", "tokenize", "pack", "reweigh", "inspect"):
        for option in cli.commands[command].params:
            if isinstance(option, click.Option) and option.name in SETTINGS:
                text = (option.help or "").partition("  [default:")[0]
                found.setdefault(option.name, set()).add(text.removesuffix(" inf: no limit."))
    assert found == {name: {HELP[name]} for name in SETTINGS}


@pytest.mark.parametrize("command", ["prepare", "tokenize", "pack", "weigh", "reweigh", "inspect"])
def test_options_stand_under_headings(command):
    """A new option needs a heading: without one, it stands beside --help."""
    options = {p.name for p in cli.commands[command].params if isinstance(p, click.Option)}
    placed = {name for names in SECTIONS.values() for name in names}
    assert options - placed <= {"quiet", "debug"}
    assert len(options & placed) > 5
    assert len(placed) == sum(map(len, SECTIONS.values()))


def test_a_command_with_many_options_has_headings():
    program = click.Context(cli, info_name="exactcpt")
    for name in cli.list_commands(program):
        command = cli.get_command(program, name)
        assert command is not None
        if sum(isinstance(p, click.Option) for p in command.params) > 10:
            text = done(name, "--help").out
            headings = re.findall(r"^(\w[\w ]*):$", text, re.MULTILINE)
            rest = text[text.index("\nOptions:") :]
            assert len(headings) > 2, name
            assert {*re.findall(r"^  .*?(--[\w-]+)", rest, re.MULTILINE)} <= {
                "--quiet", "--debug", "--help", "--config", "--print-config", "--json",
            }  # fmt: skip


def test_every_command_stands_under_a_heading():
    text = done("--help").out
    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == [
        "Options", "Prepare", "Look", "Train", "Study",
    ]  # fmt: skip
    listed = re.findall(r"^  ([a-z]\S*)", text.partition("Prepare:")[2], re.MULTILINE)
    assert listed == [name for names in GROUPS.values() for name in names]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("exactcpt ver", {"verify"}),
        ("exactcpt comp", {"compare"}),
        ("exactcpt show --he", {"--heaviest", "--help"}),
        ("exactcpt train --weighting sh", {"shuffled"}),
        ("exactcpt pack --packing ", {"concat", "best_fit"}),
    ],
)
def test_a_shell_completes(words, expected):
    """Also the commands of the other half, which are loaded when they are needed."""
    *before, last = words.split(" ")
    completion = ShellComplete(cli, {}, "exactcpt", "_EXACTCPT_COMPLETE")
    assert {item.value for item in completion.get_completions(before[1:], last)} == expected


def test_version():
    assert re.search(r"\d+\.\d+", done("--version").out)


@pytest.mark.parametrize("arguments", [["--help"], ["prepare", "--help"], ["pack", "--windw", "4"]])
def test_help_and_wrong_flags_import_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from exactcpt.pipeline.cli import run_command\n"
        "run_command(sys.argv[1:])\n"
        "heavy = {'apache_beam', 'numpy', 'pyarrow', 'datasets', 'torch', 'tokenizers', 'rich'}\n"
        "sys.exit(', '.join(sorted(heavy & sys.modules.keys())) or 0)\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


# Wrong usage


def test_no_command_shows_help():
    outcome = run()
    assert outcome.code == 2
    assert "Usage: exactcpt" in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["prepre"], ["No such command 'prepre'", "prepare"]),
        (["prepare", "--windw", "4096"], ["No such option", "--windw", "--window"]),
        (["prepare", "--max-reject", "1"], ["--max-reject", "--max-rejected"]),
        (["pack", "store", "--tokenizer", "t"], ["No such option", "--tokenizer"]),
        (["verify", "x", "--windw", "3"], ["No such option", "--windw"]),
        (["verify"], ["Missing argument", "SHARDS"]),
        (["pack"], ["Missing argument", "STORE"]),
        (["prepare", "--window"], ["--window", "requires an argument"]),
        (["prepare", *POEMS, "--out", "x", "stray"], ["unexpected argument 'stray'", "after --"]),
        (
            ["prepare", "--tokenizer", "t", "--out", "x"],
            ["no source is given", "--source PATTERN"],
        ),
        (["prepare", "--source", "a=b", "--out", "x"], ["--tokenizer is missing"]),
        (["prepare", *POEMS], ["--out is missing", "--out DIR"]),
        (["pack", "store"], ["--out is missing"]),
        (["prepare", "--source", "a=", "--tokenizer", "t"], ["[NAME=]PATTERN"]),
        (["prepare", "--source", "*", "--tokenizer", "t"], ["name the source", "NAME=*"]),
        (["prepare", "--source", "a=b,epoch=2", "--tokenizer", "t"], ["did you mean 'epochs'"]),
        (["prepare", *POEMS, *POEMS, "--out", "x"], ["two sources have the name 'poems'"]),
        (["prepare", *POEMS, "--source", "b=c,share=1", "--out", "x"], ["--token-budget"]),
        (["prepare", *POEMS, "--alpha", "2", "--max-weight", "1.5"], ["alpha", "max_weight"]),
        (["prepare", "--config", "none.toml"], ["cannot read the configuration", "none.toml"]),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    message = usage_error(*arguments)
    assert [text for text in says if text not in message] == []
    assert not list(tmp_path.iterdir())


RANGES = {
    "--window=1": "2",
    "--window=99T": "2",
    "--tau=8192": "8,191",
    "--alpha=-1": "0",
    "--alpha=nan": "0",
    "--gamma=-0.5": "0",
    "--epsilon=-1": "0",
    "--max-weight=0.5": "1",
    "--validation-fraction=1": "0.999",
    "--token-budget=0": "1",
    "--group-tokens=0": "1",
    "--shard-bytes=0": "1",
    "--seed=-1": "0",
    "--min-tokens=0": "1",
    "--split-bytes=0": "1",
    "--max-rejected=1.5": "0 to 1",
    "--workers=0": "1",
    "--workers=2000": "1024",
}


@pytest.mark.parametrize("flag", RANGES)
def test_values_out_of_range_are_named_with_their_range(tmp_path, flag):
    message = usage_error("prepare", *POEMS, "--out", tmp_path / "out", flag)
    name = flag.partition("=")[0].removeprefix("--")
    assert name in message.replace("_", "-")
    assert RANGES[flag] in message.replace("1,024", "1024")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--window=big", "not a size such as 4096, 256M"),
        ("--window=1.5", "not a whole number"),
        ("--alpha=much", "not a valid float"),
        ("--seed=x", "not a valid integer"),
        ("--packing=bestfit", "'concat', 'best_fit'"),
        ("--worker-type=fibers", "'threads', 'processes'"),
        ("--dedup=fuzzy", "'none', 'exact'"),
        ("--on-bad-file=cry", "'fail', 'skip'"),
        ("--tokenizer-backend=other", "'auto', 'gigatoken', 'tokenizers'"),
    ],
)
def test_values_of_the_wrong_kind(flag, says):
    message = usage_error("prepare", *POEMS, "--out", "x", flag)
    assert flag.partition("=")[0] in message and says in message


@pytest.mark.parametrize(
    ("runner", "says"),
    [
        ("DataflowRunner", ["cannot read or write a path on this machine", "URLs"]),
        ("SparkRunner", ["cannot read or write a path on this machine"]),
        ("DaskRunner", ["gives wrong results"]),
    ],
)
def test_runners_that_cannot_do_it(tmp_path, runner, says):
    message = usage_error("prepare", *POEMS, "--out", tmp_path / "out", "--runner", runner)
    assert runner in message
    assert [text for text in says if text not in message] == []
    if "URLs" in says:
        assert str(DATA / "poems.jsonl") in message and str(tmp_path / "out") in message
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_packing_with_a_remote_runner_and_local_paths(prepared, tmp_path):
    flags = ["--out", "memory://x/out", "--runner", "DataflowRunner"]
    assert f"{prepared}.store" in usage_error("pack", f"{prepared}.store", *flags)


def test_a_source_that_is_not_in_the_store(prepared, tmp_path):
    flags = ["--out", tmp_path / "out", "--epochs", "books=2"]
    message = usage_error("pack", f"{prepared}.store", *flags)
    assert "no source 'books'" in message and "poems" in message


# Configuration


JOB = """
tokenizer = {tokenizer!r}
window = 128
packing = "best_fit"
alpha = 0.3
seed = 5
validation_fraction = 0.1
out = {out!r}
workers = 1

[[source]]
name = "poems"
pattern = {poems!r}
epochs = 0.5
"""


def job_file(folder: Path) -> Path:
    path = folder / "job.toml"
    places = {"tokenizer": TOKENIZER, "out": folder / "out", "poems": DATA / "poems.jsonl"}
    path.write_text(JOB.format(**{name: str(place) for name, place in places.items()}))
    return path


@pytest.mark.slow
def test_a_file_is_as_good_as_flags(tmp_path):
    done("prepare", "--config", job_file(tmp_path))
    flags = ["--window", 128, "--packing", "best_fit", "--alpha", 0.3, "--seed", 5]
    flags += ["--validation-fraction", 0.1, "--out", tmp_path / "flags"]
    done("prepare", *source("poems", DATA / "poems.jsonl", epochs=0.5), "--tokenizer", TOKENIZER,
         *flags)  # fmt: skip
    assert harness.content(tmp_path / "out") == harness.content(tmp_path / "flags")


def effective(*arguments: object) -> dict[str, Any]:
    return tomllib.loads(done(*arguments, "--print-config").out)


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (["--seed", 0], {"seed": 0}),
        (["--alpha", 0], {"alpha": 0.0}),
        (["--validation-fraction", 0], {"validation_fraction": 0.0}),
        (["--max-rejected", 0], {"max_rejected": 0.0}),
        (["--tau", 0], {"tau": 0}),
        (["--window", "4k"], {"window": 4000}),
        (["--packing", "concat"], {"packing": "concat"}),
        (["--no-bos"], {"bos": False}),
        (["--workers", 2], {"workers": 2}),
        (["--", "--streaming"], {"beam_args": ["--streaming"]}),
    ],
)
def test_flags_override_the_file(tmp_path, flags, changed):
    path = job_file(tmp_path)
    before = effective("prepare", "--config", path)
    outcome = done("prepare", "--config", path, "--print-config", *flags)
    assert tomllib.loads(outcome.out) == {**before, **changed}


def test_sources_of_flags_replace_those_of_the_file(tmp_path):
    found = effective("prepare", "--config", job_file(tmp_path), "--source", "other=x.jsonl")
    assert [(s["name"], s["pattern"]) for s in found["source"]] == [("other", "x.jsonl")]


def test_the_effective_configuration_has_every_setting_with_its_default(tmp_path):
    found = effective("prepare", *POEMS, "--out", tmp_path / "out")
    optional = {name for name, field in SETTINGS.items() if field.default is None}
    assert found.keys() >= SETTINGS.keys() - optional
    assert found["window"] == 8192 and found["split_bytes"] == 32 << 20
    assert found["source"][0]["name"] == "poems"
    assert not list(tmp_path.iterdir())


CALLS = {
    "prepare": ["prepare", *bundled(poems=",epochs=2"), "--window", "1k", "--out", "o", "--tau", 0],
    "shares": ["prepare", *bundled(poems=",share=0.5"), "--token-budget", "1M", "--out", "o"],
    "tokenize": ["tokenize", *POEMS, "--out", "o", "--no-bos", "--min-tokens", 3, "--workers", 2],
    "pack": ["pack", "s", "--epochs", "a=2", "--share", "b=0.5", "--token-budget", 9, "--out", "o"],
    "beam": ["pack", "s", "--runner", "FlinkRunner", "--out", "o", "--worker-type", "processes"],
}


@pytest.mark.parametrize("call", CALLS)
def test_the_effective_configuration_fed_back_is_the_same(tmp_path, call):
    command, *flags = CALLS[call]
    first = done(command, *flags, "--print-config").out
    (tmp_path / "job.toml").write_text(first)
    again = [command, *(["s"] if command == "pack" else []), "--config", tmp_path / "job.toml"]
    assert done(*again, "--print-config").out == first


def test_a_file_with_an_unknown_key(tmp_path):
    path = job_file(tmp_path)
    path.write_text("windw = 5\n" + path.read_text())
    message = usage_error("prepare", "--config", path)
    assert "unknown setting 'windw'" in message and "did you mean 'window'?" in message
    assert str(path) in message


@pytest.mark.parametrize("line", ['window = "x"', "alpha = 'a'", "workers = -1", "seed = 1.5"])
def test_a_file_with_values_of_the_wrong_type(tmp_path, line):
    path = tmp_path / "job.toml"
    path.write_text(line)
    message = usage_error("prepare", *POEMS, "--out", "o", "--config", path)
    assert line.split()[0] in message


# What is printed


@pytest.mark.slow
def test_people_get_tables_on_stderr(prepared, tmp_path):
    outcome = done("prepare", *POEMS, "--window", 256, "--out", tmp_path / "out")
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert lines[0] == "documents end with '<|endoftext|>' (id 0)"
    for word in ("tokens (estimated)", "token store", "windows",
                 "tokenize  100 %", "pack      100 %", "\n effective ", "\n context ", "weight",
                 "share of", "loss weight", "(alpha 0.15)"):  # fmt: skip
        assert word in outcome.err
    assert f"{tmp_path / 'out'} is complete" in outcome.err
    assert "\x1b" not in outcome.err
    table = harness.manifest(prepared)["weights"]["table"]
    for row in table:
        shown = next(line for line in lines if re.match(rf"\s*{row['low']}-{row['high']}\b", line))
        assert f"{row['targets']:,}" in shown and f"{row['weight']:.4f}" in shown
        assert ("*" in shown) == row["in_tail"]


@pytest.mark.slow
def test_programs_get_json_on_stdout(prepared, tmp_path):
    found = done("prepare", *POEMS, "--window", 256, "--out", tmp_path / "out", "--json").json
    manifest = harness.manifest(tmp_path / "out")
    assert found["status"] == "done" and found["out"] == str(tmp_path / "out")
    assert found["seconds"] > 0
    for key in ("splits", "weights", "sources", "warnings"):
        assert found[key] == manifest[key]
    again = done("prepare", *POEMS, "--window", 256, "--out", tmp_path / "out", "--json").json
    assert again["status"] == "finished before"


@pytest.mark.slow
def test_json_of_the_other_commands(prepared, tmp_path):
    stored = done("tokenize", *POEMS, "--out", tmp_path / "store", "--json").json
    assert stored["status"] == "done"
    assert stored["sources"][0]["read"]["documents"] == 625
    packed = done(
        "pack", tmp_path / "store", "--window", 64, "--out", tmp_path / "o", "--json"
    ).json
    assert packed["splits"]["train"]["windows"] > 0
    report = done("verify", tmp_path / "o", "--json").json
    assert report["ok"] and report["findings"] == []


def test_json_of_an_error_leaves_stdout_empty(tmp_path):
    outcome = run("prepare", *POEMS, "--out", tmp_path / "o", "--eos-token", "</s>", "--json")
    assert outcome.code == 2 and outcome.out == ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_quiet_prints_nothing(tmp_path, kind):
    flags = ["--window", 256, "--worker-type", kind, "--quiet"]
    outcome = finish(start("prepare", *POEMS, *flags, "--out", tmp_path / "out"))
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    if kind == "threads":
        again = finish(start("prepare", *POEMS, *flags, "--out", tmp_path / "out"))
        assert (again.code, again.out, again.err) == (0, "", "")


def test_quiet_prints_errors(tmp_path):
    outcome = run("prepare", *source("a", "nowhere"), "--tokenizer", TOKENIZER, "--quiet",
                  "--out", tmp_path / "o")  # fmt: skip
    assert outcome.code == 1
    assert outcome.err.startswith("error: source 'a' matches no file")


@pytest.mark.slow
def test_quiet_still_gives_json(tmp_path):
    flags = ["--window", 256, "--out", tmp_path / "out", "--quiet", "--json"]
    outcome = done("prepare", *POEMS, *flags)
    assert outcome.err == "" and outcome.json["status"] == "done"


def test_an_error_says_what_where_and_what_to_do(tmp_path):
    outcome = finish(start("prepare", *source("a", tmp_path / "b*"), "--tokenizer", TOKENIZER,
                           "--out", tmp_path / "o"))  # fmt: skip
    assert outcome.code == 1
    assert outcome.err == (
        "error: source 'a' matches no file\n"
        f"  where:    {tmp_path}/b*\n"
        "  expected: a file, a folder with files of a known format, or a glob that matches some\n"
        f"  fix:      check the path; {tmp_path} has: nothing\n"
    )


def test_debug_shows_the_traceback(tmp_path):
    outcome = run("prepare", *source("a", "nowhere"), "--tokenizer", TOKENIZER, "--debug",
                  "--out", tmp_path / "o")  # fmt: skip
    assert outcome.code == 1
    assert "Traceback (most recent call last)" in outcome.err


def test_an_error_of_a_unit_is_short_in_the_installed_program(tmp_path):
    """Beam tells it in 150 lines."""
    (tmp_path / "a.jsonl.gz").write_bytes((DATA / "jargon.jsonl.gz").read_bytes()[:60_000])
    flags = [*source("a", tmp_path / "*.gz"), "--tokenizer", TOKENIZER, "--out", tmp_path / "o"]
    for kind in ("threads", "processes"):
        outcome = finish(start("prepare", *flags, "--quiet", "--worker-type", kind))
        assert outcome.code == 1
        assert outcome.err.startswith("error: a file cannot be read to its end: ")
        assert str(tmp_path / "a.jsonl.gz") in outcome.err
        assert len(outcome.err.splitlines()) <= 4, outcome.err


@pytest.mark.slow
def test_a_terminal_gets_a_progress_bar(tmp_path):
    import pty

    ours, theirs = pty.openpty()
    flags = ["--window", 256, "--split-bytes", "2k", "--out", tmp_path / "out"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = start("prepare", *POEMS, *flags, stderr=theirs, stdout=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            more = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        shown += more
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert "tokenize" in text and "pack" in text
    assert "█" in text and "100 %" in text and "k/s  in " in text
    assert "is complete" in text


# Dry runs


def test_a_dry_run_estimates_and_writes_nothing(tmp_path):
    flags = [*bundled(), "--window", 1024, "--out", tmp_path / "out", "--dry-run"]
    outcome = done("prepare", *flags, "--json")
    assert not list(tmp_path.iterdir())
    found = outcome.json
    assert found["status"] == "estimated"
    assert found["tokens"].keys() == harness.CORPORA.keys()
    tokens = sum(found["tokens"].values())
    assert tokens == pytest.approx(384_756, rel=0.15)
    assert found["windows"] == pytest.approx(tokens / 1024, abs=8)
    assert found["store_bytes"] + found["shard_bytes"] == pytest.approx(9 * tokens, rel=0.1)
    assert "tokens (estimated)" in outcome.err


@pytest.mark.parametrize(
    ("flags", "tokens"),
    [
        (["--token-budget", "100k"], 100_000),
        (["--token-budget", "2M"], 2_000_000),
    ],
)
def test_a_dry_run_knows_the_budget(tmp_path, flags, tokens):
    common = ["--window", 1000, "--out", tmp_path / "out", "--dry-run", "--json"]
    found = done("prepare", *bundled(), *common, *flags).json
    assert found["windows"] == pytest.approx(tokens / 1000, rel=0.05)


def test_a_dry_run_knows_epochs(tmp_path):
    common = ["--window", 1000, "--out", tmp_path / "out", "--dry-run", "--json"]
    once = done("prepare", *POEMS, *common).json
    thrice = done("prepare", *source("poems", DATA / "poems.jsonl", epochs=3), *POEMS[2:], *common)
    assert thrice.json["windows"] == pytest.approx(3 * once["windows"], abs=3)
    assert thrice.json["store_bytes"] == once["store_bytes"]


def test_a_dry_run_of_tokenize(tmp_path):
    outcome = done("tokenize", *POEMS, "--out", tmp_path / "store", "--dry-run", "--json")
    assert outcome.json["shard_bytes"] == 0 and outcome.json["store_bytes"] > 0
    assert not list(tmp_path.iterdir())


# verify


def test_verify_of_good_shards(prepared):
    outcome = done("verify", prepared)
    assert outcome.out == "" and outcome.err.endswith("everything agrees\n")
    assert "1 part," in outcome.err
    quiet = done("verify", prepared, "--quiet")
    assert (quiet.out, quiet.err) == ("", "")


def damaged(prepared: Path, folder: Path) -> Path:
    shutil.copytree(prepared, folder / "out")
    (path,) = (folder / "out" / "train").glob("*.arrow")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return folder / "out"


def test_verify_of_damaged_shards(prepared, tmp_path):
    out = damaged(prepared, tmp_path)
    outcome = run("verify", out)
    assert outcome.code == 1
    assert "train/shard-00000-of-00001.arrow" in outcome.err and "xxh3-128" in outcome.err
    report = run("verify", out, "--json")
    total = sum(check["problems"] for check in report.json["checks"])
    assert outcome.err.splitlines()[-1] == ("1 problem" if total == 1 else f"{total:,} problems")
    assert report.code == 1
    assert not report.json["ok"] and report.json["findings"][0]["check"] == "files"
    quiet = run("verify", out, "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (1, "", "")


def test_verify_against_a_store(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "out")
    with_store = done("verify", tmp_path / "out", "--store", f"{prepared}.store", "--json").json
    without = done("verify", tmp_path / "out", "--json").json
    checked = [
        {c["name"]: c["checked"] for c in r["checks"]}["store"] for r in (with_store, without)
    ]
    assert checked[0] != checked[1]


@pytest.mark.parametrize("what", ["missing", "empty", "store", "unfinished"])
def test_verify_of_what_is_no_shard_set(prepared, tmp_path, what):
    path = tmp_path / "out"
    if what == "empty":
        path.mkdir()
    elif what == "unfinished":
        shutil.copytree(prepared, path)
        (path / "manifest.json").unlink()
    elif what == "store":
        path = Path(f"{prepared}.store")
    outcome = run("verify", path)
    assert outcome.code == 1
    assert outcome.err.startswith("error: ") and str(path) in outcome.err
    assert len(outcome.err.splitlines()) <= 4


# The installed program


@pytest.mark.slow
def test_exit_codes_of_the_installed_program(prepared, tmp_path):
    assert finish(start("verify", prepared)).code == 0
    assert finish(start("verify", tmp_path)).code == 1
    assert finish(start("verify", "--nonsense")).code == 2


@pytest.mark.slow
def test_a_reader_that_goes_away(prepared):
    """exactcpt ... --json | head -c1"""
    command = f"'{harness.SCRIPT}' verify '{prepared}' --json | head -c 1"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert found.stdout == "{" and "Traceback" not in found.stderr


@pytest.mark.slow
def test_the_summary_is_utf8_in_any_locale(prepared, tmp_path):
    harness.write_jsonl(tmp_path / "数.jsonl", [{"text": "naïve 漢字 " * 50}])
    flags = [*source("数字", tmp_path / "*.jsonl"), "--tokenizer", TOKENIZER, "--window", 16]
    environment = {**os.environ, "LC_ALL": "C"}
    outcome = finish(start("prepare", *flags, "--json", "--out", tmp_path / "o", env=environment))
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["sources"][0]["read"]["documents"] == 1


@pytest.mark.parametrize("when", ["settle_streams", "run_command", "_flush"])
@pytest.mark.parametrize(
    ("command", "advice"),
    [("prepare", "; run the same command again to continue"), ("show", ""), ("--help", "")],
)
def test_an_interruption_before_or_after_the_command(when, command, advice, monkeypatch, capsys):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("settle_streams", "end_on_signals", "tame_warnings", "stop_interrupting"):
        monkeypatch.setattr(program, name, lambda: None)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # `main` sets its own
    monkeypatch.setattr(program, "run_command", lambda obj: 0)
    monkeypatch.setattr(program, when, interrupted)
    monkeypatch.setattr(sys, "argv", ["exactcpt", command])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: interrupted{advice}\n"
