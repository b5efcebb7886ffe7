"""The steps of a study: their commands, what they need, and how bases are chosen."""

import shlex
from itertools import pairwise

import click
import pytest
from studies import BASE, recorded, small

from exactcpt.training.cli import train
from exactcpt.training.config import parse_shards
from exactcpt.training.evaluation.cli import evaluate
from exactcpt.training.study.commands import shown
from exactcpt.training.study.plan import Plan, make_plan
from exactcpt.training.study.records import Record

DONE = Record(status="done")


def plan_of(folder, records=None, *, hoped=True, **changes) -> Plan:
    return make_plan(small(folder, **changes), recorded(records or {}), hoped=hoped)


def commands(plan: Plan) -> dict[str, list[str]]:
    return {step.name: [*map(shown, step.commands)] for step in plan.steps}


def flags(command: str) -> dict[str, str]:
    words = shlex.split(command)
    return {word: value for word, value in pairwise(words) if word.startswith("--")}


def test_without_a_base(tmp_path):
    plan = plan_of(tmp_path, study={"name": "x", "seeds": [3]})
    found = commands(plan)
    assert [*found] == ["prepare:table.json", "uniform:3:one", "matched:3:one", "exact:3:one"]
    assert found["exact:3:one"] == [
        "exactcpt train --shards s --model m --out runs/one/3/exact --weighting exact --arm exact"
        " --seed 3 --steps 3",
        "exactcpt evaluate runs/one/3/exact --lengths 128 --items 3",
    ]
    assert all(step.needs == ("prepare:table.json",) for step in plan.steps[1:])


def test_a_mix_of_sets_is_one_flag_for_each(tmp_path):
    stage = {"name": "one", "steps": 3, "mix": {"a": "0.7", "b=c": "0.3"}}
    words = plan_of(tmp_path, stage=[stage], primary=[]).cells[0].step.commands[0]
    training = click.Context(train)
    train.parse_args(training, [*words[1:]])
    assert parse_shards(training.params["shards"]) == {"shards": "a", "mix": stage["mix"]}


def test_commands_are_those_of_exactcpt(tmp_path):
    """The flags are parsed as what was meant, whatever the type of a setting."""
    settings = {"name": "one", "max_tokens": "1K", "compile": True, "tensorboard": False,
                "eval": {"a b": "c"}, "learning_rate": 1e-05, "shards": "it's"}  # fmt: skip
    plan = plan_of(tmp_path, stage=[settings], evaluate={"lengths": [128, 256], "tasks": "number"},
                   primary=[])  # fmt: skip
    training, evaluation = (click.Context(train), click.Context(evaluate))
    words = plan.cells[0].step.commands
    train.parse_args(training, [*words[0][1:]])
    assert training.params["max_tokens"] == 1000
    assert training.params["compile"] is True
    assert training.params["tensorboard"] is False
    assert training.params["eval"] == ("a b=c",)
    assert training.params["learning_rate"] == 1e-05
    assert training.params["shards"] == ("it's",)
    evaluate.parse_args(evaluation, [*words[1][1:]])
    assert evaluation.params["lengths"] == (128, 256)


def test_arms_override_stages_and_stages_the_rest(tmp_path):
    arms = [{"name": "uniform"}, {"name": "lr", "weighting": "uniform", "learning_rate": 0.3}]
    stages = [
        {"name": "a", "learning_rate": 0.2},
        {"name": "qa", "weighting": "uniform", "learning_rate": 0.4},
    ]
    train_ = {"model": "m", "shards": "s", "learning_rate": 0.1, "steps": 1}
    found = commands(
        plan_of(
            tmp_path,
            arm=arms,
            stage=stages,
            train=train_,
            primary=[],
            study={"name": "x", "seeds": 1},
        )
    )
    rates = {name: flags(all_[0])["--learning-rate"] for name, all_ in found.items() if "0" in name}
    assert rates == {"uniform:0:a": "0.2", "lr:0:a": "0.3", "uniform:0:qa": "0.4", "lr:0:qa": "0.4"}
    assert flags(found["lr:0:qa"][0])["--init-from"] == "runs/a/0/lr"


