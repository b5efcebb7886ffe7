"""The probe's items: exact lengths and distances, nothing but the evidence differs, no leak."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import xxhash
from evaluations import Copying, Unigram, haystack, last_place, vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from exactcpt.schemas.errors import UsageError
from exactcpt.training.evaluation import words
from exactcpt.training.evaluation.assemble import CONTEXTS, MARGIN, distances, place
from exactcpt.training.evaluation.config import ABLATIONS, TASKS
from exactcpt.training.evaluation.draws import Draws
from exactcpt.training.evaluation.facts import ALTERNATIVES, FAMILIES, draw_fact
from exactcpt.training.evaluation.probe import item_table, probe_items
from exactcpt.training.evaluation.results import content_digest
from exactcpt.training.evaluation.scoring import answer_scores

VOCABULARY = vocabulary()
HAYSTACK = haystack(5000)
IDS = 4096


def items(length=256, count=2, tasks=tuple(FAMILIES), seed=0, ablation="replace", hay=HAYSTACK):
    made = probe_items(
        tasks, hay, VOCABULARY.piece, length=length, count=count, seed=seed, ablation=ablation
    )
    return list(made)


def fact(task="place", ablation="replace", number=0):
    return draw_fact(FAMILIES[task], ablation, VOCABULARY.piece, Draws(0, task, number))


def test_the_families_are_tasks():
    assert (*FAMILIES, "natural") == TASKS["probe"]


@settings(max_examples=40)
@given(
    length=st.integers(128, 700),
    seed=st.integers(0, 9),
    ablation=st.sampled_from(ABLATIONS),
    bos=st.sampled_from([(), (7,)]),
)
def test_lengths_and_distances_are_exact(length, seed, ablation, bos):
    """Everything is found again in the ids, by searching for it."""
    for item in items(length, 1, seed=seed, ablation=ablation, hay=haystack(800, bos=bos)):
        prompt, fact = item.prompt, item.prompt.fact
        ids = prompt.ids(ablated=False).tolist()
        assert len(ids) == prompt.n_tokens
        assert tuple(ids[: len(bos)]) == bos
        assert tuple(ids[-len(fact.question) :]) == fact.question
        value_at = last_place(ids, fact.gold)
        assert value_at is not None
        assert prompt.distance == len(ids) - (value_at + len(fact.gold) - 1)
        assert prompt.distance in distances(length)
        with_answer = len(ids) + len(fact.gold)
        assert with_answer == (length if item.context == "fixed" else prompt.distance + MARGIN)
        assert with_answer <= length


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_nothing_but_the_evidence_differs(ablation):
    for item in items(ablation=ablation):
        stated, ablated = (item.prompt.ids(ablated=each) for each in (False, True))
        start, stop = item.prompt.evidence
        assert tuple(stated[start:stop]) == item.prompt.fact.evidence
        assert len(stated) == len(ablated)
        assert np.array_equal(stated[:start], ablated[:start])
        assert np.array_equal(stated[stop:], ablated[stop:])
        assert not np.array_equal(stated[start:stop], ablated[start:stop])


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_answers_are_in_no_other_place(ablation):
    for item in items(ablation=ablation):
        fact = item.prompt.fact
        ids, ablated = (item.prompt.ids(ablated=each).tolist() for each in (False, True))
        start, stop = item.prompt.evidence
        assert last_place(ids[:start] + ids[stop:], fact.gold) is None
        assert last_place(ablated, fact.gold) is None
        assert len({fact.gold, *fact.alternatives}) == 1 + ALTERNATIVES
        for other in fact.alternatives:
            assert len(other) == len(fact.gold)
            assert last_place(ids, other) is None
            assert last_place(ablated, other) is None


def test_a_value_in_the_haystack_is_not_used():
    """Where the first draw's gold is filler, another fact is drawn."""
    first = items(count=1, tasks=("place",))[0].prompt.fact
    filler = np.concatenate([HAYSTACK.ids[:100], np.array(first.gold, np.int32)])
    spiked = replace(HAYSTACK, ids=np.concatenate([filler, HAYSTACK.ids[: 256 - len(filler)]]))
    assert items(count=1, tasks=("place",), hay=spiked)[0].prompt.fact.gold != first.gold


