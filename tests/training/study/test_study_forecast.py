"""What the trainings of a study will take: told before there are shards, as `train` tells it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from harness import DATA, Outcome, done
from harness import run as run_command
from hub import FakeHub, client_of, served
from studies import BASE, written
from tiny import model_folder, shard_set

from exactcpt.training.study.forecasts import StepForecast, forecast_stages, forecast_steps
from exactcpt.training.study.foreseen import Foreseen
from exactcpt.training.study.graph import base_step
from exactcpt.training.study.makings import Making
from exactcpt.training.study.plan import make_plan
from exactcpt.training.study.reading import read_study
from exactcpt.training.untrained.shape import SIZES

TRAIN = {"model": "{here}/model", "shards": "{here}/shards", "global_batch": 8, "steps": 5}
POEMS = f"--source poems={DATA / 'poems.jsonl'} --tokenizer {DATA / 'tokenizer.json'}"
PREPARED = {
    "makes": "poems",
    "run": f"prepare {POEMS} --window 256 --tau 32 --validation-fraction 0 --out poems",
}
UNTRAINED = {
    "makes": "llama",
    "run": f"init-model llama --tokenizer {DATA / 'tokenizer.json'} --hidden 64 --kv-heads 2",
}
RECIPES = Path(__file__).parents[3] / "training" / "recipes"
PAGE = Path(__file__).parents[3] / "docs" / "study.md"
SIZES_OF: dict[str, dict[str, Any]] = {
    "SmolLM2-135M": {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "vocab_size": 49152, "max_position_embeddings": 8192,
    },
    "Qwen2.5-0.5B": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "vocab_size": 151936, "max_position_embeddings": 32768,
    },
    "Llama-3.2-3B": {
        "model_type": "llama", "hidden_size": 3072, "intermediate_size": 8192, "head_dim": 128,
        "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8,
        "vocab_size": 128256, "max_position_embeddings": 131072,
    },
}  # fmt: skip
"""What the models of the recipes have in their config.json."""
NO_SIZES = dict.fromkeys(SIZES)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with shards and a model."""
    folder = tmp_path_factory.mktemp("forecast")
    shard_set(folder / "shards")
    model_folder(folder / "model")
    return folder


def dry_run(folder: Path, *more: str, **changes: Any) -> Outcome:
    path = written(folder, **({"prepare": None, "train": TRAIN} | changes))
    return done("study", path, "--out", folder / "out", "--dry-run", *more)


def told(folder: Path, *more: str, **changes: Any) -> dict[str, Any]:
    """The forecast of each step, by its name."""
    found = dry_run(folder, "--json", *more, **changes).json
    return {each["step"]: each for each in found["steps"]}


def row_of(printed: str, stage: str) -> list[str]:
    """The cells of a stage's row."""
    rows = (line.split()[1:] for line in printed.splitlines() if line.startswith("# "))
    (found,) = (row[1:] for row in rows if row[:1] == [stage])
    return found


def test_each_training_takes_what_train_says(made, tmp_path, monkeypatch):
    """The commands that are printed, each with --dry-run, say the same."""
    stages = [
        {"name": "one", "precision": "fp32"},
        {"name": "two", "steps": 9, "micro_batch": 2, "checkpoint_activations": True},
    ]
    arms = [{"name": "uniform"}, {"name": "exact", "steps": 7}]
    more = ("--card", "a100", "--gpus", "1", "--gpus", "4")
    changes = {"stage": stages, "arm": arms, "study": {"name": "two", "seeds": 1}}
    found = told(made, *more, **changes)
    listed = dry_run(made, *more, **changes).out.splitlines()
    commands = [line.split()[1:] for line in listed if line.startswith("exactcpt train")]
    assert len(commands) == len(found) == 4
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    for step, words in zip(found.values(), commands, strict=True):
        alone = run_command(*words, "--dry-run", "--json", *more)
        assert json.loads(alone.out) == step["forecast"]
    steps = {name: each["forecast"]["steps"] for name, each in found.items()}
    assert steps["uniform:0:one"] == 5
    assert steps["exact:0:two"] == 7  # an arm's setting goes before a stage's


def test_stages_are_sums_of_their_trainings(made):
    stages = [{"name": "one"}, {"name": "two", "steps": 9}]
    found = dry_run(made, "--json", stage=stages).json
    assert [(each["stage"], each["runs"]) for each in found["stages"]] == [("one", 6), ("two", 6)]
    for stage in found["stages"]:
        own = [each["forecast"] for each in found["steps"] if each["stage"] == stage["stage"]]
        assert stage["tokens"] == sum(each["tokens"] for each in own)
        for number, on in enumerate(stage["on"]):
            ends = [each["on"][number]["hours"] for each in own]
            assert on["ranks"] == (1, 8)[number]
            assert on["together"] == pytest.approx([sum(end[i] for end in ends) for i in (0, 1)])
            assert on["each"] == ends[0]
            assert on["memory"] == own[0]["on"][number]["memory"]["total"]


