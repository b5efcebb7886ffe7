"""`exactcpt check-trainer`: model folders, functions, and what can be wrong with either."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from handmade import Corpus, Document, write_shards, write_store
from harness import Outcome, changed_tokenizer, rename_eos, run
from tiny import shards_and_model

from exactcpt.training.checks.checks import CHECKS

PAGE = Path(__file__).parents[3] / "docs" / "check-trainer.md"

HOLDS = """
import trainers
step = trainers.Trainer().step
"""
LEAKS = """
import trainers
step = trainers.Trainer(sees=trainers.whole_past).step
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return shards_and_model(tmp_path_factory.mktemp("made"))


@pytest.fixture
def module(tmp_path, monkeypatch) -> Callable[[str], str]:
    """Writes a module into the current folder; its name is no other test's."""
    monkeypatch.chdir(tmp_path)
    names = []

    def write(code: str) -> str:
        names.append(f"{tmp_path.name.replace('-', '_')}_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(code)
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


def checked(trainer: object, made: Path, *more: object) -> Outcome:
    return run("check-trainer", trainer, "--shards", made / "shards", *more)


def failing(outcome: Outcome) -> list[str]:
    return [each["check"] for each in outcome.json["checks"] if each["outcome"] == "fails"]


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        (None, ["weights", "documents", "denominator"]),
        ("positions", ["weights", "denominator"]),
        ("exactcpt", []),
    ],
)
def test_model_folders(made, loop, expected):
    more = () if loop is None else ("--loop", loop)
    outcome = checked(made / "model", made, *more, "--json")
    assert failing(outcome) == expected
    assert outcome.code == (1 if expected else 0)
    assert outcome.json["loop"] == (loop or "plain")
    assert outcome.json["holds"] == (not expected)


def test_a_cache_joins_documents(made, module):
    """What docs/check-trainer.md says of transformers."""
    name = module(
        f"""
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({str(made / "model")!r})

def step(batches, **how):
    model.zero_grad()
    for batch in batches:
        names = ("input_ids", "position_ids", "labels")
        model(**{{name: batch[name] for name in names}}, **how).loss.backward()
    return model

def uncached(batches):
    return step(batches, use_cache=False)
"""
    )
    assert "documents" in failing(checked(f"{name}:step", made, "--json"))
    assert "documents" not in failing(checked(f"{name}:uncached", made, "--json"))


def test_functions(made, module):
    outcome = checked(f"{module(HOLDS)}:step", made, "--json")
    assert (outcome.code, failing(outcome), outcome.json["loop"]) == (0, [], None)
    outcome = checked(f"{module(LEAKS)}:step", made, "--json")
    assert (outcome.code, failing(outcome)) == (1, ["documents"])


def test_a_function_can_lie_in_an_object(made, module):
    code = "import trainers\nclass Mine:\n    trainer = trainers.Trainer()\n"
    assert checked(f"{module(code)}:Mine.trainer.step", made).code == 0


def test_the_path_is_as_before(made, module):
    before = list(sys.path)
    assert checked(f"{module(HOLDS)}:step", made).code == 0
    assert sys.path == before


def test_json(made, module):
    trainer = f"{module(HOLDS)}:step"
    found = checked(trainer, made, "--json").json
    assert list(found) == [
        "trainer", "shards", "loop", "windows", "holds", "checks", "noise", "steps",
    ]  # fmt: skip
    assert (found["trainer"], found["shards"]) == (trainer, str(made / "shards"))
    assert [each["check"] for each in found["checks"]] == [*(c.name for c in CHECKS), "ranks"]
    assert {tuple(each) for each in found["checks"]} == {("check", "says", "outcome", "seen")}
    assert found["noise"]["repeated"] == 0
    assert found["noise"]["exact"] < found["noise"]["sums"] < 0.001


def test_what_a_trainer_prints_is_no_result(made, module):
    code = (
        f"{HOLDS}inner = step\ndef step(batches):\n    print('loss')\n    return inner(batches)\n"
    )
    outcome = checked(f"{module(code)}:step", made, "--json")
    assert outcome.json["holds"]
    assert "loss\n" in outcome.err


def test_the_table(made, module):
    outcome = checked(f"{module(LEAKS)}:step", made)
    for check in CHECKS:
        for word in check.says.split():
            assert word in outcome.out
    assert "1 check failed\n" in outcome.out
    assert "changes of the gradient are relative to its norm; one counts above" in outcome.out
    assert outcome.err.startswith("about 26 steps with the training windows 3 and 0")
    assert "everything that was asked holds" in checked(f"{module(HOLDS)}:step", made).out


def test_quiet(made, module):
    assert checked(f"{module(LEAKS)}:step", made, "--quiet") == Outcome(1, "", "")


def test_the_page_has_every_check(made):
    text = PAGE.read_text("utf-8")
    table = text.split("## What is checked")[1]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [check.name for check in CHECKS]
    shown = " ".join(re.findall(r"^│ ([^│]+)│", text, re.MULTILINE))
    for check in CHECKS:
        assert all(word in shown for word in check.says.split()), check.says
    loops = text.split("## A model folder")[1].split("## What is checked")[0]
    assert re.findall(r"^\| `(\w+)` \|", loops, re.MULTILINE) == ["plain", "positions", "exactcpt"]