@pytest.mark.parametrize(
    ("ablation", "same_key", "same_value"), [("replace", False, False), ("swap", True, False)]
)
def test_what_the_replacement_states(ablation, same_key, same_value):
    decode = VOCABULARY.tokenizer.decode
    for number in range(20):
        made = fact("place", ablation, number)
        if made is None:
            continue
        key, value = words_of(decode(list(made.evidence)))
        other_key, other_value = words_of(decode(list(made.replacement)))
        assert (other_key == key, other_value == value) == (same_key, same_value)
        assert decode(list(made.question)) == f"\nThe town where {key} lives is"


def words_of(sentence):
    before, _, after = sentence.partition(" is the town of ")
    return before.removeprefix("\nThe home of "), after.removesuffix(".\n")


def test_an_alias_is_asked_for_by_another_word():
    decode = VOCABULARY.tokenizer.decode
    for item in items(count=10, tasks=("alias",)):
        fact = item.prompt.fact
        evidence, question = (decode(list(ids)) for ids in (fact.evidence, fact.question))
        kind = evidence.removesuffix(".\n").rpartition(" ")[2]
        category = question.removesuffix(" is").rpartition(" owns ")[2]
        assert kind in words.CATEGORIES[category]
        assert not set(evidence.split()) & set(question.split())
        other = decode(list(fact.replacement)).removesuffix(".\n").rpartition(" ")[2]
        assert other not in words.CATEGORIES[category]


def test_no_category_names_a_kind():
    kinds = [kind for kinds in words.CATEGORIES.values() for kind in kinds]
    assert len(kinds) == len({*kinds})
    assert [k for k in kinds for c in words.CATEGORIES if k in c.split()] == []


def test_one_fact_and_one_filler_at_all_distances():
    made = items(512, 1, tasks=("code",))
    assert len({item.prompt.fact for item in made}) == 1
    assert len(made) == 2 * len(distances(512))
    fixed = [item.prompt for item in made if item.context == "fixed"]
    fillers = {(*prompt.before.tolist(), *prompt.between.tolist()) for prompt in fixed}
    assert len(fillers) == 1
    for one, other in zip(fixed, (i.prompt for i in made if i.context == "minimal"), strict=True):
        assert np.array_equal(one.between, other.between)
        assert one.before.tolist()[len(one.before) - len(other.before) :] == other.before.tolist()


def test_the_grid():
    assert distances(4096) == [32, 64, 128, 256, 512, 1024, 2048, 4032]
    assert distances(128) == [32, 64]
    assert distances(1000) == [32, 64, 128, 256, 512, 936]


def test_an_item_is_the_same_whatever_their_number():
    few, many = (
        [item for item in items(count=count) if item.number == 2] for count in (3, 7)
    )  # fmt: skip
    assert item_table(few, 256).equals(item_table(many, 256))
    for one, other in zip(few, many, strict=True):
        assert np.array_equal(one.prompt.ids(ablated=True), other.prompt.ids(ablated=True))


def test_items_are_the_same_for_ever():
    """If this fails, give the suite a higher version: old results would be compared with new."""
    made = items(256, 2)
    assert content_digest(item_table(made, 256)) == "516ad1b9c5d749ddccbfa4c620baf1d7"
    prompts = [item.prompt.ids(ablated=each) for item in made for each in (False, True)]
    assert (
        xxhash.xxh3_64_hexdigest(np.concatenate(prompts).astype("<i4").tobytes())
        == "d14aa3038b1b6878"
    )


def test_other_seeds_give_other_items():
    one, other = (item_table(items(seed=seed), 256) for seed in (0, 1))
    assert content_digest(one) != content_digest(other)


