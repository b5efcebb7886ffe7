"""The file of a study: what it may say, and how mistakes are told."""

import tomllib
from pathlib import Path

import pytest
from harness import done
from studies import BASE, small, values, written

from exactcpt.pipeline.cli import run_command
from exactcpt.schemas.errors import UsageError
from exactcpt.training.evaluation.cli import evaluate
from exactcpt.training.study.reading import read_study


def test_a_whole_file(tmp_path):
    study = small(tmp_path, base=BASE)
    assert study.name == "small"
    assert (study.baseline, study.floor, study.seeds) == ("uniform", "matched", (0, 1))
    assert study.prepare[0].run == (("reweigh", "s", "--table-only", "--out", "table.json"),)
    assert study.base is not None
    assert study.base.seeds == (0, 1, 2)
    assert study.base.settings == {"weighting": "uniform", "model": "m", "shards": "s", "steps": 5}
    assert [*study.arms] == ["uniform", "matched", "exact"]
    assert study.arms["exact"].settings == {"weighting": "exact"}
    assert study.evaluate == ("--lengths", "128", "--items", "3")
    assert study.evaluated == ("one",)
    (primary,) = study.primaries
    assert (primary.stage, primary.context, primary.length, primary.margin) == (
        "one", "fixed", None, None,
    )  # fmt: skip


def test_here_is_the_folder_of_the_file(tmp_path):
    mix = {"{here}/a": "0.5", "{here}/b": "0.5"}
    train = {"model": "{here}/m", "mix": mix, "eval": {"a": "{here}/s"}, "steps": 1}
    study = small(tmp_path, train=train, prepare=[{"makes": "x", "run": "pack '{here}/a b'"}])
    here = str(tmp_path.resolve())
    assert study.stages[0].settings["model"] == f"{here}/m"
    assert study.stages[0].settings["eval"] == {"a": f"{here}/s"}
    assert [*study.stages[0].settings["mix"]] == [f"{here}/a", f"{here}/b"]
    assert study.prepare[0].run == (("pack", f"{here}/a b"),)
    assert "{here}/m" in str(study.registered)


def test_a_length_takes_the_place_of_another(tmp_path):
    train = {"model": "m", "shards": "s", "max_tokens": "1K"}
    arms = [{"name": "uniform", "max_tokens": "2K"}, {"name": "exact"}]
    study = small(tmp_path, train=train, base=BASE, arm=arms, study={"name": "x", "seeds": 1})
    assert study.base is not None
    assert study.base.settings.get("max_tokens") is None
    trainings = [study.stages[0].settings_of(arm) for arm in study.arms.values()]
    assert [(each.get("steps"), each.get("max_tokens")) for each in trainings] == [
        (None, 2000), (3, None),
    ]  # fmt: skip


