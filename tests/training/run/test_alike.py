"""Ranks tell each other what they have; here a list stands for them."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from tiny import config

from exactcpt.schemas.errors import UsageError
from exactcpt.training.run.alike import check_alike, check_settings
from exactcpt.training.run.world import World


class Told(World):
    """The first of two ranks."""

    other: Mapping[str, Any]

    def gather(self, value: Any) -> list[Any]:
        return [value, value | self.other]


def world(other: Mapping[str, Any]) -> World:
    found = Told(rank=0, size=2, device=torch.device("cpu"))
    object.__setattr__(found, "other", other)
    return found


def test_the_same_on_all_ranks():
    check_alike({"a": 1, "b": None}, world({}), fix="")


def test_what_a_rank_does_not_know_is_no_difference():
    check_alike({"a": None, "b": 2}, world({"a": 1, "b": None}), fix="")


@pytest.mark.parametrize("other", [{"b": 3}, {"b": 3, "c": 1}])
def test_the_first_difference_is_named(other):
    with pytest.raises(UsageError, match="the ranks differ in b: 2 on rank 0, 3 on rank 1"):
        check_alike({"a": 1, "b": 2}, world(other), fix="")


def test_a_setting_that_one_rank_alone_has(tmp_path):
    """With other numbers of steps, the ranks would wait for each other."""
    with pytest.raises(UsageError, match="differ in max_tokens: not given on rank 0, 640 on"):
        check_settings(config(tmp_path, tmp_path / "run"), world({"max_tokens": 640}))


def test_another_version_has_other_settings(tmp_path):
    with pytest.raises(UsageError, match=r"differ in exactcpt: .* on rank 0, 9\.9\.9 on rank 1"):
        check_settings(config(tmp_path, tmp_path / "run"), world({"exactcpt": "9.9.9", "new": 1}))
