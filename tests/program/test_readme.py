"""Every command of the README runs, and its Python too."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import harness
import pytest
import torch
from picture import PICTURE, draw
from tiny import model_folder
from transformers import AutoModelForCausalLM

from exactcpt.schemas.manifest import SHARD_SET, parse
from exactcpt.training.run.log import read_run

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text("utf-8")

TRAINING = ("train", "compare", "export")
SMALLER = {
    "--shards shards": "shards-4096",
    "--max-tokens 1B": "16K",
    "--global-batch 64": "2",
    "--nproc-per-node 8": "2",
}
"""What a reader with a small machine would change in the commands of training."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """The lines of all shell blocks, continued lines joined, comments removed."""
    joined = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [line.partition(" #")[0].strip() for line in joined.splitlines() if line.strip()]


def test_every_kind_of_command_is_known():
    first = {command.split()[0] for command in commands()}
    assert first == {"make", "pip", "exactcpt", "torchrun"}


def test_make_targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    for command in commands():
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), command


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data) -> Path:
    """A folder with the bundled data, in which the commands of the README have been run."""
    at = tmp_path_factory.mktemp("readme")
    shutil.copytree(data, at / "tests" / "data")
    for command in commands():
        if command.startswith("exactcpt ") and command.split()[1] not in TRAINING:
            run(command, at)
    return at


@pytest.fixture(scope="module")
def trained(folder) -> dict[str, str]:
    """What each command of training has printed, in the same folder, with a tiny model."""
    model_folder(folder / "Qwen2.5-0.5B", num_hidden_layers=1)
    chosen = [c for c in commands() if "torchrun" in c or c.split()[1] in TRAINING]
    for full, small in SMALLER.items():
        assert any(full in command for command in chosen), full
        chosen = [c.replace(full, f"{full.split()[0]} {small}") for c in chosen]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        return {command: (on_ranks if "torchrun" in command else run)(command, folder)
                for command in chosen}  # fmt: skip


def on_ranks(command: str, at: Path) -> str:
    """Runs a command with the torchrun and the exactcpt of this environment."""
    path = f"{harness.SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *shlex.split(command)[1:]],
        cwd=at, env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def run(command: str, at: Path) -> str:
    words = shlex.split(command)
    arguments, target = words[1:], None
    if ">" in arguments:
        target = at / arguments.pop()
        arguments.remove(">")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(at)
        outcome = harness.run(*arguments)
    assert outcome.code == 0, f"{command}\n{outcome.err}"
    if target is not None:
        target.write_text(outcome.out)
    return outcome.out


def test_the_commands_leave_what_the_readme_says(folder):
    for line in ("manifest.json", "tokenizer.json", "train", "validation", "documents"):
        assert (folder / "shards" / line).exists()
    assert (folder / "shards-4096" / "manifest.json").exists()
    assert (folder / "other" / "manifest.json").exists()


def test_the_python_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert "[0.0, 1.0" in capsys.readouterr().out


def test_the_runs_are_a_pair(folder, trained):
    worlds = [read_run(folder / "runs" / name)["world"] for name in ("exact", "uniform")]
    assert worlds == [1, 2]
    (printed,) = [out for command, out in trained.items() if " compare " in command]
    assert "paired: same windows, and only the weighting differs" in printed
    assert (folder / "compared.svg").read_text("utf-8").startswith("<svg")


def test_what_is_exported_is_the_trained_model(folder, trained):
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder / name) for name in ("Qwen2.5-0.5B", "trained")
    )
    ids = torch.arange(100)[None]
    assert not torch.equal(before(input_ids=ids).logits, after(input_ids=ids).logits)


def test_the_picture_is_what_make_demo_prints(tmp_path, monkeypatch):
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    recipe = re.search(
        r"^\t\$\(BIN\)/exactcpt (prepare .*?[^\\])$", makefile, re.DOTALL | re.MULTILINE
    )
    assert recipe is not None
    command = recipe[1].replace("\\\n", " ").replace("$(DEMO)", str(tmp_path / "demo"))
    monkeypatch.chdir(REPOSITORY)
    assert harness.run(*shlex.split(command)).code == 0
    manifest = tmp_path / "demo" / "manifest.json"
    drawn = draw(parse(manifest.read_bytes(), str(manifest), SHARD_SET))
    assert PICTURE.read_text("utf-8") == drawn, (
        "python tests/helpers/picture.py demo-shards draws it anew"
    )
