"""The ideal loss in closed form, against sums over all documents of small worlds."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from recall_worlds import all_documents, conditional_entropies, small_world

from exactcpt.training.evaluation.recall.corpus import documents
from exactcpt.training.evaluation.recall.ideal import ideal_loss
from exactcpt.training.evaluation.recall.lengths import Lengths
from exactcpt.training.evaluation.recall.world import NEW, PAIRS, World, draw_world

ROOT = Path(__file__).parents[4]

TINY = World(
    fillers=5,
    keys=2,
    values=2,
    successors=(
        (1, 2, 3, 4),
        (0, 2, 3, 4),
        (4, 3, 1, 0),
        (0, 1, 2, 4),
        (2, 0, 1, 3),
        (0, 1, 2, 3),
        (4, 2, 0, 1),
    ),
)


@pytest.mark.parametrize(
    "lengths",
    [
        (0, 0, 0, 1.0, 0),
        (0, 0.2, 0.5, 0.3, 0, 0),
        (0, 0, 0.5, 0, 0.5, 0),
    ],
)
def test_the_closed_form_is_the_sum_over_all_documents(lengths):
    law = SimpleNamespace(window=len(lengths) + 1, probabilities=lambda: np.array(lengths))
    found = ideal_loss(TINY, law)
    everything = all_documents(TINY, lengths)
    assert sum(everything.values()) == pytest.approx(1)
    entropies = conditional_entropies(everything)[1:]  # the first token is no target
    entropies += [(0.0, 0.0)] * (len(lengths) - len(entropies))
    assert found.targets[0] == found.losses[0] == 0
    assert found.targets[1:] == pytest.approx([count for count, _ in entropies], abs=1e-12)
    assert found.losses[1:] == pytest.approx([loss for _, loss in entropies], abs=1e-12)
    total = sum(loss for _, loss in entropies) / sum(count for count, _ in entropies)
    assert found.loss == pytest.approx(total)


def test_the_tail_has_the_targets_that_are_expected():
    """Counted in documents: within four standard errors."""
    lengths = Lengths(tau=32, window=128, long_share=0.25)
    made = [
        len(ids) + 1 for ids in documents(small_world(), lengths, tokens=40_000, seed=0, corpus="x")
    ]
    tail = np.array([max(0, n - 32) for n in made])
    targets = np.array([n - 1 for n in made])
    expected = ideal_loss(small_world(), lengths)
    assert expected.targets.sum() == pytest.approx(
        targets.mean(), abs=4 * targets.std() / math.sqrt(len(made))
    )
    share = expected.share_from(32)
    error = (tail - share * targets).std() / targets.mean() / math.sqrt(len(made))
    assert tail.sum() / targets.sum() == pytest.approx(share, abs=4 * error)
    assert ideal_loss(small_world(), Lengths(tau=32, window=128, long_share=0)).share_from(32) == 0


def test_a_value_that_is_new_costs_the_logarithm_of_their_number():
    """Two worlds that differ in the number of values differ by the new pairs."""
    few, many = (
        ideal_loss(World(fillers=5, keys=4, values=v, successors=TINY.successors), LENGTHS)
        for v in (10, 20)
    )
    new = (many.losses.sum() - few.losses.sum()) / math.log(2)
    pairs = few.targets.sum() * PAIRS / (1 + PAIRS)
    assert 1 < new < 4
    assert new < pairs
    assert new > pairs * NEW / 2


def test_the_recipe_says_what_share_is_in_the_tail():
    recipe = (ROOT / "training" / "recipes" / "tiny-recall.toml").read_text()
    world = draw_world(fillers=16, keys=24, values=24, seed=0)
    share = ideal_loss(world, Lengths(tau=128, window=512, long_share=0.03)).share_from(128)
    assert "--fillers 16 --keys 24 --values 24 --window 512 --tau 128" in recipe
    assert f"3 % of the documents are longer: {100 * share:.0f} % of the targets" in recipe


LENGTHS = Lengths(tau=64, window=128, long_share=0)
