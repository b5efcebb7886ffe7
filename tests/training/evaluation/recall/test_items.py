"""The items of the task recall: text of the world, exact distances, one place for the evidence."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import xxhash
from evaluations import CERTAIN, HandMade, Unigram
from hypothesis import given, settings
from hypothesis import strategies as st
from recall_worlds import slots_of, small_world

from exactcpt.training.evaluation.assemble import MARGIN, distances
from exactcpt.training.evaluation.config import ABLATIONS
from exactcpt.training.evaluation.facts import ALTERNATIVES
from exactcpt.training.evaluation.probe import item_table
from exactcpt.training.evaluation.recall.items import SHORTEST, recall_items
from exactcpt.training.evaluation.recall.world import PAIRS, World, draw_world
from exactcpt.training.evaluation.results import content_digest
from exactcpt.training.evaluation.scoring import answer_scores

WORLD = small_world()
SMALLEST = draw_world(fillers=6, keys=3, values=10, seed=1)
IDS = len(WORLD.words)


def items(length=256, count=2, seed=0, ablation="replace", world=WORLD):
    made = recall_items(world, length=length, count=count, seed=seed, ablation=ablation)
    return list(made)


CASES = {
    "length": st.integers(128, 700),
    "seed": st.integers(0, 9),
    "ablation": st.sampled_from(ABLATIONS),
    "world": st.sampled_from([WORLD, SMALLEST]),
}


@settings(max_examples=40)
@given(**CASES)
def test_lengths_and_distances_are_exact(length, seed, ablation, world):
    made = items(length, 1, seed, ablation, world)
    assert {item.prompt.distance for item in made} == {*distances(length, SHORTEST)}
    assert len(made) == 2 * len(distances(length, SHORTEST))
    for item in made:
        prompt, fact = item.prompt, item.prompt.fact
        for ablated in (False, True):
            assert len(prompt.ids(ablated=ablated)) == prompt.n_tokens
        ids = prompt.ids(ablated=False).tolist()
        assert ids[-1:] == [*fact.question]
        assert len(ids) - ids.index(fact.gold[0]) == prompt.distance
        total = length if item.context == "fixed" else prompt.distance + MARGIN
        assert len(ids) + 1 == total


def test_the_grid_begins_at_eight():
    assert distances(512, SHORTEST) == [8, 16, 32, 64, 128, 256, 448]


@settings(max_examples=40)
@given(**CASES)
def test_the_filler_has_neither_the_fact_nor_an_answer(length, seed, ablation, world):
    for item in items(length, 1, seed, ablation, world):
        prompt, fact = item.prompt, item.prompt.fact
        around = {*prompt.before.tolist(), *prompt.between.tolist()}
        reserved = {*fact.evidence, *fact.question, *(i for value in fact.values for i in value)}
        assert not around & reserved
        if ablation == "replace":
            assert not around & {*fact.replacement}
        assert len({fact.gold, *fact.alternatives}) == 1 + ALTERNATIVES
        assert fact.foreign not in (fact.gold, *fact.alternatives)


@settings(max_examples=40)
@given(**CASES)
def test_a_prompt_is_text_of_the_world(length, seed, ablation, world):
    """No pair is cut; a key has one value; every filler is one that may follow, with the evidence
    at any distance and in both contexts.
    """
    length += length % 2  # in a text of odd length, the longest minimal prompt may begin in a pair
    for item in items(length, 1, seed, ablation, world):
        # Fillers in the place of the evidence may be followed by any other.
        for ablated in {False, ablation != "remove"}:
            ids = item.prompt.ids(ablated=ablated)[:-1].tolist()
            value_of: dict[int, int] = {}
            last = None
            for slot in slots_of(world, ids):
                if len(slot) == 2:
                    assert value_of.setdefault(*slot) == slot[1]
                    last = world.fillers + slot[0]
                else:
                    assert last is None or slot[0] in world.successors[last]
                    last = slot[0]


def test_the_filler_is_as_dense_as_documents_are():
    """Pairs among the slots of fixed prompts: what the places of the evidence add is little."""
    slots = [
        len(slot)
        for item in items(512, 40)
        if (item.context, item.prompt.distance) == ("fixed", 8)
        for slot in slots_of(WORLD, item.prompt.before.tolist())
    ]
    share = slots.count(2) / len(slots)
    assert PAIRS - 0.03 < share < PAIRS + 0.06


@pytest.mark.parametrize(
    ("ablation", "same_key", "same_value"),
    [("replace", False, False), ("swap", True, False), ("remove", False, False)],
)
def test_what_the_replacement_states(ablation, same_key, same_value):
    for item in items(count=10, ablation=ablation):
        fact = item.prompt.fact
        (slot, *more) = slots_of(WORLD, fact.replacement)
        if ablation == "remove":
            assert len(slot) == len(more[0]) == 1
            assert more[0][0] in WORLD.successors[slot[0]]
            continue
        assert more == []
        key, value = fact.replacement
        assert (key == fact.question[0], value == fact.gold[0]) == (same_key, same_value)
        assert fact.foreign == (value,)


def test_one_fact_and_one_filler_at_all_distances():
    made = items(512, 1)
    assert len({item.prompt.fact for item in made}) == 1
    fixed = [item.prompt for item in made if item.context == "fixed"]
    fillers = {(*prompt.before.tolist(), *prompt.between.tolist()) for prompt in fixed}
    assert len(fillers) == 1


def test_an_item_is_the_same_whatever_their_number():
    few, many = ([i for i in items(count=count) if i.number == 2] for count in (3, 7))
    assert item_table(few, 256).equals(item_table(many, 256))
    for one, other in zip(few, many, strict=True):
        assert np.array_equal(one.prompt.ids(ablated=True), other.prompt.ids(ablated=True))


def test_items_are_the_same_for_ever():
    """If this fails, give the suite a higher version: old results would be compared with new."""
    made = items(256, 2)
    assert content_digest(item_table(made, 256)) == ITEMS_DIGEST
    prompts = [item.prompt.ids(ablated=each) for item in made for each in (False, True)]
    data = np.concatenate(prompts).astype("<i4").tobytes()
    assert xxhash.xxh3_64_hexdigest(data) == PROMPTS_DIGEST


ITEMS_DIGEST = "480867cc67c8a8ca6762e4bdf331147f"
PROMPTS_DIGEST = "037399ab42c2f0d6"


def test_other_seeds_give_other_items():
    assert len({content_digest(item_table(items(seed=s), 256)) for s in (0, 1)}) == 2


# Models made by hand


class Recalling(HandMade):
    """Knows that a value follows a key, and which one if the key has come before."""

    def __init__(self, world: World) -> None:
        super().__init__(len(world.words))
        self._keys = range(world.key(0), world.key(world.keys))
        self._values = slice(world.value(0), world.value(world.values))

    def after(self, sequence):
        assert sequence[-1] in self._keys
        found = torch.full((self.vocabulary,), -CERTAIN, dtype=torch.float64)
        found[self._values] = 0
        places = [i for i, token in enumerate(sequence[:-1]) if token == sequence[-1]]
        if places:
            found[sequence[places[-1] + 1]] = CERTAIN
        return found


def scores(model, made, ablated):
    rows = []
    for item in made:
        answers = [[item.prompt.fact.gold, *item.prompt.fact.alternatives]]
        rows.append(answer_scores(model, [item.prompt.ids(ablated=ablated)], answers)[0])
    return np.array(rows)


@pytest.mark.parametrize("ablation", ["replace", "remove"])
def test_what_a_recalling_model_gains_is_log_v_at_every_distance(ablation):
    made = items(512, 3, ablation=ablation)
    stated, ablated = (scores(Recalling(WORLD), made, each) for each in (False, True))
    assert np.allclose(stated[:, 0] - ablated[:, 0], math.log(WORLD.values))
    assert (stated[:, 0] > stated[:, 1:].max(axis=1)).all()


def test_what_a_recalling_model_gains_is_more_where_it_recalls_another_value():
    made = items(512, 3, ablation="swap")
    stated, ablated = (scores(Recalling(WORLD), made, each) for each in (False, True))
    assert (stated[:, 0] - ablated[:, 0] > 2 * math.log(WORLD.values)).all()


def test_what_a_unigram_model_gains_is_nothing():
    made = items()
    stated, ablated = (scores(Unigram(IDS), made, each) for each in (False, True))
    assert np.array_equal(stated, ablated)


def control(made):
    """How often the gold is the likeliest answer to a model that sees no context."""
    rows = scores(Unigram(IDS, seed=1), made, ablated=True)
    return int((rows[:, 0] > rows[:, 1:].max(axis=1)).sum()), len(rows)


def is_at_chance(won, count):
    """Within four standard deviations of the binomial distribution."""
    chance = 1 / (1 + ALTERNATIVES)
    return abs(won - count * chance) <= 4 * math.sqrt(count * chance * (1 - chance))


def facts(count):
    return [item for item in items(128, count) if item.prompt.distance == 8][::2]


def test_without_evidence_the_answer_is_preferred_by_chance():
    won, count = control(facts(400))
    assert count == 400
    assert is_at_chance(won, count)


def test_a_leak_is_seen():
    """The gold is the one of the eight answers that the model likes best, one time in four."""
    likes = Unigram(IDS, seed=1).likes
    leaking = []
    for item in facts(400):
        fact = item.prompt.fact
        if item.number % 4 == 0:
            answers = sorted([fact.gold, *fact.alternatives], key=lambda v: -likes[v[0]])
            fact = replace(fact, gold=answers[0], alternatives=tuple(answers[1:]))
        leaking.append(replace(item, prompt=replace(item.prompt, fact=fact)))
    assert not is_at_chance(*control(leaking))


class Favouring(HandMade):
    """Likes the values that it has seen most often: it prefers what is frequent in the prompt."""

    def after(self, sequence):
        return torch.bincount(torch.tensor(sequence), minlength=self.vocabulary).double()


def test_no_answer_is_in_the_prompt_more_often_than_another():
    made = items(256, 10)
    rows = scores(Favouring(IDS), made, ablated=True)
    assert np.ptp(rows, axis=1).max() == 0
