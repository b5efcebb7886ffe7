"""Every command of the README and of the pages in docs/ runs, and their Python too."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import harness
import pytest
import torch
import window_picture
from nolima_data import write_nolima
from picture import PICTURE, draw
from tiny import model_folder
from transformers import AutoModelForCausalLM

from exactcpt.pipeline.files.storage import Folder
from exactcpt.schemas.manifest import SHARD_SET, parse
from exactcpt.training.run.log import read_run

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))

DRAW_AGAIN = "python tests/helpers/picture.py demo-shards draws it anew"
LANGUAGES = {"sh", "python", "toml"}
SHOWN = {"js", "rust", "go", "java"}
"""What is not run."""
PROGRAMS = {"make", "pip", "exactcpt", "torchrun", "docker"}
TRAINING = (
    "train", "check-trainer", "compare", "evaluate", "export", "study", "init-model",
    "recall-world",
)  # fmt: skip
SMALLER_RUNS = {"--max-tokens 1B": "20K", "--global-batch 64": "2"}
SMALLER_TRAINING = SMALLER_RUNS | {"--nproc-per-node 8": "2"}
SMALLER_EVALUATION = {
    "--lengths 4096,8192,16384": "256",
    "--suite latent --lengths 4096,8192": "latent --lengths 512",
    "--lengths 250,500,1000,2000": "250",
    "--lengths 4096,8192": "1024 --tasks niah_single_1,vt,cwe,fwe",
    "--items 100": "1",
    "--short 4M": "20K",
    "--mixed 2M": "20K",
    "--max-tokens 3M": "4K",
}
SMALLER_STUDY = {
    'max_tokens = "200M"': '= "20K"',
    "global_batch = 64": "= 2",
    "seeds = 5": "= 1",
    "lengths = [4096, 8192]": "= [256, 512]",
    "length = 4096": "= 256",
    "items = 100": "= 1",
}
MODEL = "Qwen2.5-0.5B"
"""A folder with a tiny model and the bundled tokenizer: what a model of that name on the hub is."""
SMALLER = SMALLER_TRAINING | SMALLER_EVALUATION | SMALLER_STUDY
"""What a reader with a small machine, and little text, would change in the commands of training."""


class Block(NamedTuple):
    """A fenced block of a page: what it is written in, and its lines."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    fence = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [Block(*found) for found in fence.findall(page.read_text("utf-8"))]


def commands(page: Path) -> list[str]:
    """The lines of all shell blocks, continued lines joined, comments removed."""
    return [c for block in blocks(page) if block.language == "sh" for c in commands_of(block.text)]


def commands_of(text: str) -> list[str]:
    joined = text.replace("\\\n", " ")
    return [line.partition(" #")[0].strip() for line in joined.splitlines() if line.strip()]


def all_commands() -> list[str]:
    return [command for page in (README, *PAGES) for command in commands(page)]


def is_of_training(command: str) -> bool:
    return command.startswith("torchrun ") or command.split()[1] in TRAINING


def smaller(command: str) -> str:
    for full, small in SMALLER.items():
        command = command.replace(full, f"{full.split()[0]} {small}")
    return command


def test_every_kind_of_block_and_command_is_known():
    found = {block.language for page in (README, *PAGES) for block in blocks(page)}
    assert found - {"text"} == LANGUAGES | SHOWN
    assert {command.split()[0] for command in all_commands()} == PROGRAMS


@pytest.mark.parametrize(
    ("page", "values"),
    [
        ("README.md", SMALLER_RUNS),
        ("docs/train.md", SMALLER_TRAINING),
        ("docs/evaluate.md", SMALLER_EVALUATION),
        ("docs/study.md", SMALLER_STUDY),
    ],
)
def test_the_smaller_values_replace_something(page, values):
    for full in values:
        texts = [block.text for block in blocks(REPOSITORY / page) if block.language == "toml"]
        assert any(full in text for text in [*commands(REPOSITORY / page), *texts]), full


def test_make_targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    for command in all_commands():
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), command


def test_what_pip_installs_exists():
    installed = [shlex.split(c) for c in all_commands() if c.startswith("pip ")]
    project = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    for pip, install, constrained, lock, what in installed:
        assert (pip, install, constrained) == ("pip", "install", "-c")
        assert (REPOSITORY / lock).is_file()
        extra = re.fullmatch(r"\.(?:\[(\w+)\])?", what)
        assert extra is not None, what
        assert extra[1] is None or re.search(rf"^{extra[1]} = \[", project, re.MULTILINE), what


