"""`exactcpt train` and `export` as their users run them."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from checkpoints import EVIL, reseal
from commands import fork
from harness import SCRIPT, finish, start
from tiny import END, shards_and_model

from exactcpt.pipeline import cli as pipeline_cli
from exactcpt.pipeline.cli import run_command
from exactcpt.schemas.extras import install_line
from exactcpt.training.cli import HELP, STOPPED
from exactcpt.training.config import KINDS
from exactcpt.training.run.checkpoint_files import newest_checkpoint
from exactcpt.training.windows.agreement import model_fingerprint

pytestmark = pytest.mark.slow

FEW = ["--steps", "2", "--global-batch", "2", "--precision", "fp32", "--device", "cpu",
       "--eval-every", "0"]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return shards_and_model(tmp_path_factory.mktemp("command"))


@pytest.fixture(scope="module")
def ended(made, tmp_path_factory) -> Path:
    """A run of one step."""
    run = tmp_path_factory.mktemp("ended") / "run"
    assert run_command([*arguments(made, run, *FEW), "--steps", "1"]) == 0
    return run


def arguments(made: Path, out: Path, *more: str) -> list[str]:
    named = ["--shards", str(made / "shards"), "--model", str(made / "model"), "--out", str(out)]
    return ["train", *named, *more]


def test_help_names_the_commands_of_training(capfd):
    assert run_command(["--help"]) == 0
    text = capfd.readouterr().out
    for command in ("prepare", "verify", "train", "compare", "export"):
        assert f"\n  {command} " in text
    assert run_command(["train", "--help"]) == 0
    text = capfd.readouterr().out
    for name in HELP:
        assert f"--{name.replace('_', '-')}" in text


def test_help_is_quick():
    """It imports neither torch nor anything like it."""
    code = (
        "import sys; from exactcpt.pipeline.cli import run_command; run_command(['--help']);"
        "print(*{'torch', 'transformers', 'numpy'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


def test_no_such_command(capfd):
    assert run_command(["tran"]) == 2
    assert "No such command 'tran'" in capfd.readouterr().err


def test_a_command_is_loaded_once_asked_for():
    context = pipeline_cli.cli.make_context("exactcpt", ["train"], resilient_parsing=True)
    found = pipeline_cli.cli.get_command(context, "train")
    assert found is not None
    assert found.name == "train"
    assert pipeline_cli.cli.get_command(context, "none") is None


def test_settings_of_file_and_flags(made, tmp_path, capfd):
    path = tmp_path / "run.toml"
    path.write_text('seed = 4\nweighting = "uniform"\neval = { books = "b" }\nmax_tokens = "1M"\n')
    more = ["--config", str(path), "--print-config", "--seed", "5", "--compile"]
    assert run_command(arguments(made, tmp_path / "run", *more)) == 0
    shown = tomllib.loads(capfd.readouterr().out)
    assert shown["seed"] == 5
    assert shown["weighting"] == "uniform"
    assert shown["eval"] == {"books": "b"}
    assert shown["max_tokens"] == 1_000_000
    assert shown["compile"] is True
    assert shown["learning_rate"] == 2e-5
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "more", "expected", "gone"),
    [
        ('max_tokens = "1M"', ["--steps", "3"], {"steps": 3}, "max_tokens"),
        ("steps = 3", ["--max-tokens", "1M"], {"max_tokens": 1_000_000}, "steps"),
        (
            'weighting = "table"\nweight_table = "t.json"',
            ["--weighting", "uniform"],
            {"weighting": "uniform"},
            "weight_table",
        ),
        (
            'weighting = "table"\nweight_table = "t.json"',
            ["--weighting", "near"],
            {"weighting": "near", "weight_table": "t.json"},
            None,
        ),
        (
            'weighting = "table"\nweight_table = "t.json"',
            ["--weight-table", "u.json"],
            {"weighting": "table", "weight_table": "u.json"},
            None,
        ),
    ],
)
def test_a_flag_overrides_what_contradicts_it(tmp_path, capfd, text, more, expected, gone):
    (tmp_path / "run.toml").write_text(text)
    named = ["--config", str(tmp_path / "run.toml"), "--print-config", *more]
    assert run_command(arguments(Path("m"), Path("o"), *named)) == 0
    shown = tomllib.loads(capfd.readouterr().out)
    assert shown.items() >= expected.items()
    assert gone not in shown


def test_flags_that_contradict_each_other(capfd):
    both = ["--steps", "3", "--max-tokens", "1M", "--print-config"]
    assert run_command(arguments(Path("m"), Path("o"), *both)) == 2
    assert "both steps and max_tokens are given" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (["--weighting", "heavy"], "'heavy' is not one of"),
        (["--max-tokens", "many"], "'many' is not a size"),
        (["--micro-batch", "0"], "micro_batch is 0"),
        (["--eval", "books"], "--eval 'books'"),
        (["--learnin-rate", "1"], "No such option"),
        (["--attention", "varlen"], "attention 'varlen' cannot train on cpu in fp32"),
        (["--device", "cuda"], "there is no CUDA device for local rank 0"),
    ],
)
def test_wrong_usage(made, tmp_path, capfd, more, found):
    assert run_command(arguments(made, tmp_path / "run", *FEW, *more)) == 2
    assert found in capfd.readouterr().err


def test_a_folder_that_is_not_named(capfd):
    assert run_command(["train", "--shards", "s"]) == 2
    assert capfd.readouterr().err == (
        "error: --model is missing\n  expected: --model DIR or OWNER/NAME of the Hugging Face hub\n"
    )
    assert run_command(["train", "--model", "m", "--out", "o"]) == 2
    assert capfd.readouterr().err == "error: --shards is missing\n  expected: --shards DIR\n"


def test_a_run(made, tmp_path, capfd):
    assert run_command(arguments(made, tmp_path / "run", *FEW, "--json")) == 0
    out, err = capfd.readouterr()
    summary = json.loads(out)
    assert summary["status"] == "finished"
    assert summary["last"]["step"] == summary["step"] == summary["steps"] == 2
    assert Path(summary["checkpoint"]).is_dir()
    assert "step 2 of 2  loss " in err
    assert err.endswith("\nstep 2 of 2  finished\n")
    assert run_command(arguments(made, tmp_path / "run", *FEW)) == 0
    again = capfd.readouterr().err
    assert "continues after step 2" in again
    assert again.endswith("\nstep 2 of 2  finished\n")


def test_quiet(made, tmp_path, capfd):
    assert run_command(arguments(made, tmp_path / "run", *FEW, "--quiet")) == 0
    assert capfd.readouterr() == ("", "")


def has_worker(pid: int) -> bool:
    """Whether a process has a worker of its loader, which may be importing still."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return any(b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes() for n in children)


