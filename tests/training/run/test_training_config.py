from dataclasses import fields

import pytest

from exactcpt.schemas.errors import UsageError
from exactcpt.training.cli import HELP
from exactcpt.training.config import SETTINGS, TrainConfig, parse_evals, read_settings

NEEDED = {"shards": "s", "model": "m", "out": "o"}


def config(**settings) -> TrainConfig:
    return TrainConfig(**(NEEDED | settings))


def test_defaults_are_allowed():
    assert config().denominator == "targets"


def test_every_setting_has_a_flag():
    assert {f.name for f in fields(TrainConfig)} == HELP.keys() | {"eval"}


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"seed": 1 << 64}, "seed is 18,446,744,073,709,551,616"),
        ({"beta2": 1.0}, "beta2 is 1.0"),
        ({"keep": 0}, "keep is 0"),
        ({"steps": 3, "max_tokens": 4}, "both steps and max_tokens are given"),
        ({"weighting": "table"}, "weighting is 'table', but there is no weight_table"),
        *(
            (
                {"weighting": name, "weight_table": "t"},
                f"weighting is {name!r}, weight_table is 't'",
            )
            for name in ("exact", "uniform", "tail_flat")
        ),
        ({"global_batch": 6, "micro_batch": 4}, "global_batch is 6, micro_batch is 4"),
    ],
)
def test_what_is_not_allowed(settings, found):
    with pytest.raises(UsageError) as caught:
        config(**settings)
    assert caught.value.found == found
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["table", "matched", "document", "near", "shuffled"])
def test_weightings_that_take_a_table(name):
    assert config(weighting=name, weight_table="t.json").recorded()["weight_table"] == "t.json"


def test_a_global_batch_that_ranks_cannot_share():
    config(global_batch=12, micro_batch=2).check_world(3)
    with pytest.raises(UsageError) as caught:
        config(global_batch=12, micro_batch=2).check_world(4)
    assert str(caught.value) == (
        "global_batch is 12, with micro_batch 2 on 4 ranks\n  expected: a multiple of 4 x 2 = 8"
    )


def write(tmp_path, text: str) -> str:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return str(path)


def test_a_file(tmp_path):
    text = """
        weighting = "uniform"
        max_tokens = "10B"
        learning_rate = 1
        compile = true
        rope_theta = 1e6
        eval = { books = "a", code = "b" }
    """
    assert read_settings(write(tmp_path, text)) == {
        "weighting": "uniform",
        "max_tokens": 10**10,
        "learning_rate": 1.0,
        "compile": True,
        "rope_theta": 1e6,
        "eval": {"books": "a", "code": "b"},
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("learning_rat = 1", "unknown setting 'learning_rat'"),
        ("weighting = 'heavy'", "weighting is 'heavy'"),
        ("steps = 1.5", "steps is 1.5"),
        ("steps = true", "steps is True"),
        ("compile = 1", "compile is 1"),
        ("learning_rate = 'high'", "learning_rate is 'high'"),
        ("max_tokens = '10 bytes'", "max_tokens: '10 bytes' is not a size such as"),
        ("eval = { a = 1 }", "eval is {'a': 1}"),
        ("eval = ['a']", "eval is ['a']"),
        ("steps =", "the configuration is not valid TOML"),
    ],
)
def test_a_file_with_mistakes(tmp_path, text, found):
    with pytest.raises(UsageError) as caught:
        read_settings(write(tmp_path, text))
    assert caught.value.found.startswith(found)
    assert caught.value.where == str(tmp_path / "run.toml")


def test_a_setting_that_was_meant(tmp_path):
    with pytest.raises(UsageError) as caught:
        read_settings(write(tmp_path, "learning_rat = 1"))
    assert caught.value.fix == "did you mean 'learning_rate'?"


def test_no_file(tmp_path):
    with pytest.raises(UsageError, match="cannot read the configuration"):
        read_settings(str(tmp_path / "none.toml"))


def test_evals():
    assert parse_evals(("books=a=b", "code=c")) == {"books": "a=b", "code": "c"}
    for texts in (("books",), ("=a",), ("a=1", "a=2")):
        with pytest.raises(UsageError):
            parse_evals(texts)


def test_settings_are_recorded_as_json_has_them():
    assert set(config(eval={"a": "b"}).recorded()) == set(SETTINGS)
    assert config(eval={"a": "b"}).recorded()["eval"] == {"a": "b"}