def test_before_there_are_shards(made):
    """The command that makes them says how long windows are; attention is then at its most."""
    stages = [{"name": "one", "shards": "poems", "max_tokens": "1M"}]
    changes = {"prepare": [PREPARED], "stage": stages}
    before = told(made, **changes)["exact:0:one"]
    assert (before["forecast"]["window"], before["tau"]) == (256, 32)
    assert before["forecast"]["context"] == 257 / 2
    assert before["forecast"]["is_bound"]
    assert before["forecast"]["tokens"] == 999_424  # whole steps
    printed = dry_run(made, **changes).out
    assert "# exact:0:one: 999,424 tokens; 1 GPU: " in printed
    assert row_of(printed, "one*")[:3] == ["256", "32", "6"]
    assert "# * These windows are not there yet." in printed
    words = PREPARED["run"].split()
    done(*words[:-1], made / "out" / "poems", "--quiet")
    after = told(made, **changes)["exact:0:one"]
    assert after["tau"] == 32
    assert not after["forecast"]["is_bound"]
    assert 1 < after["forecast"]["context"] < before["forecast"]["context"]
    assert after["forecast"]["on"][0]["memory"] == before["forecast"]["on"][0]["memory"]
    assert after["forecast"]["on"][0]["hours"] < before["forecast"]["on"][0]["hours"]
    assert "one*" not in dry_run(made, **changes).out


def test_a_model_that_is_not_made_yet(made):
    train = TRAIN | {"model": "llama"}
    changes = {"prepare": [UNTRAINED], "train": train}
    before = told(made, **changes)["exact:0:one"]["forecast"]
    words = UNTRAINED["run"].split()
    done(words[0], made / "out" / "llama", *words[2:], "--quiet")
    assert told(made, **changes)["exact:0:one"]["forecast"] == before
    assert before["parameters"] > 64 * 4096


def test_a_model_of_the_hub(made, tmp_path, monkeypatch):
    """Nothing but its description is fetched."""
    own = told(made)["exact:0:one"]["forecast"]
    with served(FakeHub()) as hub:
        client_of(hub.url, tmp_path / "cache", monkeypatch)
        model = f"acme/tiny@{hub.add_folder('acme/tiny', made / 'model')}"
        assert told(made, train=TRAIN | {"model": model})["exact:0:one"]["forecast"] == own
        assert {Path(name).suffix for name in hub.asked} == {".json"}


def making(command: str, makes: str = "made", **given: Any) -> Making:
    return Making(makes=makes, command=command, parameters=given)


def foreseen(folder: Path, *makings: Making, **settings: Any) -> list[StepForecast]:
    """What is foreseen of the trainings of one stage."""
    train = {n: v for n, v in (TRAIN | settings).items() if v is not None}
    study = read_study(str(written(folder, prepare=None, train=train, stage=[{"name": "one"}])))
    steps = make_plan(study, lambda _: None).steps
    return forecast_steps(steps, Foreseen(folder, makings), "h100", [1])


def test_weights_alone_are_changed(made):
    """Other weights for the same windows; the tail may begin elsewhere."""
    shards = str(made / "shards")
    own = foreseen(made)[0]
    assert own.tau == 16
    for tau in (None, 4):
        other = making("reweigh", out="made", shards=shards, tau=tau)
        found = foreseen(made, other, shards="made")[0]
        assert found.found == own.found
        assert found.tau == (tau or 16)


def test_a_set_by_its_url_and_one_that_is_looked_at_too(made):
    """`verify` writes nothing, whatever else makes the folder."""
    at_path = foreseen(made)[0]
    assert foreseen(made, shards=f"file://{made / 'shards'}")[0].found == at_path.found
    makes = [making("prepare", out="made", window=128, tau=8), making("verify", paths=("made",))]
    assert foreseen(made, *makes, shards="made")[0].tau == 8


@pytest.mark.parametrize(
    ("makings", "settings", "told"),
    [
        ([], {"shards": "none"}, "there are no shards, and no command of the study makes them"),
        (
            [making("prepare", out="made", window=None, config="job.toml")],
            {"shards": "made"},
            "the command that makes made does not say how long its windows are",
        ),
        ([], {"shards": "s3://bucket/shards"}, "the shards are on a server"),
        (
            [making("reweigh", out="made", shards="made", tau=8)],
            {"shards": "made"},
            "the command that makes made needs it",
        ),
        ([], {"model": "none"}, "there is no such folder"),
        ([], {"device": "cpu"}, "they are trained on a CPU"),
        (
            [making("prepare", out="made", window=128)],
            {"shards": "made", "steps": None},
            "the training takes one epoch, and its windows are not there yet",
        ),
        (
            [making("prepare", out="made", window=128)],
            {"shards": None, "mix": {"{here}/shards": "0.5", "made": "0.5"}},
            "the sets of a mix have windows of 64 and 128 tokens",
        ),
        (
            [making("init-model", folder="m", tokenizer="t", config=None, **NO_SIZES)],
            {"model": "m"},
            "there is no tokenizer",
        ),
    ],
)
def test_what_is_not_known_is_told(made, makings, settings, told):
    found = foreseen(made, *makings, **settings)
    assert {str(each.unknown).splitlines()[0] for each in found} == {told}
    assert all(each.found is None for each in found)
    assert not [*forecast_stages(found)]


