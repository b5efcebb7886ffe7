"""Every command of the README runs, and its Python too."""

import re
import shlex
import shutil
from pathlib import Path

import harness
import pytest
from picture import PICTURE, draw

from exactcpt.schemas.manifest import SHARD_SET, parse

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """The lines of all shell blocks, continued lines joined, comments removed."""
    joined = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [line.partition(" #")[0].strip() for line in joined.splitlines() if line.strip()]


def test_every_kind_of_command_is_known():
    first = {command.split()[0] for command in commands()}
    assert first == {"make", "pip", "exactcpt"}


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
        if command.startswith("exactcpt "):
            run(command, at)
    return at


def run(command: str, at: Path) -> None:
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
    assert PICTURE.read_text("utf-8") == drawn, "python tests/picture.py demo-shards draws it anew"