def test_help_needs_no_torch():
    code = "import sys, exactcpt.training.checks.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


RETURNS = {
    "None": "the step returned None",
    "[]": "the step returned an object of type list",
    "3.5": "the step returned an object of type float",
    "{}": "the step returned no gradient",
    "trainers.Model()": "the step returned no gradient",
    "{'a': None}": "the step returned no gradient",
    "{'a': 1.0}": "the step returned a mapping that has an object of type float at 'a'",
    "{1: torch.ones(2)}": "the step returned a mapping that has an object of type Tensor at 1",
    "{'a': torch.ones(2, dtype=int)}": "the gradient of a is of type torch.int64",
    "{'a': torch.tensor([1.0, torch.nan])}": "the gradient of a is not finite",
    "{'a': torch.ones(next(count))}": "the gradient of a has the shape [2]",
    "1 / 0": "the step ended with an error: ZeroDivisionError: division by zero",
    "exit(3)": "the step ended with an error: SystemExit: 3",
    "batches[0]['attention_mask']": "the step ended with an error: KeyError: 'attention_mask'",
}


@pytest.mark.parametrize("returned", RETURNS)
def test_wrong_results(made, module, returned):
    name = module(
        "import itertools, torch, trainers\ncount = itertools.count(1)\n"
        f"def step(batches):\n    return {returned}\n"
    )
    outcome = checked(f"{name}:step", made)
    assert outcome.code == 1
    assert f"error: {RETURNS[returned]}\n" in outcome.err
    assert "  expected: " in outcome.err


def test_an_error_says_where(made, module):
    code = "import torch\ndef step(batches):\n    return torch.ones(2) @ torch.ones(3)\n"
    name = module(code)
    outcome = checked(f"{name}:step", made)
    assert re.search(rf"where: +\S*{name}.py, line 3\n", outcome.err)
    assert "Traceback" not in outcome.err
    assert "Traceback" in checked(f"{name}:step", made, "--debug").err


MODULES = {
    "def step(:\n": r"cannot be imported: SyntaxError: .*\n +where: +\S+\.py, line 1\n",
    "x = 1\n1 / 0\n": r"cannot be imported: ZeroDivisionError: .*\n +where: +\S+\.py, line 2\n",
    "exit()\n": "cannot be imported: SystemExit",
    "import nothing_of_this_name\n": "No module named 'nothing_of_this_name'",
    "other = 1\n": r"has no step\n +where: +\S+\.py\n +expected: module:function",
    "step = 1\n": "step is no function, but an object of type int",
}


@pytest.mark.parametrize("code", MODULES)
def test_wrong_modules(made, module, code):
    outcome = checked(f"{module(code)}:step", made)
    assert outcome.code == 2
    assert re.search(MODULES[code], outcome.err), outcome.err


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ("my_trianer:step", "my_trianer cannot be imported: ModuleNotFoundError"),
        ("trainers:", "trainers has no function that is named"),
        (":step", "a module of no name cannot be imported"),
        ("my_trainer", "there is neither such a folder nor such a function"),
    ],
)
def test_wrong_names(made, trainer, said):
    outcome = checked(trainer, made)
    assert outcome.code == 2
    assert said in outcome.err
    assert "module:function" in outcome.err


def test_a_loop_is_for_folders(made, module):
    outcome = checked(f"{module(HOLDS)}:step", made, "--loop", "plain")
    assert outcome.code == 2
    assert "--loop is given with a function" in outcome.err


def test_a_model_of_another_vocabulary(made, tmp_path):
    model = Path(shutil.copytree(made / "model", tmp_path / "model"))
    changed_tokenizer(model, rename_eos)
    outcome = checked(model, made)
    assert outcome.code == 2
    assert "the vocabularies differ" in outcome.err


def test_a_model_without_weights(made, tmp_path):
    model = Path(shutil.copytree(made / "model", tmp_path / "model"))
    (model / "model.safetensors").unlink()
    outcome = checked(model, made)
    assert outcome.code != 0
    assert str(model) in outcome.err
    assert "safetensors" in outcome.err


def hand_set(folder: Path, *lengths: int, split: str = "train", **settings: object) -> Path:
    documents = [Document(length, split=split) for length in lengths]
    packed = Corpus([("a", documents)], **settings)
    write_store(folder / "store", packed)
    write_shards(folder / "shards", packed, folder / "store")
    return folder


@pytest.mark.parametrize(
    ("lengths", "settings", "said"),
    [
        ((300,), {}, "no training window has two documents that are long enough"),
        ((9,) * 40, {}, "no training window has two documents that are long enough"),
        ((20, 20), {}, "no other training window begins with a document long enough"),
        ((20, 41, 5, 60), {}, "no other training window begins with a document long enough"),
        ((20, 20), {"split": "validation"}, "the shard set has no train windows"),
    ],
)
def test_shards_that_show_nothing(tmp_path, module, lengths, settings, said):
    outcome = checked(f"{module(HOLDS)}:step", hand_set(tmp_path, *lengths, **settings))
    assert outcome.code == 2
    assert said in outcome.err
    if "long enough" in said:
        assert "two training windows: one with two documents of 10 tokens or more" in outcome.err


def test_no_shards(tmp_path):
    outcome = checked("trainers:step", tmp_path)
    assert outcome.code == 2
    assert "there is no such folder" in outcome.err
