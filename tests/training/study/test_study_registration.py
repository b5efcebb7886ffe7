"""What is registered before the first step cannot be changed afterwards."""

import hashlib
import json

import pytest
from studies import BASE, small, values, written

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.study.reading import read_study
from exactcpt.training.study.registration import changed_since, check_registered, register


def registered(tmp_path, **changes):
    path = written(tmp_path, **changes)
    return register(read_study(str(path)), path, tmp_path / "out")


def test_what_is_registered(tmp_path):
    record = registered(tmp_path, base=BASE)
    path = tmp_path / "out" / "registered.json"
    assert json.loads(path.read_text()) == record
    assert record["sha256"] == hashlib.sha256((tmp_path / "study.toml").read_bytes()).hexdigest()
    assert record["registered"]["primary"] == [values()["primary"][0] | {"stage": "one"}]
    assert record["registered"]["evaluate"] == values()["evaluate"]
    assert record["registered"]["base"]["gate"]["gain"] == 1.0
    assert {*record["free"]} == {"study", "evaluate"}
    assert record["date"].endswith("Z")
    again = registered(tmp_path, base=BASE)
    assert again == record


def test_nothing_is_registered_before(tmp_path):
    assert check_registered(small(tmp_path), tmp_path / "out") is None


CHANGES = [
    ({"study": {"name": "small", "seeds": 3, "floor": "matched"}}, "study.seeds: 2 before, 3 now"),
    ({"study": {"name": "small", "seeds": 2}}, 'study.floor: "matched" before, nothing now'),
    ({"train": {"model": "n", "shards": "s"}}, 'train.model: "m" before, "n" now'),
    ({"stage": [{"name": "one", "steps": 4}]}, "stage[1 one].steps: 3 before, 4 now"),
    ({"base": BASE}, "base.gate.gain: nothing before, 1.0 now"),
    (
        {"arm": [*values()["arm"], {"name": "near"}]},
        'arm[4 near].name: nothing before, "near" now',
    ),
    ({"primary": None}, 'primary[1 probe.far].arm: "exact" before, nothing now'),
    (
        {"primary": [values()["primary"][0] | {"against": ["matched"]}]},
        'primary[1 probe.far].against: ["uniform"] before, ["matched"] now',
    ),
    ({"evaluate": {"lengths": [128], "items": 4}}, "evaluate.items: 3 before, 4 now"),
    ({"evaluate": {"lengths": [256], "items": 3}}, "evaluate.lengths: [128] before, [256] now"),
    (
        {"evaluate": values()["evaluate"] | {"seed": 1}},
        "evaluate.seed: nothing before, 1 now",
    ),
    ({"prepare": []}, 'prepare[1 table.json].makes: "table.json" before, nothing now'),
]


@pytest.mark.parametrize(("changes", "line"), CHANGES)
def test_a_change_is_refused(tmp_path, changes, line):
    registered(tmp_path)
    with pytest.raises(UsageError) as caught:
        registered(tmp_path, **changes)
    assert line in caught.value.found
    assert caught.value.where == str(tmp_path / "out" / "registered.json")


def test_what_may_change_is_told(tmp_path):
    registered(tmp_path)
    free = {"evaluate": values()["evaluate"] | {"suite": "probe,buckets", "batch_tokens": 4096},
            "study": values()["study"] | {"name": "other"}}  # fmt: skip
    record = registered(tmp_path, **free)
    assert changed_since(small(tmp_path, **free), record) == ["study", "evaluate"]
    assert changed_since(small(tmp_path), record) == []


def test_another_stage_after_which_is_evaluated_moves_no_endpoint(tmp_path):
    """The stage of an endpoint is the last that is evaluated, unless it is given."""
    stages = [{"name": "one", "steps": 3}, {"name": "two", "steps": 3}]
    after_one = values()["evaluate"] | {"after": ["one"]}
    registered(tmp_path, stage=stages, evaluate=after_one)
    with pytest.raises(UsageError, match='stage: "one" before, "two" now'):
        registered(tmp_path, stage=stages, evaluate=values()["evaluate"])
    given = [values()["primary"][0] | {"stage": "one"}]
    registered(tmp_path, stage=stages, evaluate=values()["evaluate"], primary=given)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "exactcpt study registration"}'])
def test_a_damaged_registration(tmp_path, text):
    registered(tmp_path)
    (tmp_path / "out" / "registered.json").write_text(text)
    with pytest.raises(FormatError, match="the registration of the study cannot be read"):
        registered(tmp_path)