@pytest.mark.parametrize(
    ("name", "workers", "begun"),
    [
        ("SIGTERM", "0", True),
        ("SIGTERM", "1", False),
        ("SIGINT", "1", True),
        ("SIGINT", "1", False),
    ],
)
def test_a_signal_stops_a_run(made, tmp_path, name, workers, begun):
    """A process of its own is stopped, checkpoints, and says so by its exit code.

    Its workers get the signal too, as torchrun and terminals send it, and the process gets SIGTERM
    until it ends.
    """
    command = arguments(made, tmp_path / "run", *FEW, "--loader-workers", workers)
    command[command.index("--steps") + 1] = "100000"
    # A loader spawns interpreters like the one that it runs in.
    process = fork(*command) if workers == "0" else start(*command, start_new_session=True)
    log = tmp_path / "run" / "log.jsonl"
    try:
        while not (
            log.exists() and '"step", "step": 2' in log.read_text()
            if begun
            else has_worker(process.pid)
        ):
            assert process.poll() is None, finish(process).err
            time.sleep(0.05)
        os.killpg(process.pid, getattr(signal, name))
        while process.poll() is None:
            time.sleep(0.02)
            process.terminate()
        outcome = finish(process)
        assert outcome.err.count("Ctrl-C again ends it at once") == (name == "SIGINT")
        assert outcome.code == STOPPED == 75, outcome.err
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["status"] == "stopped"
    newest = tmp_path / "run" / "checkpoints" / f"step-{last['step']:08d}"
    assert newest.is_dir() == (last["step"] > 0) == begun


def test_sigterm_under_torchrun(made, tmp_path):
    """It hands the signal on, waits for its ranks, and returns 1 whatever they return."""
    command = arguments(made, tmp_path / "run", *FEW)
    command[command.index("--steps") + 1] = "100000"
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command = [sys.executable, *ranks, str(SCRIPT), *command]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    log = tmp_path / "run" / "log.jsonl"
    try:
        while not (log.exists() and '"step", "step": 2' in log.read_text()):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 1
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["status"] == "stopped"
    assert (tmp_path / "run" / "checkpoints" / f"step-{last['step']:08d}").is_dir()


def test_export(made, tmp_path, capfd):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    saving = ["--save-every", "1", "--export-every", "1"]
    assert run_command(arguments(made, tmp_path / "run", *FEW, *saving)) == 0
    assert run_command(["export", str(tmp_path / "run"), "--out", str(tmp_path / "hf")]) == 0
    first = ["export", str(tmp_path / "run"), "--out", str(tmp_path / "one"), "--step", "1"]
    assert run_command(first) == 0
    exports = tmp_path / "run" / "exports"
    weights = {
        path: AutoModelForCausalLM.from_pretrained(path).model.embed_tokens.weight
        for path in (
            tmp_path / "hf", tmp_path / "one", exports / "step-00000001", exports / "step-00000002"
        )
    }  # fmt: skip
    for path in weights:
        assert AutoTokenizer.from_pretrained(path).eos_token == END
    newest, one, during_one, during_two = weights.values()
    assert newest.equal(during_two)
    assert one.equal(during_one)
    assert not one.equal(newest)
    capfd.readouterr()
    assert run_command([*first[:-1], "3"]) == 2
    assert "expected: step 1 or 2" in capfd.readouterr().err


