"""Needles that share no word with the question that needs them."""

import re
from itertools import combinations

import numpy as np
import pytest
from evaluations import vocabulary

from exactcpt.training.evaluation.draws import Draws
from exactcpt.training.evaluation.latent.kinds import CATEGORIES
from exactcpt.training.evaluation.latent.needles import BUDGET, MAKERS
from exactcpt.training.evaluation.ruler.drafts import Page
from exactcpt.training.evaluation.ruler.prose import Prose

LENGTH = 600
COMMON = {"a", "an", "the", "of", "to", "on", "with", "is", "person"}

NEEDLE = re.compile(r"Last week (\w+) bought the (\w+)\.")
QUESTION = re.compile(r"Which person owns (.+)\?")


def page(length: int = LENGTH) -> Page:
    words = vocabulary()
    pieces = [words.piece(f" On day {n} nothing happened at all.") for n in range(300)]
    return Page(
        encode=words.piece,
        bos=(),
        length=length,
        budget=BUDGET,
        prose=Prose(
            name="made up",
            ids=np.array([i for piece in pieces for i in piece], np.int32),
            bounds=np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]),
        ),
    )


def drafted(task: str, number: int):
    draft = MAKERS[task](page(), Draws(0, task, LENGTH, number))
    assert draft is not None
    return draft, vocabulary().tokenizer.decode(draft.ids(()).tolist())


def test_no_kind_is_of_two_categories():
    kinds = [kind for each in CATEGORIES.values() for kind in each]
    assert len({*kinds}) == len(kinds)
    assert all(len(each) >= 5 for each in CATEGORIES.values())


def test_no_category_names_a_kind():
    for category, kinds in CATEGORIES.items():
        words = {*re.findall(r"\w+", category)} - COMMON
        for other in (category, *CATEGORIES):
            assert not words & {*CATEGORIES.get(other, ())}, (category, kinds)
        assert not any(kind in category for kind in kinds)


@pytest.mark.parametrize("task", MAKERS)
@pytest.mark.parametrize("number", range(8))
def test_the_question_shares_no_word_with_the_needle_and_knowledge_answers_it(task, number):
    draft, text = drafted(task, number)
    (category,) = QUESTION.findall(text)
    bought = {kind: person for person, kind in NEEDLE.findall(text)}
    assert len(bought) == {"alone": 1, "among": 8}[task]
    (owner,) = (person for kind, person in bought.items() if kind in CATEGORIES[category])
    assert draft.gold == (owner,)
    asked = {*re.findall(r"\w+", text[text.index("Question:") :].lower())} - COMMON
    assert not asked & {*re.findall(r"\w+", " ".join(m[0] for m in NEEDLE.finditer(text)).lower())}


@pytest.mark.parametrize("number", range(8))
def test_the_other_names_are_those_of_the_other_needles(number):
    draft, text = drafted("among", number)
    encode = vocabulary().piece
    people = [person for person, _ in NEEDLE.findall(text)]
    assert sorted(draft.answers) == sorted(tuple(encode(f" {person}")) for person in people)
    alone, text = drafted("alone", number)
    decode = vocabulary().tokenizer.decode
    assert not any(decode([*answer]).strip() in text for answer in alone.answers[1:])


@pytest.mark.parametrize("task", MAKERS)
def test_prompt_and_answer_have_at_most_the_length_and_nearly_all_of_it(task):
    for number in range(4):
        draft, _ = drafted(task, number)
        assert 0.95 * LENGTH < len(draft.ids(())) + BUDGET <= LENGTH
        (evidence,) = draft.evidence(())
        decode = vocabulary().tokenizer.decode
        said = decode(draft.ids(())[evidence.start : evidence.stop].tolist())
        assert draft.gold[0] in said


def test_a_length_without_room():
    assert MAKERS["among"](page(150), Draws(0, "among")) is None


def test_needles_are_of_different_categories_and_come_in_any_order():
    firsts = set()
    for number in range(20):
        draft, text = drafted("among", number)
        kinds = [kind for _, kind in NEEDLE.findall(text)]
        categories = [next(c for c, all_ in CATEGORIES.items() if k in all_) for k in kinds]
        assert all(a != b for a, b in combinations(categories, 2))
        firsts.add([person for person, _ in NEEDLE.findall(text)].index(draft.gold[0]))
    assert len(firsts) > 4