def test_stages_follow_each_other(tmp_path):
    stages = [
        {"name": "a", "steps": 1},
        {"name": "b", "steps": 1},
        {"name": "qa", "steps": 1, "weighting": "uniform", "after": ["a", "b"]},
        {"name": "c", "steps": 1, "after": ["a"]},
    ]
    study = small(tmp_path, stage=stages)
    assert [(stage.name, stage.start) for stage in study.stages] == [
        ("a", None), ("b", "a"), ("qa-after-a", "a"), ("qa-after-b", "b"), ("c", "a"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "found", "where"),
    [
        ({"study": None}, r"\[study\] is missing", ""),
        ({"study": {"name": "x"}}, "seeds is None", "[study]"),
        ({"study": {"name": "x", "seeds": [1, 1]}}, r"seeds is \[1, 1\]", "[study]"),
        ({"study": {"name": "x", "seeds": True}}, "seeds is True", "[study]"),
        ({"study": {"name": "x", "seeds": 1, "base": 1}}, "unknown setting 'base'", "[study]"),
        ({"study": {"name": "x", "seeds": 1, "floor": "y"}}, "floor is 'y'", "[study]"),
        ({"stage": []}, "there is no stage", ""),
        ({"stage": {"name": "a"}}, r"\[stage\] is one table", ""),
        ({"stage": [{"name": "a b"}]}, "name is 'a b'", "[[stage]] a b"),
        ({"stage": [{"name": "base"}]}, "the name 'base' is taken", "[[stage]] base"),
        ({"stage": [{"name": "a", "after": ["b"]}]}, "after has 'b'", "[[stage]] a"),
        ({"stage": [{"name": "a", "stepz": 1}]}, "unknown setting 'stepz'", "[[stage]] a"),
        ({"stage": [{"name": "a", "out": "x"}]}, "the study itself decides out", "[[stage]] a"),
        ({"stage": [{"name": "a", "steps": 0}]}, "steps is 0", "[[stage]] a, [[arm]] uniform"),
        ({"train": {"model": "m"}}, "shards is missing", "[[stage]] one, [[arm]] uniform"),
        ({"train": {"seed": 1}}, "the study itself decides seed", "[train]"),
        ({"train": {"weighting": "exact"}}, "weighting does not belong here", "[train]"),
        (
            {"stage": [{"name": "a", "grad_norm_from": "exact"}]},
            "grad_norm_from does not belong here",
            "[[stage]] a",
        ),
        (
            {"base": {name: BASE[name] for name in ("seeds", "gate")}},
            "neither steps nor max_tokens is given",
            "[base]",
        ),
        ({"arm": [{"name": "uniform"}]}, "1 of the two arms", ""),
        ({"arm": [{"name": "uniform"}, {"name": "x"}]}, "weighting is missing", "[[arm]] x"),
        ({"arm": [{"name": "uniform"}] * 2}, "the name 'uniform' is taken", "[[arm]] uniform"),
        (
            {"arm": [{"name": "uniform"}, {"name": "near", "grad_norm_from": "near"}]},
            "grad_norm_from is 'near'",
            "[[arm]] near",
        ),
        ({"prepare": [{"makes": "runs", "run": "x"}]}, "makes is 'runs'", "[[prepare]] runs"),
        ({"prepare": [{"makes": "a/b", "run": "x"}]}, "makes is 'a/b'", "[[prepare]] a/b"),
        ({"prepare": [{"makes": "a", "run": "x 'y"}]}, "cannot be split", "[[prepare]] a"),
        ({"prepare": [{"makes": "a", "run": ""}]}, "run is empty", "[[prepare]] a"),
        ({"prepare": [{"makes": "a", "run": "exactcpt"}]}, "run is empty", "[[prepare]] a"),
        ({"prepare": [{"makes": "a", "run": []}]}, "run is empty", "[[prepare]] a"),
        ({"prepare": [{"makes": "a", "run": ["x", ""]}]}, "run is empty", "[[prepare]] a"),
        ({"prepare": [{"makes": "a", "run": [1]}]}, r"run is \[1\]", "[[prepare]] a"),
        ({"prepare": [{"makes": "a", "run": "x"}] * 2}, "two commands make a", "[[prepare]] a"),
        ({"prepare": [{"run": "x"}]}, "makes is missing", "[[prepare]] 1"),
        ({"base": BASE | {"wanted": 4}}, "wanted is 4, with 3 candidates", "[base]"),
        ({"base": BASE | {"gate": {"up_to": 1}}}, "gain is missing", "[base.gate]"),
        ({"evaluate": {"after": ["two"]}}, "after has 'two'", "[evaluate]"),
        ({"evaluate": {"item": 3}}, "unknown setting 'item'", "[evaluate]"),
        ({"evaluate": {"items": "many"}}, "'many' is not a valid integer", "[evaluate]"),
        ({"evaluate": {"suite": "buckets"}}, "suite is 'buckets'", "[evaluate]"),
        ({"evaluate": {"lengths": [128, 256]}}, "length is missing", "[[primary]] probe.far"),
    ],
)
def test_mistakes(tmp_path, changes, found, where):
    path = written(tmp_path, **changes)
    with pytest.raises(UsageError, match=found) as caught:
        read_study(str(path))
    assert caught.value.where == (f"{path}, {where}" if where else str(path))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"endpoint": "far"}, "endpoint is 'far'"),
        ({"arm": "x"}, "there is no arm 'x'"),
        ({"against": ["x"]}, "there is no arm 'x'"),
        ({"against": []}, r"against is \[\]"),
        ({"against": ["exact"]}, r"against is \['exact'\]"),
        ({"claim": "less"}, "claim is 'less'"),
        ({"stage": "two"}, "stage is 'two'"),
        ({"length": 64}, "length is 64"),
        ({"claim": "equivalent"}, "margin is missing"),
        ({"lenght": 128}, "unknown setting 'lenght'"),
    ],
)
def test_mistakes_in_an_endpoint(tmp_path, changes, found):
    (primary,) = values()["primary"]
    with pytest.raises(UsageError, match=found):
        small(tmp_path, primary=[primary | changes])