def test_export_from_another_folder(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made)
    assert run_command([*arguments(Path(), tmp_path / "run", *FEW), "--steps", "1"]) == 0
    monkeypatch.chdir(tmp_path)
    assert run_command(["export", "run", "--out", "hf"]) == 0
    assert (tmp_path / "hf" / "tokenizer.json").is_file()


def test_export_of_a_model_that_was_changed(made, tmp_path, capfd):
    model = shutil.copytree(made / "model", tmp_path / "model")
    run = ["train", "--shards", str(made / "shards"), "--model", str(model), *FEW]
    assert run_command([*run, "--steps", "1", "--out", str(tmp_path / "run")]) == 0
    before = model_fingerprint(model)
    text = (model / "config.json").read_text()
    (model / "config.json").write_text(text.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 0.1'))
    now = model_fingerprint(model)
    assert now != before
    capfd.readouterr()
    export = ["export", str(tmp_path / "run"), "--out", str(tmp_path / "hf")]
    assert run_command(export) == 1
    assert capfd.readouterr().err == (
        f"error: the folder has another model than the one that the run trained: {now}\n"
        f"  where:    {model}\n"
        f"  expected: {before}, the digest of config.json and the weights\n"
        "  fix:      restore the folder\n"
    )
    assert not (tmp_path / "hf").exists()
    (model / "config.json").write_text(text)
    assert run_command(export) == 0


def test_export_to_a_full_disk(made, tmp_path, capfd):
    """No file may be longer than 50,000 bytes, and the weights are."""
    assert run_command([*arguments(made, tmp_path / "run", *FEW), "--steps", "1"]) == 0
    capfd.readouterr()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        code = run_command(["export", str(tmp_path / "run"), "--out", str(tmp_path / "hf")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    error = capfd.readouterr().err
    assert "File too large" in error
    assert f"where:    {tmp_path / 'hf.partial' / 'model.safetensors'}" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("command", ["resume", "init-from", "export"])
def test_no_command_runs_code_of_a_checkpoint(made, ended, tmp_path, capfd, command):
    run, marker = Path(shutil.copytree(ended, tmp_path / "run")), tmp_path / "marker"
    checkpoint = newest_checkpoint(run)
    assert checkpoint is not None
    EVIL["evil_index"](checkpoint, marker)
    reseal(checkpoint)
    given = {
        "resume": arguments(made, run, *FEW),
        "init-from": arguments(made, tmp_path / "next", *FEW, "--init-from", str(run)),
        "export": ["export", str(run), "--out", str(tmp_path / "hf")],
    }
    capfd.readouterr()
    assert run_command(given[command]) == 1
    assert capfd.readouterr().err == (
        "error: the checkpoint cannot be loaded: .metadata is not its index: it names "
        "posix.system, which no checkpoint needs\n"
        f"  where:    {checkpoint}\n"
        "  fix:      remove it to continue from the one before; if it is not your own, do not use "
        "it\n"
    )
    assert not marker.exists()
    assert not (tmp_path / "hf").exists()


def test_export_of_what_is_no_run(made, tmp_path, capfd):
    assert run_command(["export", str(tmp_path), "--out", str(tmp_path / "hf")]) == 1
    assert "this folder is not a run" in capfd.readouterr().err
    assert run_command(["export", str(tmp_path / "none"), "--out", str(tmp_path / "hf")]) == 2
    assert "there is no such folder" in capfd.readouterr().err


def test_a_folder_that_is_not_there(made, tmp_path, capfd):
    named = ["--shards", str(made / "shards"), "--model", "Qwen2.5-0.5B"]
    assert run_command(["train", *named, "--out", str(tmp_path / "run"), *FEW]) == 2
    err = capfd.readouterr().err
    assert "there is no such folder" in err
    assert "fix:      a model of the Hugging Face hub is named OWNER/NAME[@REVISION]" in err


@pytest.mark.parametrize(
    "command", [["train", "--shards", "s", "--model", "m"], ["export", "r"], ["evaluate", "r"]]
)
def test_without_what_training_needs(command, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("exactcpt.training.options.find_spec", lambda name: None)
    assert run_command([*command, "--out", str(tmp_path / "run")]) == 2
    err = capfd.readouterr().err
    assert f"error: torch is not installed\n  fix:      {install_line('train')}" in err


@pytest.mark.parametrize("kind", [ImportError, OSError])
def test_torch_that_cannot_be_imported(kind, tmp_path, capfd, monkeypatch):
    def import_to_stay(name):
        raise kind(f"{name} needs libcublas.so.13, which is not there")

    monkeypatch.setattr("exactcpt.training.options.import_to_stay", import_to_stay)
    assert run_command(["export", str(tmp_path), "--out", str(tmp_path / "exported")]) == 2
    assert capfd.readouterr().err == (
        "error: torch is installed, but cannot be imported: torch needs libcublas.so.13, which is "
        "not there\n"
        "  fix:      make a new environment, and install exactcpt with its extra `train` there\n"
    )


def test_help_has_every_weighting(capfd):
    assert run_command(["train", "--help"]) == 0
    lines = capfd.readouterr().out.splitlines()
    for name in KINDS["weighting"].choices:
        assert any(line.split()[:1] == [name] for line in lines), name