def test_an_unknown_stage_hides_no_other(made):
    """Its reason is printed once, with what to do."""
    stages = [{"name": "one"}, *({"name": name, "shards": "none"} for name in ("two", "three"))]
    printed = dry_run(made, stage=stages).out
    assert "# Memory and hours are not known for two, three:\n#   there are no shards" in printed
    assert printed.count("there are no shards") == 1
    assert "#     fix:      make them first, or name a command that does in [[prepare]]" in printed
    assert row_of(printed, "one")[:3] == ["64", "16", "6"]


def test_gpus_that_cannot_share_a_batch(made):
    stages = [{"name": "one"}, {"name": "two", "global_batch": 3}]
    lines = dry_run(made, "--gpus", "4", "--gpus", "1", stage=stages).out.splitlines()
    assert "# 4 GPUs cannot share the global_batch of two." in lines
    (together,) = (line.split() for line in lines if "together" in line)
    assert together[2:5] == ["12", "21.1K", "1"]  # not with 4
    (short,) = (line for line in lines if line.startswith("# exact:0:two:"))
    assert "1 GPU: " in short
    assert "4 GPUs" not in short
    arms = [{"name": "uniform"}, {"name": "exact", "global_batch": 3}]
    small = {"arm": arms, "study": {"name": "two", "seeds": 1}}
    (stage,) = dry_run(made, "--gpus", "4", "--gpus", "1", "--json", **small).json["stages"]
    assert [on["ranks"] for on in stage["on"]] == [1]  # one arm can be trained on 4, not both


def test_a_base_that_is_trained_on_is_one_run(made):
    """The second step continues the run of the first."""
    path = written(made, prepare=None, train=TRAIN, base=BASE)
    study = read_study(str(path))
    steps = [base_step(study, 0, times) for times in (1, 2)]
    found = forecast_steps(steps, Foreseen(made, []), "h100", [1])
    (stage,) = forecast_stages(found)
    assert (stage.stage, stage.runs) == ("base", 1)
    assert stage.tokens == 2 * 5 * 8 * 64


def test_tokens_are_told_of_a_training_on_a_cpu(made):
    """Of its card nothing is known, but how long its windows will be."""
    later = {"makes": "later", "run": PREPARED["run"].replace("--out poems", "--out later")}
    stages = [{"name": "one", "shards": "later", "steps": 3, "device": "cpu"}]
    printed = dry_run(made, stage=stages, prepare=[later]).out
    assert "# exact:0:one: 6,144 tokens\nexactcpt train " in printed


def test_what_differs_from_the_paper_is_told(made):
    differs = ["windows of 64 tokens"]
    printed = dry_run(made, study={"name": "small", "seeds": 1, "differs": differs}).out
    assert "# What differs from the paper:\n# - windows of 64 tokens\n# 3 steps, 0 done" in printed


@pytest.mark.slow
@pytest.mark.parametrize("model", SIZES_OF)
def test_the_table_of_the_page(model, tmp_path):
    recipe = model.lower()
    (tmp_path / model).mkdir()
    described = json.dumps(SIZES_OF[model] | {"tie_word_embeddings": True})
    (tmp_path / model / "config.json").write_text(described)
    path = tmp_path / f"{recipe}.toml"
    path.write_text((RECIPES / path.name).read_text())
    printed = done("study", path, "--out", tmp_path / "out", "--dry-run").out
    table = printed.partition("What the trainings take on h100:")[2].splitlines()
    page = PAGE.read_text("utf-8")
    rows = page.partition(f"| `{recipe}` |")[2].splitlines()[:3]
    for row, stage in zip(rows, ("4k", "8k", "16k"), strict=True):
        number = next(i for i, line in enumerate(table) if f" {stage}* " in line)
        one, eight = (re.split("  +", line.strip("# "))[-4:] for line in table[number : number + 2])
        cells = [each.strip() for each in row.strip("| ").split("|")]
        assert cells[-6:] == [stage, one[1], eight[1], one[2], eight[2], eight[3]]
    number = next(i for i, line in enumerate(table) if "together" in line)
    assert re.split("  +", table[number].strip())[-1] in page.replace("\n", " ")