def test_norms_are_of_the_same_pair(tmp_path):
    arms = [
        {"name": "gradnorm", "weighting": "uniform", "grad_norm_from": "exact"},
        {"name": "uniform"},
        {"name": "exact"},
    ]
    plan = plan_of(tmp_path, arm=arms, base=BASE, study={"name": "x", "seeds": [7]})
    step = next(step for step in plan.steps if step.name == "gradnorm:0.7:one")
    assert flags(shown(step.commands[0]))["--grad-norm-from"] == "runs/one/0.7/exact"
    assert step.needs == ("base:0", "exact:0.7:one")
    names = [step.name for step in plan.steps]
    assert names.index("exact:0.7:one") < names.index("gradnorm:0.7:one")


def test_every_step_stands_after_what_it_needs(tmp_path):
    stages = [{"name": "a", "steps": 1}, {"name": "b", "steps": 1}]
    plan = plan_of(tmp_path, base=BASE | {"wanted": 2}, stage=stages)
    seen: set[str] = set()
    for step in plan.steps:
        assert seen.issuperset(step.needs), step.name
        assert step.name not in seen
        seen.add(step.name)
    assert len({step.place for step in plan.steps}) == len(plan.steps)


def gained(gain: float) -> Record:
    return Record(status="done", gain=gain)


@pytest.mark.parametrize(
    ("records", "candidates"),
    [
        ({}, [(0, 1, None)]),
        ({"base:0": gained(1.0)}, [(0, 1, True)]),
        ({"base:0": gained(0.99)}, [(0, 2, None)]),
        ({"base:0": gained(0.5), "base:0:2": gained(1.5)}, [(0, 2, True)]),
        ({"base:0": gained(0.5), "base:0:2": gained(0.5)}, [(0, 2, False), (1, 1, None)]),
        ({"base:0": Record(status="failed", reason="x")}, [(0, 1, False), (1, 1, None)]),
        (
            {f"base:{seed}{times}": gained(0) for seed in range(3) for times in ("", ":2")},
            [(0, 2, False), (1, 2, False), (2, 2, False)],
        ),
    ],
)
def test_candidates(tmp_path, records, candidates):
    plan = plan_of(tmp_path, records, hoped=False, base=BASE)
    assert plan.candidates is not None
    assert [(each.seed, each.times, each.passed) for each in plan.candidates] == candidates
    passed = [each.seed for each in plan.candidates if each.passed]
    assert {cell.pair.base for cell in plan.cells} == {*passed}


def test_a_base_that_was_extended(tmp_path):
    records = {"base:0": gained(0.5), "base:0:2": gained(1.5)}
    plan = plan_of(tmp_path, records, base=BASE)
    steps = {step.name: step for step in plan.steps}
    assert flags(shown(steps["base:0"].commands[0]))["--steps"] == "5"
    assert flags(shown(steps["base:0:2"].commands[0]))["--steps"] == "10"
    assert steps["base:0"].makes == steps["base:0:2"].makes == "runs/base/0"
    assert steps["base:0:2"].needs == ("base:0",)
    assert steps["exact:0.1:one"].needs == ("base:0:2",)


def test_only_so_many_candidates_are_tried_as_may_be_needed(tmp_path):
    base = BASE | {"wanted": 2, "seeds": 4}
    tried = [
        {"base:0": gained(2)},
        {"base:1": gained(2)},
        {"base:0": gained(2), "base:1": gained(2)},
        {"base:0": gained(0), "base:0:2": gained(0), "base:1": gained(2)},
    ]
    seeds = []
    for records in tried:
        found = plan_of(tmp_path, records, base=base).candidates
        assert found is not None
        seeds.append([each.seed for each in found])
    assert seeds == [[0, 1], [0, 1], [0, 1], [0, 1, 2]]
