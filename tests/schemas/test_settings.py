"""Kinds of settings from type hints, and values of files checked against them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional, TypedDict

import pytest

from exactcpt.schemas.errors import UsageError
from exactcpt.schemas.settings import Kind, Size, check_range, kinds, read_toml, typed


@dataclass(frozen=True, kw_only=True)
class Settings:
    out: str
    count: int = 1
    rate: float = 0.5
    whole: bool = False
    window: Size = 8192
    mode: Literal["fast", "slow"] = "fast"
    maybe: int | None = None
    old: Optional[float] = None  # noqa: UP045
    budget: Size | None = None
    kind: Literal["a", "b"] | None = None
    runner_args: list[str] | None = None
    eval: Mapping[str, str] | None = None


KINDS = kinds(Settings)


def test_kinds_are_those_of_the_type_hints():
    expected = {
        "out": Kind(type=str),
        "count": Kind(type=int),
        "rate": Kind(type=float),
        "whole": Kind(type=bool),
        "window": Kind(type=int, is_size=True),
        "mode": Kind(type=str, choices=("fast", "slow")),
        "maybe": Kind(type=int),
        "old": Kind(type=float),
        "budget": Kind(type=int, is_size=True),
        "kind": Kind(type=str, choices=("a", "b")),
        "runner_args": Kind(type=list),
        "eval": Kind(type=dict),
    }
    assert expected == KINDS


def test_kinds_of_a_typed_dict():
    class Run(TypedDict, total=False):
        workers: int

    assert kinds(Run) == {"workers": Kind(type=int)}


@pytest.mark.parametrize("hint", [tuple[int, ...], list[int], Mapping[str, float], int | str, Any])
def test_a_type_that_no_file_and_no_flag_can_give(hint):
    settings = type("Settings", (), {"__annotations__": {"name": str, "sources": hint}})
    with pytest.raises(TypeError, match="a setting cannot have the type of sources"):
        kinds(settings)
    assert kinds(settings, without=("sources",)) == {"name": Kind(type=str)}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("out", "there", "there"),
        ("count", -3, -3),
        ("rate", 2, 2.0),
        ("rate", 0.25, 0.25),
        ("whole", True, True),
        ("window", 4096, 4096),
        ("window", "4k", 4000),
        ("budget", "32MiB", 32 << 20),
        ("mode", "slow", "slow"),
        ("kind", "b", "b"),
        ("runner_args", ["--x", ""], ["--x", ""]),
        ("runner_args", [], []),
        ("eval", {"a": "b"}, {"a": "b"}),
    ],
)
def test_a_value_as_its_flag_would_give_it(name, value, expected):
    found = typed(name, value, KINDS[name], "job.toml")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("out", 5, "a string"),
        ("out", ["x"], "a string"),
        ("count", 1.0, "a whole number"),
        ("count", "1", "a whole number"),
        ("count", True, "a whole number"),
        ("count", "4k", "a whole number"),
        ("rate", "0.5", "a number"),
        ("rate", False, "a number"),
        ("whole", 1, "true or false"),
        ("window", 4096.0, "a whole number"),
        ("window", True, "a whole number"),
        ("mode", "fats", "fast or slow"),
        ("mode", 3, "fast or slow"),
        ("mode", [], "fast or slow"),
        ("runner_args", "--x", "a list of strings"),
        ("runner_args", [1], "a list of strings"),
        ("runner_args", {"a": "b"}, "a list of strings"),
        ("eval", ["a"], 'a table of strings: { NAME = "VALUE" }'),
        ("eval", {"a": 1}, 'a table of strings: { NAME = "VALUE" }'),
    ],
)
def test_a_value_of_another_kind(name, value, expected):
    with pytest.raises(UsageError) as caught:
        typed(name, value, KINDS[name], "job.toml")
    assert caught.value.found == f"{name} is {value!r}"
    assert caught.value.expected == expected
    assert caught.value.where == "job.toml"


def test_a_size_that_is_none():
    with pytest.raises(UsageError) as caught:
        typed("window", "big", KINDS["window"], "job.toml")
    assert caught.value.found == "window: 'big' is not a size such as 4096, 256M, 10B or 32MiB"
    assert caught.value.where == "job.toml"


@pytest.mark.parametrize("value", [None, 0, 0.5, 1])
def test_values_inside_a_range(value):
    check_range("share", value, 0, 1)
    check_range("share", value, 0, None)


@pytest.mark.parametrize(
    ("value", "low", "high", "found", "expected"),
    [
        (0, 1, 1000, "n is 0", "1 to 1,000"),
        (5000, 1, 1000, "n is 5,000", "1 to 1,000"),
        (0, 1, None, "n is 0", "at least 1"),
        (float("nan"), 0, 1, "n is nan", "0 to 1"),
        (float("nan"), 0, None, "n is nan", "at least 0"),
        (float("inf"), 0, 1, "n is inf", "0 to 1"),
    ],
)
def test_values_outside_a_range(value, low, high, found, expected):
    with pytest.raises(UsageError) as caught:
        check_range("n", value, low, high, where="job.toml")
    assert (caught.value.found, caught.value.expected) == (found, expected)
    assert caught.value.where == "job.toml"


@pytest.mark.parametrize(
    "text", ['out = "a\\u0000b"', 'out = ["a", "\\u0000"]', 'out = [{ name = "\\u0000" }]']
)
def test_no_path_has_a_nul_character(tmp_path, text):
    path = tmp_path / "job.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_toml(str(path), ["out"])
    assert caught.value.found == "the setting 'out' has a NUL character"
    assert caught.value.where == str(path)
