"""Whose validation documents are trained on, next to the documents themselves."""

import harness
import pytest
from harness import done

from exactcpt.schemas.held_out import leaks
from exactcpt.schemas.shard_set import open_set


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held")
    texts = [f"document number {number}, of its own" for number in range(60)]
    done("tokenize", *harness.small(folder, texts), "--out", folder / "store")

    def pack(seed: int, fraction: float):
        out = folder / f"{seed}-{fraction}"
        if not out.exists():
            rule = ["--seed", seed, "--validation-fraction", fraction]
            done("pack", folder / "store", "--window", 16, *rule, "--out", out)
        return out

    return pack


@pytest.mark.parametrize(
    ("trained", "held"),
    [
        ((0, 0.2), (0, 0.2)),
        ((0, 0.4), (0, 0.2)),
        ((0, 0.2), (0, 0.4)),
        ((1, 0.2), (0, 0.2)),
        ((0, 0.0), (0, 0.2)),
        ((1, 0.2), (0, 0.0)),
    ],
)
def test_sets_of_one_corpus(packed, trained, held):
    one, other = packed(*trained), packed(*held)
    trains, holds = harness.occurrences(one, "train"), harness.occurrences(other, "validation")
    said = list(leaks([open_set(one)], open_set(other), what="the set"))
    assert bool(said) == bool(trains.keys() & holds.keys())
    for line in said:
        assert line.startswith(f"the set holds out {held[1]:.2%} by seed {held[0]} and {one} ")


def test_sets_of_other_corpora(packed, tmp_path):
    flags = [*harness.small(tmp_path, ["something else"] * 9), "--window", 16]
    rule = ["--seed", 1, "--validation-fraction", 0.5, "--out", tmp_path / "other"]
    done("prepare", *flags, *rule)
    for one, held in ((packed(0, 0.2), tmp_path / "other"), (tmp_path / "other", packed(0, 0.2))):
        assert not list(leaks([open_set(one)], open_set(held), what="the set"))
