from dataclasses import fields

import pytest
from harness import done

from exactcpt.schemas.errors import UsageError
from exactcpt.training.cli import HELP
from exactcpt.training.config import SETTINGS, TrainConfig, parse_evals, parse_shards, read_settings

NEEDED = {"shards": "s", "model": "m", "out": "o"}


def config(**settings) -> TrainConfig:
    return TrainConfig(**(NEEDED | settings))


def test_defaults_are_allowed():
    assert config().denominator == "targets"


def test_every_setting_has_a_flag():
    assert {f.name for f in fields(TrainConfig)} == HELP.keys() | {"eval", "mix"}


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


def test_shards_alone_and_in_a_mix():
    assert parse_shards(("a=0.5",)) == {"shards": "a=0.5", "mix": None}  # a folder of that name
    mix = {"a": "0.7", "b=c": "0.3"}
    assert parse_shards(("a=0.7", "b=c=0.3")) == {"shards": "a", "mix": mix}


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (("a", "b=0.3"), "--shards 'a' has no share"),
        (("a=", "b=1"), "--shards 'a=' has no share"),
        (("a=0.5", "a=0.5"), "two --shards name a"),
    ],
)
def test_mixes_that_are_not_understood(texts, found):
    with pytest.raises(UsageError) as caught:
        parse_shards(texts)
    assert caught.value.found == found


@pytest.mark.parametrize(
    ("mix", "found"),
    [
        ({"s": "0.7", "b": "0.2"}, "the shares of the mix add up to 0.9"),
        ({"s": "0.7", "b": "1/3"}, "the share of b is '1/3'"),
        ({"s": "0.99999", "b": "0.00001"}, "the share of s is '0.99999'"),
        ({"s": "1.0", "b": "0.0"}, "the share of s is '1.0'"),
        ({"s": "0.0", "b": ".5"}, "the share of s is '0.0'"),
        ({"s": "0.7"}, "the mix is of s; shards is s"),
        ({"b": "0.7", "s": "0.3"}, "the mix is of b, s; shards is s"),
    ],
)
def test_mixes_that_are_not_allowed(mix, found):
    with pytest.raises(UsageError) as caught:
        config(mix=mix, steps=1)
    assert caught.value.found == found


def test_a_mix_has_no_epoch():
    with pytest.raises(UsageError, match="a mix has no epoch"):
        config(mix={"s": "0.7", "b": "0.3"})


def test_a_mix_in_a_file_and_on_the_command_line(tmp_path):
    path = write(tmp_path, 'mix = { "a" = "0.7", "b" = "0.3" }\nsteps = 1')
    assert read_settings(path)["shards"] == "a"
    flags = ["--model", "m", "--out", "o", "--steps", "1", "--print-config"]
    said = done("train", "--shards", "a=0.7", "--shards", "b=0.3", *flags).out
    again = done("train", "--config", write(tmp_path, said), *flags).out
    assert said == again
    assert 'shards = "a"' in said
    assert "mix" in said
    assert "mix" not in done("train", "--config", path, "--shards", "c", *flags).out


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
