"""RULER's items: the prompt determines the answer, fills its length, and says where it says it."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import xxhash
from evaluations import vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st
from ruler import (
    SOLVERS,
    asked_keys,
    assignments,
    coded,
    items,
    listed,
    page,
    parts,
    prose,
    secrets,
    text,
    zipf_counts,
)  # fmt: skip

from exactcpt.schemas.errors import UsageError
from exactcpt.training.evaluation.config import TASKS
from exactcpt.training.evaluation.draws import Draws
from exactcpt.training.evaluation.facts import ALTERNATIVES
from exactcpt.training.evaluation.results import content_digest
from exactcpt.training.evaluation.ruler import names
from exactcpt.training.evaluation.ruler.drafts import Draft, Piece, hidden, largest
from exactcpt.training.evaluation.ruler.items import item_table, score_table
from exactcpt.training.evaluation.ruler.needles import PARAGRAPH
from exactcpt.training.evaluation.ruler.tasks import BUDGETS, MAKERS

DECODE = vocabulary().tokenizer.decode
NIAH = [task for task in MAKERS if task.startswith("niah")]
SINGLE = [task for task in NIAH if "single" in task or "multikey" in task]


def test_the_makers_are_the_tasks():
    assert (*MAKERS, "qa_1", "qa_2") == TASKS["ruler"]
    assert {*BUDGETS} == {*TASKS["ruler"]}
    assert {*SOLVERS} == {*MAKERS}


@pytest.mark.parametrize("task", MAKERS)
@settings(max_examples=8)
@given(length=st.integers(900, 1600), seed=st.integers(0, 99), bos=st.sampled_from([(), (7,)]))
def test_the_prompt_determines_the_answer(task, length, seed, bos):
    (item,) = items(task, length, seed=seed, bos=bos)
    assert list(item.gold) == SOLVERS[task](text(item))
    assert DECODE(list(item.answers[0])) == " " + ", ".join(item.gold)
    assert tuple(item.ids[: len(bos)]) == bos


@pytest.mark.parametrize("task", [*NIAH, "vt"])
def test_nothing_but_the_evidence_determines_it(task):
    """Without one of its pieces, something else is found."""
    for item in items(task, 1200, 3):
        for each in item.evidence:
            ids = np.concatenate([item.ids[: each.start], item.ids[each.stop :]])
            assert SOLVERS[task](text(replace(item, ids=ids))) != list(item.gold)
        assert len(item.evidence) == len(item.gold)


@pytest.mark.parametrize("task", MAKERS)
@settings(max_examples=8)
@given(length=st.integers(900, 1600), seed=st.integers(0, 99))
def test_no_prompt_is_longer_than_its_length(task, length, seed):
    (item,) = items(task, length, seed=seed)
    assert item.budget == BUDGETS[task]
    longest = max(item.budget, *(len(answer) for answer in item.answers))
    assert len(item.ids) + longest <= length


@pytest.mark.parametrize("task", MAKERS)
def test_prompts_fill_their_length(task):
    for item in items(task, 4096, 3):
        assert len(item.ids) + item.budget >= 0.97 * 4096


def test_one_more_paragraph_would_not_fit():
    paragraph = len(vocabulary().piece(PARAGRAPH))
    for length in range(1000, 1040):
        (item,) = items("niah_single_1", length)
        assert length - paragraph < len(item.ids) + item.budget


@pytest.mark.parametrize("task", [*NIAH, "vt"])
@pytest.mark.parametrize("bos", [(), (7,)])
def test_where_the_evidence_stands(task, bos):
    """The tokens at its place are its words, and the distance leads back to the answer's tokens."""
    encode = vocabulary().piece
    for item in items(task, 1200, 4, bos=bos):
        for each, gold in zip(item.evidence, item.gold, strict=True):
            sentence = DECODE(item.ids[each.start : each.stop].tolist())
            if task == "vt":
                assert re.fullmatch(rf" VAR {gold} = (VAR [A-Z]{{5}}|\d{{5}})\.", sentence)
            else:
                assert re.fullmatch(rf" The secret (number|code) of \S+ is {gold}\.", sentence)
            repeated = encode(f" {gold}")
            stop = len(item.ids) - each.distance + 1
            assert tuple(item.ids[stop - len(repeated) : stop]) == repeated
            assert each.start < stop <= each.stop


