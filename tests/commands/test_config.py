"""Settings from flags and TOML: sizes, sources, ranges, and what is said about mistakes."""

import math
from contextlib import suppress
from dataclasses import FrozenInstanceError, asdict, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exactcpt.pipeline.config import (
    KINDS,
    SETTINGS,
    PackConfig,
    SourceConfig,
    TokenizeConfig,
    parse_mixing,
    parse_source,
    read_settings,
    source_of_table,
)
from exactcpt.schemas.errors import UsageError
from exactcpt.schemas.sizes import parse_size

DOCS = SourceConfig(name="docs", pattern="docs.jsonl")
REQUIRED = {"sources": (DOCS,), "tokenizer": "tokenizer.json"}


def written(folder: Path, text: str) -> str:
    path = folder / "job.toml"
    path.write_text(text, "utf-8")
    return str(path)


# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("8k", 8000),
        ("8K", 8000),
        ("256M", 256_000_000),
        ("10B", 10_000_000_000),
        ("1.5T", 1_500_000_000_000),
        ("2GB", 2_000_000_000),
        ("3kB", 3000),
        ("32MiB", 32 << 20),
        ("0.5GiB", 1 << 29),
        ("1,000", 1000),
        ("1_000", 1000),
        (" 7 ", 7),
        ("0", 0),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        "4096x",
        "4 096 kb x",
        "-1",
        "1e3",
        "1/2k",
        "1/0",
        "nan",
        "inf",
        "0x10",
        "--5",
        "²",
        "1.2.3",
        "MiB",
        "9" * 400,
        "1e999999999",
    ],
)
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="is not a size such as 4096, 256M, 10B or 32MiB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["1.5", "0.0001k", "1.1KiB"])
def test_parts_of_a_token_are_refused(text):
    with pytest.raises(ValueError, match="is not a whole number"):
        parse_size(text)


UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12, "KiB": 2**10}
UNITS |= {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@given(st.integers(0, 10**9), st.integers(0, 3), st.sampled_from(sorted(UNITS)))
def test_sizes_are_exact(mantissa, places, unit):
    exact = Fraction(mantissa, 10**places) * UNITS[unit]
    text = (
        f"{mantissa // 10**places}.{mantissa % 10**places:0{places}d}" if places else f"{mantissa}"
    )
    if exact.denominator == 1:
        assert parse_size(text + unit) == exact
    else:
        with pytest.raises(ValueError, match="whole number"):
            parse_size(text + unit)


@given(st.text() | st.text(alphabet="0123456789.,_-+/eEkKmMiIbBgGtT²٣½ "))
@example("²")
@example("½k")
@example("٣")
def test_a_size_is_a_count_or_a_value_error(text):
    with suppress(ValueError):
        assert parse_size(text) >= 0


# Sources


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("books=b.jsonl", {"name": "books", "pattern": "b.jsonl"}),
        ("b=x/*.jsonl,epochs=0.5", {"name": "b", "pattern": "x/*.jsonl", "epochs": 0.5}),
        ("b=x,share=0.25", {"name": "b", "pattern": "x", "share": 0.25}),
        (
            "b=s3://bucket/a,text=body,id=key,format=parquet",
            {
                "name": "b",
                "pattern": "s3://bucket/a",
                "text": "body",
                "id": "key",
                "format": "parquet",
            },
        ),
        ("b=x,split=test", {"name": "b", "pattern": "x", "split": "test"}),
        ("b=x,tokens=ids", {"name": "b", "pattern": "x", "tokens": "ids"}),
        ("b=a,b.jsonl", {"name": "b", "pattern": "a,b.jsonl"}),
        ("b=a,b.jsonl,id=key", {"name": "b", "pattern": "a,b.jsonl", "id": "key"}),
        ("b=x=y.jsonl", {"name": "b", "pattern": "x=y.jsonl"}),
        ("b=/d/year=2020/a.jsonl", {"name": "b", "pattern": "/d/year=2020/a.jsonl"}),
        (
            "b=org/name@abc:config:train,format=hub",
            {"name": "b", "pattern": "org/name@abc:config:train", "format": "hub"},
        ),
        ("b.jsonl", {"name": "b", "pattern": "b.jsonl"}),
        ("x/b.jsonl.gz,epochs=2", {"name": "b", "pattern": "x/b.jsonl.gz", "epochs": 2.0}),
        ("x/a,b.jsonl,id=key", {"name": "a-b", "pattern": "x/a,b.jsonl", "id": "key"}),
        ("x/lang=en/*.parquet", {"name": "lang-en", "pattern": "x/lang=en/*.parquet"}),
        ("org/b:c,format=hub", {"name": "b", "pattern": "org/b:c", "format": "hub"}),
    ],
)
def test_source_flags(flag, expected):
    assert parse_source(flag) == SourceConfig(**expected)


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("", "has no pattern"),
        (",epochs=2", "has no pattern"),
        ("*/**", "nothing in '*/**' can name the source"),
        ("books=", "has no pattern"),
        ("=x", "source name ''"),
        ("b=x,epoch=2", "did you mean 'epochs'"),
        ("b=x,color=2", "unknown option 'color'"),
        ("b=x,text=t,oops", "'oops' is not an option"),
        ("b=x,epochs=two", "epochs is 'two'"),
        ("b=x,epochs=-1", "epochs is -1"),
        ("b=x,epochs=nan", "epochs is nan"),
        ("b=x,epochs=1001", "0 to 1,000"),
        ("b=x,share=1.5", "0 to 1"),
        ("b=x,share=0.5,epochs=1", "both epochs and share"),
        ("b=x,text=", "source 'b': text names no field"),
        ("b=x,id=", "source 'b': id names no field"),
        ("b=x,tokens=", "expected: tokens=FIELD"),
        ("b=x,text=id", "uses field 'id' both as id and as document"),
        ("b=x,format=xls", "source 'b': format is 'xls'"),
        ("b=x,split=", "source 'b': split names no split"),
    ],
)
def test_source_flags_that_are_wrong(flag, says):
    with pytest.raises(UsageError) as caught:
        parse_source(flag)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("epochs", "shares", "expected"),
    [
        ([], [], {}),
        (["a=2"], ["b=0.5"], {"a": {"epochs": 2.0}, "b": {"share": 0.5}}),
        (["a=0"], [], {"a": {"epochs": 0.0}}),
    ],
)
def test_mixing_flags(epochs, shares, expected):
    assert parse_mixing(epochs, shares) == expected


@pytest.mark.parametrize(
    ("epochs", "shares", "says"),
    [
        (["a"], [], "expected: NAME=X"),
        (["a=x"], [], "a number"),
        (["a=-1"], [], "0 to 1,000"),
        ([], ["a=2"], "0 to 1"),
        (["a=1", "a=2"], [], "--epochs and --share name source 'a' twice"),
        (["a=1"], ["a=0.5"], "--epochs and --share name source 'a' twice"),
    ],
)
def test_mixing_flags_that_are_wrong(epochs, shares, says):
    with pytest.raises(UsageError) as caught:
        parse_mixing(epochs, shares)
    assert says in " ".join(str(caught.value).split())


# Ranges

OUT_OF_RANGE = [
    (TokenizeConfig, {"min_tokens": 0}, "at least 1"),
    (TokenizeConfig, {"split_bytes": 999}, "1,000 to "),
    (TokenizeConfig, {"max_rejected": 1.5}, "0 to 1"),
    (TokenizeConfig, {"max_rejected": math.nan}, "0 to 1"),
    (TokenizeConfig, {"max_record_bytes": 0}, "1 to 2,147,483,647"),
    (TokenizeConfig, {"max_record_bytes": 1 << 31}, "1 to 2,147,483,647"),
    (PackConfig, {"window": 1}, "2 to "),
    (PackConfig, {"window": (1 << 24) + 1}, "2 to 16,777,216"),
    (PackConfig, {"window": 64, "tau": 64}, "0 to 63"),
    (PackConfig, {"tau": -1}, "0 to 8,191"),
    (PackConfig, {"alpha": -0.1}, "0 to "),
    (PackConfig, {"alpha": math.inf}, "0 to "),
    (PackConfig, {"alpha": math.nan}, "0 to "),
    (PackConfig, {"gamma": -1.0}, "0 to "),
    (PackConfig, {"epsilon": -1e-9}, "0 to "),
    (PackConfig, {"max_weight": 0.5}, "1 to "),
    (PackConfig, {"validation_fraction": 1.0}, "0 to 0.999"),
    (PackConfig, {"token_budget": 0}, "at least 1"),
    (PackConfig, {"group_tokens": 0}, "1 to "),
    (PackConfig, {"shard_bytes": 0}, "1 to "),
    (PackConfig, {"seed": -1}, "0 to "),
    (PackConfig, {"seed": 1 << 64}, "0 to "),
]


