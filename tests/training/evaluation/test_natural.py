"""The task `natural`, searched again in its haystack, prompt by prompt."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import xxhash
from evaluations import DATA, HandMade, Unigram, last_place
from hypothesis import given, settings
from hypothesis import strategies as st

from exactcpt.schemas.errors import UsageError
from exactcpt.training.evaluation.assemble import DOCUMENT, distances, nearest, shown_distances
from exactcpt.training.evaluation.config import ABLATIONS, EvaluateConfig
from exactcpt.training.evaluation.facts import ALTERNATIVES
from exactcpt.training.evaluation.haystack import stream_of
from exactcpt.training.evaluation.items_only import write_items
from exactcpt.training.evaluation.probe import item_table, probe_items
from exactcpt.training.evaluation.results import content_digest
from exactcpt.training.evaluation.scoring import answer_scores

IDS = 4096
GAP = (1, 1)


def text_of(seed, tokens):
    """A document of frequent and rare tokens; some of its sequences come back later."""
    draw = np.random.default_rng(seed)
    rare = draw.random(tokens) < 0.5
    text = np.where(rare, draw.integers(12, IDS, tokens), draw.integers(2, 12, tokens))
    for _ in range(tokens // 20):
        size = int(draw.integers(2, 9))
        back = int(2 ** draw.uniform(4, math.log2(tokens))) + size
        if back + size < tokens:
            at = int(draw.integers(back, tokens - size))
            text[at : at + size] = text[at - back : at - back + size]
    return text.astype(np.int32)


def hay(seed=0, lengths=(900, 40, 500), bos=()):
    texts = [text_of(100 * seed + n, length) for n, length in enumerate(lengths)]
    return stream_of("made up", texts, GAP, bos)


HAYSTACK = hay()


def items(haystack=HAYSTACK, length=256, count=5, seed=0, ablation="replace"):
    made = probe_items(
        ("natural",), haystack, lambda _: (), length=length, count=count, seed=seed,
        ablation=ablation,
    )  # fmt: skip
    return list(made)


def places_of(wanted, haystack):
    """Every document and place where a sequence stands; slow."""
    wanted = list(wanted)
    return [
        (start, at)
        for start, stop in haystack.spans.tolist()
        for at in range(start, stop - len(wanted) + 1)
        if haystack.ids[at : at + len(wanted)].tolist() == wanted
    ]


def check(item, haystack, length, ablation):
    """Everything that a prompt of `natural` promises."""
    prompt, fact = item.prompt, item.prompt.fact
    stated, ablated = (prompt.ids(ablated=each).tolist() for each in (False, True))
    bos, size = haystack.bos, len(fact.gold)
    assert 2 <= size <= 6
    assert fact.question == ()
    assert fact.evidence == fact.gold
    # The prompt is the document before the answer, whole or as long as it may be.
    assert tuple(stated[: len(bos)]) == bos
    ((start, first), (same, second)) = places_of(fact.gold, haystack)
    assert start == same
    text = haystack.ids[second + len(bos) - len(stated) : second].tolist()
    assert stated[len(bos) :] == text
    cut = second - len(text)
    assert len(stated) + size <= length
    assert cut == start or (cut > start and len(stated) + size == length)
    # The evidence is the gold's only occurrence.
    assert prompt.evidence == (first - cut + len(bos), first - cut + len(bos) + size)
    assert last_place(stated, fact.gold) == prompt.evidence[0]
    assert prompt.distance == second - (first + size - 1)
    # The repetition begins with it, and ends with it unless it is long.
    ids = haystack.ids.tolist()
    assert first == start or ids[first - 1] != ids[second - 1]
    stop = next(stop for begin, stop in haystack.spans.tolist() if begin == start)
    assert size == 6 or second + size == stop or ids[first + size] != ids[second + size]
    # Nothing else differs, and no answer is in any other place.
    begin, end = prompt.evidence
    assert stated[:begin] + stated[end:] == ablated[:begin] + ablated[end:]
    assert len({fact.gold, *fact.alternatives}) == 1 + ALTERNATIVES
    assert last_place(ablated, fact.gold) is None
    for other in fact.alternatives:
        assert len(other) == size
        assert len(places_of(other, haystack)) == 1
        assert last_place(stated, other) is None
        assert last_place(ablated, other) is None
    # What stands in the evidence's place.
    places = places_of(ablated[begin:end], haystack)
    assert any(at >= second + size or at + size <= cut for _, at in places)
    if ablation == "remove":
        assert fact.replacement is None
    else:
        assert fact.replacement == tuple(ablated[begin:end])
        assert len(places) == 1
    if ablation == "swap":
        ((of, at),) = places
        assert at > of
        assert ids[at - 1] == ids[first - 1]


@pytest.mark.parametrize("ablation", ABLATIONS)
@settings(max_examples=12)
@given(
    seed=st.integers(0, 99),
    length=st.sampled_from([128, 200, 256, 700]),
    bos=st.sampled_from([(), (0,)]),
)
def test_every_promise(ablation, seed, length, bos):
    haystack = hay(seed, lengths=(400, 20, 300), bos=bos)
    made = items(haystack, length, count=2, seed=seed, ablation=ablation)
    assert made
    for item in made:
        assert (item.task, item.context) == ("natural", "document")
        check(item, haystack, length, ablation)


def test_every_place_is_found_once():
    """As many numbers as are asked for, of each distance all places in some order."""
    made = items(count=1000)
    exact = HAYSTACK.repeats
    fits = exact.second - exact.first + exact.size <= 256
    distance = exact.second - exact.first - exact.size + 1
    expected = sorted(distance[fits & (distance >= 23)].tolist())
    assert sorted(item.prompt.distance for item in made) == expected
    assert len({item.prompt.fact.gold for item in made}) == len(made)
    shown = nearest(np.array([item.prompt.distance for item in made]), 256)
    for distance in distances(256):
        numbers = [i.number for i, d in zip(made, shown, strict=True) if d == distance]
        assert numbers == [*range(len(numbers))]
    assert {*shown.tolist()} == {*distances(256)}


def test_an_item_is_the_same_whatever_their_number():
    few, many = ([i for i in items(count=n) if i.number < 3] for n in (3, 7))
    assert item_table(few, 256).equals(item_table(many, 256))
    for one, other in zip(few, many, strict=True):
        assert np.array_equal(one.prompt.ids(ablated=True), other.prompt.ids(ablated=True))


def test_items_are_the_same_for_ever():
    """If this fails, give the suite a higher version: old results would be compared with new."""
    text = np.arange(3000) ** 2 % 4093 + 2
    for size in (2, 3, 5, 9):
        for start in range(20 * size, 2500, 97):
            text[start + 20 * size : start + 21 * size] = text[start : start + size]
    made = items(stream_of("made up", [text[:1700], text[1700:]], GAP))
    assert len(made) == 20
    assert content_digest(item_table(made, 256)) == "7102719588b61857f898fe212b7693cc"
    prompts = [item.prompt.ids(ablated=True) for item in made]
    assert xxhash.xxh3_64_hexdigest(np.concatenate(prompts).astype("<i4").tobytes()) == (
        "e959aca21737e538"
    )


def test_other_seeds_and_lengths_give_other_items():
    tables = [item_table(items(seed=s, length=n), 0) for s, n in ((0, 256), (1, 256), (0, 300))]
    assert len({content_digest(table) for table in tables}) == 3


def test_the_places_are_the_same_whatever_the_ablation():
    """Where none is passed over: what is drawn for one place does not change which is next."""
    golds = [[i.prompt.fact.gold for i in items(ablation=name)] for name in ("replace", "remove")]
    assert golds[0] == golds[1]


def test_documents_without_rare_sequences_have_no_items():
    assert items(stream_of("made up", [[2, 3, 4] * 200], GAP)) == []
    assert items(stream_of("made up", [], GAP)) == []


def test_a_place_without_alternatives_is_passed_over():
    """All that the haystack has besides the prompt is one sequence of two tokens."""
    document = [*range(20, 50), 7, 8, *range(50, 90), 7, 8]
    assert items(stream_of("made up", [document, [60, 99]], GAP)) == []
    assert len(items(stream_of("made up", [document, [*range(100, 140)]], GAP))) == 1


def test_few_alternatives_are_found():
    """Of a thousand places, twenty have a sequence of two tokens that stands once."""
    document = [*range(20, 50), 7, 8, *range(50, 90), 7, 8]
    others = [*[2, 3] * 600, *range(100, 120)]
    for seed in range(5):
        for ablation in ABLATIONS[::2]:
            haystack = stream_of("made up", [document, others], GAP)
            (item,) = items(haystack, seed=seed, ablation=ablation)
            check(item, haystack, 256, ablation)


def test_a_replacement_does_not_make_an_alternative_of_its_surroundings():
    """`remove` draws tokens again that would state an answer together with those beside them."""
    for seed in range(30):
        document = [*range(20, 40), 2, 3, *range(50, 90), 2, 3]
        others = [n for n in range(100, 112) for _ in (0, 1)] + [39, 2, 3 + 50] * 3
        haystack = stream_of("made up", [document, others], GAP)
        for item in items(haystack, seed=seed, ablation="remove"):
            check(item, haystack, 256, "remove")


# What is said of a haystack with few places


def told(folder, text, tasks=("natural",)):
    """What `evaluate --items-only` says of a text file, and the items that it writes."""
    book = folder / "book.txt"
    book.write_text(text)
    lines = []
    config = EvaluateConfig(
        models=(), tasks={"probe": tasks}, lengths=(128,), items=9, haystack=str(book),
        tokenizer=str(DATA / "tokenizer.json"), out=str(folder / "out"), items_only=True,
    )  # fmt: skip
    (written,) = write_items(config, lines.append)
    return lines, pq.read_table(written / "items.parquet")


PROPOSALS = DATA / "proposals.jsonl"
OTHERS = " ".join(f"{n:,} {n * n}." for n in range(3, 300, 7))


def test_fewer_items_are_told(tmp_path):
    """One document, in which one name comes back."""
    text = f"{OTHERS} Zanzibar Quixote {OTHERS[::-1][:60]} Zanzibar Quixote"
    lines, items = told(tmp_path, text)
    assert 0 < len(items) < 18
    assert (
        f"caution: natural has only {len(items)} of 18 items of 128 tokens: the haystack has no "
        "more places where a rare sequence of tokens comes back at such distances"
    ) in lines


def test_enough_items_are_not_worth_a_word(tmp_path):
    text = "\n".join(json.loads(line)["text"] for line in PROPOSALS.read_text().splitlines())
    lines, items = told(tmp_path, text)
    assert len(items) == 18
    assert not [line for line in lines if "natural" in line]


def test_no_items_at_all(tmp_path):
    with pytest.raises(UsageError) as raised:
        told(tmp_path, "All work and no play makes Jack a dull boy. " * 40)
    assert raised.value.found == (
        "no item of the task natural can be made: no sequence of tokens comes back in 128 tokens "
        "of a document and stands nowhere else"
    )


def test_without_places_other_tasks_have_items(tmp_path):
    """A default that takes all tasks does not fail for this one."""
    lines, items = told(
        tmp_path, "All work and no play makes Jack a dull boy. " * 40, ("code", "natural")
    )
    assert {*items["task"].to_pylist()} == {"code"}
    assert [line for line in lines if "natural has only 0 of 18 items" in line]


# Distances


@given(st.data())
def test_the_nearest_distance(data):
    """Edges are geometric means: the examples are near them."""
    length = data.draw(st.integers(128, 5000))
    grid = distances(length)
    edge = math.sqrt(math.prod(data.draw(st.sampled_from(list(pairwise(grid))))))
    exact = round(edge * data.draw(st.floats(0.8, 1.25)))
    found = int(nearest(np.array(exact), length))
    gap = {d: abs(math.log2(exact) - math.log2(d)) for d in grid}
    assert found in grid
    assert gap[found] == pytest.approx(min(gap.values()))


def test_distances_of_facts_are_on_the_grid_and_too_short_ones_nowhere():
    grid = np.array(distances(4096))
    assert np.array_equal(nearest(grid, 4096), grid)
    assert nearest(np.array([1, 22, 23, 45, 46, 2873, 2874]), 4096).tolist() == [
        0, 0, 32, 32, 64, 2048, 4032,
    ]  # fmt: skip


def test_only_natural_distances_are_shown_elsewhere():
    exact, context = np.array([8, 30, 70]), np.array(["fixed", DOCUMENT, DOCUMENT])
    assert shown_distances(exact, context, 4096).tolist() == [8, 32, 64]


# Models made by hand


class Inducing(HandMade):
    """Goes on as it did after the same token the last time; else it has no idea."""

    def after(self, sequence):
        found = torch.zeros(self.vocabulary, dtype=torch.float64)
        seen = last_place(sequence[:-1], sequence[-1:])
        if seen is not None:
            found[sequence[seen + 1]] = 1e4
        return found


def once_again(seed, size=3, tokens=150):
    """Different tokens, of which some come back at the end; others follow the token before them."""
    text = np.random.default_rng(seed).permutation(np.arange(2, IDS))[: tokens + 50]
    text, rest = text[:tokens].copy(), text[tokens:]
    text[-size:] = text[40 : 40 + size]
    rest[[10, 30]] = text[39]
    return stream_of("made up", [text, rest], GAP)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_what_an_inducing_model_gains_is_all_that_follows_from_the_first_token(ablation):
    for seed in range(5):
        (item,) = items(once_again(seed), ablation=ablation)
        stated, ablated = scores(Inducing(IDS), item)
        assert stated[0] - ablated[0] == pytest.approx(2 * math.log(IDS))
        assert stated[0] > stated[1:].max()
        assert ablated[0] == pytest.approx(-3 * math.log(IDS))


def test_what_a_unigram_model_gains_is_nothing():
    for item in items():
        stated, ablated = scores(Unigram(IDS), item)
        assert np.array_equal(stated, ablated)


def scores(model, item):
    answers = [[item.prompt.fact.gold, *item.prompt.fact.alternatives]]
    return [
        answer_scores(model, [item.prompt.ids(ablated=each)], answers)[0] for each in (False, True)
    ]


def test_the_check_sees_every_broken_promise():
    """Each change of an item breaks one."""
    item = next(i for i in items() if i.prompt.distance > 60)
    prompt, fact = item.prompt, item.prompt.fact
    check(item, HAYSTACK, 256, "replace")
    gold, *others = fact.gold, *fact.alternatives
    broken = [
        {"before": prompt.before[1:]},
        {"between": prompt.between[1:]},
        {"between": np.append(prompt.between, prompt.between[0])},
        {"bos": (3,)},
        {"fact": replace(fact, replacement=gold)},
        {"fact": replace(fact, replacement=others[0])},
        {"fact": replace(fact, replacement=(*others[0], 5))},
        {"fact": replace(fact, alternatives=(gold, *others[1:]))},
        {"fact": replace(fact, alternatives=tuple(others[1:]))},
        {"fact": replace(fact, question=gold)},
        {"fact": replace(fact, gold=others[0], evidence=others[0])},
    ]
    for change in broken:
        with pytest.raises((AssertionError, ValueError)):
            check(replace(item, prompt=replace(prompt, **change)), HAYSTACK, 256, "replace")