# What RULER's parameters ask for


@pytest.mark.parametrize(
    ("task", "keys", "of_each", "asked"),
    [
        ("niah_single_1", 1, 1, 1),
        ("niah_single_2", 1, 1, 1),
        ("niah_single_3", 1, 1, 1),
        ("niah_multikey_1", 4, 1, 1),
        ("niah_multivalue", 1, 4, 1),
        ("niah_multiquery", 4, 1, 4),
    ],
)
def test_how_many_needles_there_are(task, keys, of_each, asked):
    body, question = parts(text(items(task, 1500)[0]), "Text:")
    stated = Counter(key for key, _ in secrets(body))
    assert [*stated.values()] == [of_each] * keys
    assert len(asked_keys(question)) == asked
    assert len({value for _, value in secrets(body)}) == keys * of_each


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [
        ("niah_single_1", r"[a-z]+-[a-z]+", r"[1-9]\d{6}"),
        ("niah_single_3", r"[a-z]+-[a-z]+", r"[0-9a-f-]{36}"),
        ("niah_multikey_2", r"[a-z]+-[a-z]+", r"[1-9]\d{6}"),
        ("niah_multikey_3", r"[0-9a-f-]{36}", r"[0-9a-f-]{36}"),
    ],
)
def test_what_keys_and_values_are(task, key, value):
    body, _ = parts(text(items(task, 1500)[0]), "Text:")
    for one, other in secrets(body):
        assert re.fullmatch(key, one)
        assert re.fullmatch(value, other)


@pytest.mark.parametrize("task", ["niah_multikey_2", "niah_multikey_3"])
def test_a_haystack_of_needles_has_nothing_else(task):
    body, _ = parts(text(items(task, 1500)[0]), "Text:")
    stated = secrets(body)
    assert re.sub(r" The secret \w+ of \S+ is \S+\.(?=\s|$)", "", body) == ""
    assert (
        len({key for key, _ in stated}) == len({value for _, value in stated}) == len(stated) > 10
    )


def test_a_repeated_paragraph():
    item = items("niah_single_1", 1500)[0]
    (each,) = item.evidence
    body, _ = parts(
        text(replace(item, ids=np.delete(item.ids, slice(each.start, each.stop)))), "Text:"
    )
    assert body == PARAGRAPH * body.count(PARAGRAPH)


@pytest.mark.parametrize("task", ["niah_single_2", "niah_multivalue"])
def test_prose_is_consecutive_sentences_of_the_haystack(task):
    found = prose()
    for item in items(task, 1500, 3):
        spans = [slice(each.start, each.stop) for each in item.evidence]
        without = np.delete(item.ids, np.concatenate([np.r_[span] for span in spans]))
        decoded = DECODE(without.tolist())
        body = encoded(parts(decoded, "Text:")[0])
        assert [
            start for start in found.bounds[:-1].tolist()
            if found.ids[start] == body[0] and found.ids[start : start + len(body)].tolist() == body
        ]  # fmt: skip


def encoded(text):
    return list(vocabulary().piece(text))


@pytest.mark.parametrize(
    ("task", "inside"),
    [("niah_single_1", 0), ("niah_multikey_1", 3), ("niah_multikey_2", 7), ("niah_multikey_3", 7)],
)
def test_alternatives_are_other_values(task, inside):
    """Those of the prompt first, then fresh ones."""
    for item in items(task, 1500, 3):
        others = [DECODE(list(answer)).strip() for answer in item.answers[1:]]
        assert len({*others, *item.gold}) == ALTERNATIVES + 1
        stated = {value for _, value in secrets(text(item))}
        assert [other in stated for other in others] == [True] * inside + [False] * (7 - inside)