@pytest.mark.parametrize(("kind", "setting", "expected"), OUT_OF_RANGE)
def test_settings_out_of_range_are_named_with_their_range(kind, setting, expected):
    required = REQUIRED if kind is TokenizeConfig else {}
    with pytest.raises(UsageError) as caught:
        kind(**required, **setting)
    name = list(setting)[-1]
    assert name in str(caught.value)
    assert f"expected: {expected}" in " ".join(str(caught.value).split())


@pytest.mark.parametrize(
    "settings",
    [
        {"window": 2, "tau": 0},
        {"window": 1 << 20, "tau": (1 << 20) - 1},
        {"alpha": 0, "gamma": 0, "epsilon": 0},
        {"alpha": 0.5, "max_weight": 1.5},
        {"seed": (1 << 64) - 1},
        {"validation_fraction": 0},
    ],
)
def test_settings_at_the_ends_of_their_ranges(settings):
    assert PackConfig(**settings)


def test_a_budget_that_the_ceiling_leaves_no_room_for():
    with pytest.raises(UsageError, match=r"alpha 0\.5 is more than max_weight 1\.2 allows"):
        PackConfig(alpha=0.5, max_weight=1.2)


def test_shares_need_a_budget_and_add_up_to_at_most_one():
    mixing = {"a": {"share": 0.7}, "b": {"share": 0.3}, "c": {"epochs": 2}}
    with pytest.raises(UsageError, match="token budget"):
        PackConfig(mixing=mixing)
    assert PackConfig(mixing=mixing, token_budget=1)
    with pytest.raises(UsageError, match=r"add up to 1\.1"):
        PackConfig(mixing={**mixing, "d": {"share": 0.1}}, token_budget=1)


def test_sources_have_names_of_their_own():
    with pytest.raises(UsageError, match="two sources have the name 'docs'") as caught:
        TokenizeConfig(sources=(DOCS, DOCS), tokenizer="t")
    assert caught.value.where == "docs.jsonl and docs.jsonl"
    with pytest.raises(UsageError, match="no source is given"):
        TokenizeConfig(sources=(), tokenizer="t")


def test_the_tail_begins_at_a_quarter_of_the_window():
    assert [PackConfig(window=w).tail_start for w in (4096, 8192, 6)] == [1024, 2048, 1]
    assert PackConfig(window=4096, tau=0).tail_start == 0


def test_configurations_are_frozen():
    with pytest.raises(FrozenInstanceError):
        PackConfig().window = 1  # type: ignore[misc]


# TOML


def test_a_file_says_what_flags_say(tmp_path):
    path = written(
        tmp_path,
        """
        tokenizer = "t.json"
        window = "4k"
        tau = 512
        alpha = 1
        bos = false
        dedup = "exact"
        token_budget = "10B"
        workers = 3
        beam_args = ["--streaming"]
        out = "shards"
        [[source]]
        name = "books"
        pattern = "b/*.jsonl"
        epochs = 2
        [[source]]
        name = "web"
        pattern = "w"
        share = 0.5
        """,
    )
    found = read_settings(path)
    tables = found.pop("source")
    assert found == {
        "tokenizer": "t.json",
        "window": 4000,
        "tau": 512,
        "alpha": 1.0,
        "bos": False,
        "dedup": "exact",
        "token_budget": 10**10,
        "workers": 3,
        "beam_args": ["--streaming"],
        "out": "shards",
    }
    assert isinstance(found["alpha"], float)
    assert [SourceConfig(**table) for table in tables] == [
        parse_source("books=b/*.jsonl,epochs=2"),
        parse_source("web=w,share=0.5"),
    ]


