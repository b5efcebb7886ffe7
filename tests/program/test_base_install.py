"""The base installation, without an extra: what works, and what the rest says that it lacks.

The commands run as they are installed, in interpreters that cannot find what the extras bring.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import recorded_runs
from click import Context
from distributions import BASE, modules_beyond
from harness import DATA, EOS, Outcome, finish, source, start

from exactcpt.pipeline.cli import cli
from exactcpt.schemas.extras import install_line

pytestmark = pytest.mark.slow

HIDDEN = sorted(modules_beyond(BASE))

# Every interpreter runs it as it starts, those of Beam's workers too.
SITE = f"""
import sys
from importlib.machinery import PathFinder

class WithoutExtras(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.partition(".")[0] in {HIDDEN}:
            return None
        return super().find_spec(fullname, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutExtras
"""

PREPARE = [
    *source("poems", DATA / "poems.jsonl"), "--tokenizer", DATA / "tokenizer.json",
    "--window", "256", "--validation-fraction", "0.5", "--out", "shards",
]  # fmt: skip
WORKS = {
    "inspect": ["shards.store", "--html", "page.html"],
    "show": ["shards", "--window", "3"],
    "verify": ["shards"],
    "doctor": ["."],
    "reweigh": ["shards", "--alpha", "0.3", "--out", "reweighed"],
    "convert": ["shards", "--to", "mds", "--out", "converted"],
    "publish": ["shards", "--out", "published"],
    "weigh": ["packed.npy", "--boundaries", "end_token", "--tokenizer", DATA / "tokenizer.json",
              "--out", "weighed"],
    "compare": ["one", "two", "--svg", "picture.svg"],
    "evaluate": ["--items-only", "--haystack", "shards", "--lengths", "128", "--items", "2",
                 "--tasks", "place", "--out", "items"],
    "recall-world": ["world", "--short", "4K", "--mixed", "4K"],
    "study": ["study.toml", "--out", "study", "--dry-run"],
}  # fmt: skip
STUDY = """
[study]
name = "two arms"
baseline = "uniform"
seeds = 1

[train]
model = "model"
steps = 1

[[stage]]
name = "only"
shards = "shards"

[[arm]]
name = "uniform"

[[arm]]
name = "exact"

[evaluate]
lengths = [128]

[[primary]]
endpoint = "probe.far"
arm = "exact"
against = ["uniform"]
claim = "greater"
"""
LACKS = {
    "check-trainer": ["model", "--shards", "shards"],
    "train": ["--shards", "shards", "--model", "model", "--out", "run", "--steps", "1"],
    "evaluate": ["one"],
    "export": ["one", "--out", "exported"],
    "init-model": ["model", "--tokenizer", DATA / "tokenizer.json", "--hidden", "64"],
    "study": ["study.toml", "--out", "study"],
}


def run(folder: Path, *arguments: object) -> Outcome:
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    return finish(start(*arguments, cwd=folder, env=os.environ | {"PYTHONPATH": path}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with what `prepare` made there, and two runs."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE)
    for name, weighting in (("one", "uniform"), ("two", "exact")):
        recorded_runs.write(folder / name, weighting)
    (folder / "study.toml").write_text(STUDY)
    np.save(folder / "packed.npy", [[5, 6, EOS, 7, 8, 9], [7, EOS, 5, 6, 7, 8]])
    outcome = run(folder, "prepare", *PREPARE)
    assert outcome.code == 0, outcome.err
    return folder


def test_the_extras_are_hidden():
    assert {"torch", "transformers", "safetensors", "tensorboard", "psutil", "pytest"} <= {*HIDDEN}
    assert {"exactcpt", "numpy", "apache_beam", "datasets"}.isdisjoint(HIDDEN)


def test_every_command_is_tried():
    prepared = {"prepare", "tokenize", "pack"}  # the first does the work of the others
    assert prepared | {*WORKS, *LACKS} == {*cli.list_commands(Context(cli))}


@pytest.mark.parametrize("command", WORKS)
def test_it_works(folder, command):
    outcome = run(folder, command, *WORKS[command])
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("command", LACKS)
def test_it_says_what_it_lacks(folder, command):
    outcome = run(folder, command, *LACKS[command])
    assert outcome.code == 2
    line = install_line("train")
    assert outcome.err == f"error: torch is not installed\n  fix:      {line}\n"