def test_images_and_their_stages_exist():
    """Docker is not asked: what it would build from is there."""
    for command in all_commands():
        words = shlex.split(command)
        if words[:2] == ["docker", "build"]:
            file = REPOSITORY / words[words.index("-f") + 1]
            assert file.is_file(), command
            if "--target" in words:
                stage = words[words.index("--target") + 1]
                assert re.search(rf"^FROM .* AS {stage}$", file.read_text("utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data) -> Path:
    """A folder with the bundled data, in which the commands of the README have been run."""
    at = tmp_path_factory.mktemp("readme")
    shutil.copytree(data, at / "tests" / "data")
    model_folder(at / MODEL, num_hidden_layers=1)
    for command in commands(README):
        if command.startswith("exactcpt ") and not is_of_training(command):
            run(command, at)
    return at


@pytest.fixture(scope="module")
def begun(folder, tmp_path_factory) -> Path:
    """A copy of that folder as it was before any training."""
    return Path(shutil.copytree(folder, tmp_path_factory.mktemp("begun") / "folder"))


@pytest.fixture(scope="module")
def trained(begun, folder) -> dict[str, str]:
    """What each command of training has printed, in the README's folder, with a tiny model."""
    chosen = [smaller(command) for command in commands(README) if is_of_training(command)]
    return {command: run(command, folder) for command in chosen}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


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
    """Runs a command in a folder; it has to succeed. What it prints may go into a file."""
    command = command.replace(f"Qwen/{MODEL}", MODEL)
    if command.startswith("torchrun "):
        return on_ranks(command, at)
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


def run_page(page: Path, at: Path) -> Iterator[Path]:
    """Runs a page's blocks from top to bottom; yields what its commands should have written.

    A block of TOML is a file: its first line is a comment with the name. So is a block of Python
    that begins like that; all other Python of a page is one program.
    """
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        title, _, _ = block.text.partition("\n")
        if block.language == "toml" or re.fullmatch(r"# \w+\.py", title):
            (at / title.removeprefix("# ")).write_text(smaller(block.text))
        elif block.language == "python":
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(at)
                exec(compile(block.text, page.name, "exec"), names)
        elif block.language == "sh":
            for command in commands_of(block.text):
                if command.split()[0] in ("exactcpt", "torchrun"):
                    run(smaller(command), at)
                    yield from written_by(command, at)


WHOLE = {
    "prepare": "manifest.json",
    "pack": "manifest.json",
    "tokenize": "manifest.json",
    "reweigh": "manifest.json",
    "weigh": "manifest.json",
    "train": "run.json",
    "export": "config.json",
    "evaluate": "probe-*/manifest.json",
    "study": "results.json",
    "convert": "**/*.[imp][ad][rsx]*",
    "publish": "manifest.json",
}
"""The file in a command's --out that shows that it is whole."""


def written_by(command: str, at: Path) -> list[Path]:
    """The files that a command should leave."""
    words = shlex.split(command)
    following = dict(pairwise(words))
    found = [at / following[word] for word in (">", "--html", "--svg") if word in following]
    if {"--print-config", "--dry-run", "--table-only"} & set(words):
        return found
    settings = {}
    if "--config" in following:
        settings = tomllib.loads((at / following["--config"]).read_text())
    out = following.get("--out", settings.get("out"))
    if out is not None:
        name = following["exactcpt"]
        whole = WHOLE[name]
        found += (at / out).glob(whole) if "*" in whole else [at / out / whole]
    return found


def test_the_commands_leave_what_the_readme_says(folder):
    for line in ("manifest.json", "tokenizer.json", "train", "validation", "documents"):
        assert (folder / "shards" / line).exists()


# Its programs need libraries of their own: test_trainers_page.py.
RECIPES = REPOSITORY / "docs" / "trainers.md"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p) and p != RECIPES], ids=lambda page: page.stem
)
def test_a_page_runs(page, begun, tmp_path):
    """Each in a folder of its own, in which the README's corpus is prepared, or not yet.

    Data that a reader has to download are made up.
    """
    prepared = shutil.ignore_patterns("shards*") if page.stem == "prepare" else None
    at = Path(shutil.copytree(begun, tmp_path / "folder", ignore=prepared))
    write_nolima(at / "NoLiMa")
    for path in run_page(page, at):
        assert path.is_file(), path
        if path.suffix == ".svg":
            assert path.read_text("utf-8").startswith("<svg")


def test_a_page_with_a_wrong_command_fails(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```sh\nexactcpt verify nothing\n```\n")
    with pytest.raises(AssertionError, match="exactcpt verify nothing"):
        list(run_page(page, tmp_path))


def test_the_python_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    programs = [block.text for block in blocks(README) if block.language == "python"]
    for program in programs:
        exec(compile(program, "README.md", "exec"), {})
    assert "[0.0, 1.0" in capsys.readouterr().out


def test_the_runs_are_a_pair(folder, trained):
    worlds = [read_run(folder / "runs" / name)["world"] for name in ("exact", "uniform")]
    assert worlds == [1, 1]
    (printed,) = [out for command, out in trained.items() if " compare " in command]
    assert "paired: same windows, and only the weighting differs" in printed


def test_what_is_exported_is_the_trained_model(folder, trained):
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder / name) for name in (MODEL, "trained")
    )
    ids = torch.arange(100)[None]
    assert not torch.equal(before(input_ids=ids).logits, after(input_ids=ids).logits)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """The shards of `make demo`."""
    shards = tmp_path_factory.mktemp("demo") / "shards"
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    recipe = re.search(
        r"^\t\$\(BIN\)/exactcpt (prepare .*?[^\\])$", makefile, re.DOTALL | re.MULTILINE
    )
    assert recipe is not None
    command = recipe[1].replace("\\\n", " ").replace("$(DEMO)", str(shards))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        assert harness.run(*shlex.split(command)).code == 0
    return shards


def test_the_picture_is_what_make_demo_prints(demo):
    manifest = demo / "manifest.json"
    drawn = draw(parse(manifest.read_bytes(), str(manifest), SHARD_SET))
    assert PICTURE.read_text("utf-8") == drawn, DRAW_AGAIN


def test_the_picture_of_a_window_is_of_the_demo(demo):
    committed = window_picture.PICTURE.read_text("utf-8")
    assert shapes(committed) == shapes(window_picture.draw(Folder(str(demo)))), DRAW_AGAIN


def shapes(svg: str) -> list[str]:
    """Lines and words of a picture; where they stand depends on the fonts of the machine."""
    found = re.findall(r' d="([^"]+)"|>([^<]+)</text>', svg)
    assert len(found) > 20
    return [path or word for path, word in found]