def test_a_source_table_without_a_name_has_its_files():
    assert source_of_table({"pattern": "b/*.jsonl"}) == parse_source("b/*.jsonl")
    with pytest.raises(UsageError, match="pattern is 3"):
        source_of_table({"pattern": 3})


def test_every_setting_may_be_in_a_file(tmp_path):
    """At its default: so the types that a file may have are those of the settings."""
    import tomli_w

    defaults: dict[str, Any] = {
        **asdict(PackConfig(tau=5, max_weight=2.0, token_budget=7)),
        **asdict(TokenizeConfig(**REQUIRED, bos=True, eos_token="x")),
    }
    values = {name: defaults[name] for name in SETTINGS}
    assert read_settings(written(tmp_path, tomli_w.dumps(values))) == values


def test_every_choice_is_one_of_its_setting():
    for name, setting in SETTINGS.items():
        if KINDS[name].choices:
            assert setting.default in KINDS[name].choices


def test_settings_are_the_fields_of_the_configurations():
    names = {f.name for kind in (TokenizeConfig, PackConfig) for f in fields(kind)}
    assert set(SETTINGS) == names - {"sources", "mixing"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "windw = 4096",
            "unknown setting 'windw'\n",
        ),
        ("windw = 4096", "did you mean 'window'?"),
        ("max-rejected = 0.5", "did you mean 'max_rejected'?"),
        ("window = 4096.0", "a whole number"),
        ('window = "big"', "not a size such as"),
        ("window = true", "a whole number"),
        ('seed = "1"', "a whole number"),
        ('alpha = "0.15"', "a number"),
        ("alpha = true", "a number"),
        ("bos = 1", "true or false"),
        ("tokenizer = 5", "a string"),
        ('packing = "bestfit"', "concat or best_fit"),
        ("packing = 3", "concat or best_fit"),
        ("packing = []", "concat or best_fit"),
        ('worker_type = "fibers"', "threads or processes"),
        ("workers = 0", "1 to 1,024"),
        ("workers = 5000", "1 to 1,024"),
        ('workers = "all"', "a whole number"),
        ("out = 5", "a string"),
        ("beam_args = '--x'", "a list of strings"),
        ("beam_args = [1]", "beam_args is [1]\n"),
        ("epochs = 'a=1'", "a list of strings"),
        ("epochs = [2]", "epochs is [2]\n"),
        ("source = 5", "[[source]]"),
        ("source = ['a=b']", "[[source]]"),
        ("[source]\nname = 'a'", "[[source]]"),
        ("[[source]]\nname = 'a'", "lacks 'pattern'"),
        ("[[source]]\nname = 'a'\npattern = 'b'\nepoch = 2", "has unknown option 'epoch'"),
        ("window = ", "not valid TOML"),
        ("quiet = true", "unknown setting 'quiet'"),
    ],
)
def test_files_that_are_wrong(tmp_path, text, says):
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_settings(path)
    assert says in str(caught.value) + "\n"
    assert path in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        {"epochs": "0.5"},
        {"epochs": True},
        {"share": [1]},
        {"text": True},
        {"text": 3},
        {"format": "xls"},
        {"format": 3},
        {"split": 3},
        {"tokens": 3},
        {"pattern": 3},
        {"name": 3},
        {"name": ""},
        {"pattern": ""},
    ],
)
def test_source_tables_that_are_wrong(table):
    with pytest.raises(UsageError):
        SourceConfig(**{"name": "a", "pattern": "b", **table})


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match="cannot read the configuration") as caught:
        read_settings(str(tmp_path / "none.toml"))
    assert caught.value.where == str(tmp_path / "none.toml")
    assert caught.value.expected == "a TOML file with settings"
    with pytest.raises(UsageError, match="cannot read the configuration"):
        read_settings(str(tmp_path))


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "job.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not valid TOML") as caught:
        read_settings(str(tmp_path / "job.toml"))
    assert caught.value.fix == "correct the file; --print-config prints a valid one"