def test_near_has_a_margin(tmp_path):
    (primary,) = values()["primary"]
    more = {"endpoint": "probe.near", "claim": "equivalent"}
    assert small(tmp_path, primary=[primary | more]).primaries[0].margin == 0.05


NATURAL = {"lengths": [128], "tasks": "natural"}


def test_the_context_of_an_endpoint(tmp_path):
    (primary,) = values()["primary"]

    def context(tasks, **changes):
        asked = {"lengths": [128], **({"tasks": tasks} if tasks else {})}
        return small(tmp_path, evaluate=asked, primary=[primary | changes]).primaries[0].context

    assert context(None) == context("number,natural") == "fixed"
    assert context("natural") == context(None, context="document") == "document"
    for tasks, other, expected in (
        ("natural", "fixed", "one that is evaluated: document"),
        ("number", "document", "one that is evaluated: fixed, minimal"),
    ):
        with pytest.raises(UsageError, match=f"context is '{other}'") as caught:
            context(tasks, context=other)
        assert caught.value.expected == expected


def test_a_gate_needs_facts_that_are_placed(tmp_path):
    with pytest.raises(UsageError, match="the gate has no facts to look at") as caught:
        small(tmp_path, base=BASE, evaluate=NATURAL)
    assert str(caught.value.where).endswith(", [base.gate]")
    without = {name: value for name, value in BASE.items() if name != "gate"}
    assert small(tmp_path, base=without, evaluate=NATURAL).base is not None


def test_a_task_that_the_probe_has_not(tmp_path):
    with pytest.raises(UsageError, match="no task is named 'numbers'") as caught:
        small(tmp_path, evaluate={"lengths": [128], "tasks": "numbers"})
    assert str(caught.value.where).endswith(", [evaluate]")


def test_an_unknown_section(tmp_path):
    with pytest.raises(UsageError, match="unknown setting 'arms'") as caught:
        small(tmp_path, arms=[])
    assert caught.value.fix == "did you mean 'arm'?"


def test_the_file_of_the_page_is_a_study(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "study.md").read_text("utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    assert tomllib.loads(text)
    path = tmp_path / "study.toml"
    path.write_text(text)
    study = read_study(str(path))
    assert [*study.arms] == ["uniform", "matched", "exact", "dose-1"]
    assert [primary.claim for primary in study.primaries] == ["greater", "equivalent"]


RECIPES = sorted((Path(__file__).parents[3] / "training" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_a_study(path, tmp_path, capfd):
    assert run_command(["study", str(path), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capfd.readouterr().out
    assert "\nexactcpt train " in printed
    assert read_study(str(path)).primaries


def test_reading_a_study_changes_no_command(tmp_path, monkeypatch):
    """A command remembers how it was parsed first, and a study parses one without its program."""
    monkeypatch.setattr(evaluate, "_help_option", None, raising=False)
    small(tmp_path)
    assert "-h, --help" in done("evaluate", "--help").out


def test_a_model_of_the_hub_is_named_by_its_commit(tmp_path):
    pinned = f"acme/tiny@{'0' * 40}"
    made = [{"makes": "world", "run": "init-model world/tiny"}]
    for model, prepare in ((pinned, None), ("world/tiny", made), ("a/b/c", None)):
        study = small(tmp_path, train={"model": model, "shards": "s"}, prepare=prepare)
        assert study.stages[0].settings["model"] == model
    for model in ("acme/tiny", "acme/tiny@main", "world/tiny"):
        with pytest.raises(UsageError) as caught:
            small(tmp_path, train={"model": model, "shards": "s"})
        assert caught.value.found == f"model is {model!r}, which may mean other weights tomorrow"