def test_other_tasks_have_no_alternatives():
    for task in {*MAKERS} - {*SINGLE}:
        assert len(items(task, 1500)[0].answers) == 1


def test_the_chain_and_its_example():
    for length in (1200, 4096):
        item = items("vt", length)[0]
        example, _, rest = text(item).rpartition("The text below")
        assert len(vocabulary().encode(example)) <= min(500, length // 4)
        variables, given = zip(*assignments(rest), strict=True)
        assert variables == item.gold
        assert given[1:] == variables[:-1]
        solved = re.search(r"Answer: The 5 variables with the value \d+ are (.+)\.\n", example)
        assert solved is not None
        assert solved[1].split(", ") == SOLVERS["vt"](example)
        assert not {*solved[1].split(", ")} & {*item.gold}


@pytest.mark.parametrize(
    ("length", "common", "rare", "example", "in_example"),
    [(1500, 6, 1, 20, (3, 1)), (4095, 6, 1, 20, (3, 1)), (4096, 30, 3, 40, (10, 3))],
)
def test_common_words_have_their_frequencies(length, common, rare, example, in_example):
    item = items("cwe", length)[0]
    counted = Counter(listed(text(item)))
    assert {*item.gold} == {word for word, often in counted.items() if often == common}
    assert {*counted.values()} == {common, rare}
    shown, _, _ = text(item).rpartition("The numbered list below")
    solved = re.search(r"Answer: .+ are (.+)\.\n", shown)
    assert solved is not None
    assert solved[1].split(", ") == SOLVERS["cwe"](shown)
    assert not {*solved[1].split(", ")} & {*item.gold}
    often = Counter(Counter(listed(shown)).values())
    assert often == {in_example[0]: 10, in_example[1]: example - 10}


@pytest.mark.parametrize(("length", "paired"), [(2000, False), (16_000, True)])
def test_long_lists_have_pairs_of_words(length, paired):
    words = {*listed(text(items("cwe", length)[0]))}
    assert all(("-" in word) == paired for word in words)


@pytest.mark.parametrize("length", [1000, 5000])
def test_frequent_words_have_their_frequencies(length):
    counted = coded(text(items("fwe", length)[0]))
    found = [often for _, often in counted.most_common()]
    size = length // 50
    assert any(found == zipf_counts(n)[:size] for n in range(length))
    assert {len(word) for word in counted} == {3, 6}


# Keys of their own


@pytest.mark.parametrize("task", MAKERS)
def test_an_item_is_the_same_whatever_their_number(task):
    few, many = items(task, 1000, 2), items(task, 1000, 4)
    assert item_table(few, 1000).equals(item_table(many[:2], 1000))
    assert len({text(item) for item in many}) == 4
    (other,) = items(task, 1000, seed=1)
    assert text(other) != text(few[0])


def test_items_are_the_same_for_ever():
    """If this fails, give the suite a higher version: old results would be compared with new."""
    made = [item for task in MAKERS for item in items(task, 1000, 2)]
    assert content_digest(item_table(made, 1000)) == "6a93c7c6b920e568aea2d0c4d123c6e9"


def test_the_table_has_a_digest_of_every_prompt():
    made = items("vt", 1000, 2)
    prompts = item_table(made, 1000)["prompt"].to_pylist()
    assert prompts == [xxhash.xxh3_128_hexdigest(item.ids.astype("<i4").tobytes()) for item in made]
    other = [replace(made[0], ids=made[0].ids[::-1].copy()), made[1]]
    assert item_table(other, 1000)["prompt"].to_pylist()[0] != prompts[0]


def test_what_was_not_scored_is_null():
    made = items("vt", 1000, 2)
    gold = made[0].gold[0]
    scored = score_table(made, {0: [-8.0, -0.25], 1: [-8.0]}, {})
    written = score_table(made, {}, {0: gold, 1: ""})
    nothing = {"output": None, "match": None}
    tokens = [len(item.answers[0]) for item in made]
    best = {"mean_logp_best_other": -0.25, "correct": -8 / tokens[0] > -0.25}
    none = dict.fromkeys(best)
    logp = [{"logp_gold": -8.0, "n_answer_tokens": n} for n in tokens]
    assert scored.to_pylist() == [
        {"item": 0, **logp[0], **best, **nothing}, {"item": 1, **logp[1], **none, **nothing},
    ]  # fmt: skip
    empty = dict.fromkeys(logp[0]) | none
    assert written.to_pylist() == [
        {"item": 0, **empty, "output": gold, "match": 0.2},
        {"item": 1, **empty, "output": "", "match": 0.0},
    ]


# Pieces


@pytest.mark.parametrize("task", MAKERS)
def test_a_length_without_room(task):
    with pytest.raises(UsageError) as raised:
        items(task, 140)
    assert raised.value.found == (
        f"no item of the task {task} fits into 140 tokens, of which {BUDGETS[task]} are for the "
        "answer"
    )
    assert raised.value.fix == f"give longer --lengths, or --tasks without {task}"


@given(st.integers(0, 100), st.integers(1, 5), st.integers(0, 99))
def test_needles_stand_in_their_order_at_different_depths(sentences, needles, seed):
    units = [Piece([i]) for i in range(sentences)]
    hay = hidden(units, [Piece([1000 + i]) for i in range(needles)], Draws(seed, "test"))
    ids = [piece.ids[0] for piece in hay]
    assert [i for i in ids if i < 1000] == [*range(sentences)]
    assert [i for i in ids if i >= 1000] == [*range(1000, 1000 + needles)]
    if sentences >= 40:
        places = [ids.index(1000 + i) - i for i in range(needles)]
        assert len({*places}) == needles
        assert all(place in {sentences * k // 39 for k in range(40)} for place in places)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(-1, 100))
def test_the_largest_that_fits(steps, room):
    totals = np.cumsum(steps).tolist()
    fitting = [n for n, total in enumerate(totals) if total <= room]
    assert largest(totals.__getitem__, room, 0, len(totals) - 1) == (fitting or [None])[-1]


def test_the_longest_answer_has_room():
    assert page(1000, budget=10).room([1] * 5, [2] * 6) == 979
    assert page(1000, budget=10, bos=(3,)).room([1] * 5, answers=[[1] * 20, [1]]) == 974


def test_a_draft_is_its_pieces():
    body = [Piece([3, 4]), Piece([5, 6, 7], 2), Piece([8])]
    draft = Draft(head=[1, 2], body=body, tail=[9], gold=("x",), answers=((6,),))
    assert draft.ids((0,)).tolist() == [*range(10)]
    assert draft.evidence((0,)) == ((5, 8, 4),)


def test_no_word_is_part_of_another():
    assert len({*names.WORDS}) == len(names.WORDS)
    assert [a for a in names.WORDS for b in names.WORDS if a != b and a in b] == []


def test_names_that_run_out():
    taken = {"a"}
    with pytest.raises(UsageError, match="a prompt with more than 1 names cannot be made"):
        names.fresh(lambda _: "a", Draws(0, "test"), taken)


@given(st.lists(st.integers(), max_size=30), st.integers(0, 99))
def test_shuffled_has_all_options(options, seed):
    assert sorted(Draws(seed, "test").shuffled(options)) == sorted(options)


def test_all_orders_are_equally_likely():
    orders = Counter(tuple(Draws(seed, "test").shuffled("abc")) for seed in range(1200))
    assert len(orders) == 6
    assert all(150 < often < 250 for often in orders.values())