def test_no_fact_fits():
    """A tokenizer with a token per byte, and no room for a question."""
    made = probe_items(
        ("number",), HAYSTACK, lambda text: tuple(b for c in text.encode() for b in (c, c)),
        length=128, count=1, seed=0, ablation="replace",
    )  # fmt: skip
    with pytest.raises(UsageError) as raised:
        list(made)
    assert raised.value.found == (
        "no item of the task number can be made: in 50 draws, no fact with 7 alternatives of as "
        "many tokens fits into 128 tokens of the haystack"
    )


def test_a_fact_that_fits_at_some_distances_only_is_left_out_at_the_others():
    """Two tokens per byte: the question is longer than 32 and 64 tokens."""
    made = probe_items(
        ("place",), HAYSTACK, lambda text: tuple(b for c in text.encode() for b in (c, c)),
        length=512, count=1, seed=0, ablation="replace",
    )  # fmt: skip
    assert {item.prompt.distance for item in made} == {128, 256}


# Models made by hand


def scores(model, made, ablated):
    rows = []
    for item in made:
        answers = [[item.prompt.fact.gold, *item.prompt.fact.alternatives]]
        rows.append(answer_scores(model, [item.prompt.ids(ablated=ablated)], answers)[0])
    return np.array(rows)


def test_what_a_copying_model_gains_is_the_whole_answer_at_every_distance():
    made = items(512, 1)
    facts = [item.prompt.fact for item in made]
    model = Copying(IDS, [*{(f.evidence, f.question, f.gold) for f in facts}])
    stated, ablated = (scores(model, made, each) for each in (False, True))
    lengths = np.array([len(fact.gold) for fact in facts])
    assert np.allclose(stated[:, 0] - ablated[:, 0], lengths * math.log(IDS))
    assert (stated[:, 0] > stated[:, 1:].max(axis=1)).all()
    assert {item.prompt.distance for item in made} == {*distances(512)}


def test_what_a_unigram_model_gains_is_nothing():
    made = items()
    stated, ablated = (scores(Unigram(IDS), made, each) for each in (False, True))
    assert np.array_equal(stated, ablated)


def control(task, count=300):
    """How often the gold is the likeliest answer to a model that sees no context."""
    model = Unigram(IDS, seed=1)
    facts = [made for n in range(count) if (made := fact(task, number=n)) is not None]
    prompts = [np.array(made.question, np.int32) for made in facts]
    won = 0
    for prompt, made in zip(prompts, facts, strict=True):
        row = answer_scores(model, [prompt], [[made.gold, *made.alternatives]])[0]
        won += row[0] > row[1:].max()
    return won, len(facts)


def is_at_chance(won, count):
    """Within four standard deviations of the binomial distribution."""
    chance = 1 / (1 + ALTERNATIVES)
    return abs(won - count * chance) <= 4 * math.sqrt(count * chance * (1 - chance))


@pytest.mark.parametrize("task", FAMILIES)
def test_without_evidence_the_answer_is_preferred_by_chance(task):
    won, count = control(task)
    assert count > 200
    assert is_at_chance(won, count)


def test_a_leak_is_seen(monkeypatch):
    """The gold is drawn from other values than its alternatives: from those the model likes."""
    likes = Unigram(IDS, seed=1).likes
    is_gold = iter([True])

    def value(draws):
        towns = [words.town(draws) for _ in range(2)]
        best, worst = (
            choose(towns, key=lambda town: likes[list(VOCABULARY.piece(" " + town))].sum())
            for choose in (max, min)
        )
        return best if next(is_gold) else worst

    def drawn(task, ablation="replace", number=0):
        nonlocal is_gold
        is_gold = iter([True, *[False] * 1000])
        family = replace(FAMILIES[task], value=value)
        return draw_fact(family, "remove", VOCABULARY.piece, Draws(0, task, number))

    monkeypatch.setattr(sys.modules[__name__], "fact", drawn)
    assert not is_at_chance(*control("place", 80))


def test_every_context_is_there():
    assert {item.context for item in items()} == {*CONTEXTS}


def test_a_place_needs_room():
    made = fact()
    filler = HAYSTACK.ids[:128]
    assert place(made, filler, bos=(), length=128, distance=4, context="fixed") is None
    assert place(made, filler, bos=(), length=128, distance=127, context="fixed") is None
