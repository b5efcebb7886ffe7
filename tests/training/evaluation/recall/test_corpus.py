"""The documents of a world, read back word by word."""

import json
import math
from collections import Counter
from itertools import pairwise

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from recall_worlds import slots_of, small_world

from exactcpt.schemas.errors import UsageError
from exactcpt.training.evaluation.recall.config import WorldConfig
from exactcpt.training.evaluation.recall.corpus import documents, write_world
from exactcpt.training.evaluation.recall.lengths import Lengths
from exactcpt.training.evaluation.recall.world import CHAIN, NEW, PAIRS, draw_world

WORLD = small_world()
LENGTHS = Lengths(tau=64, window=256, long_share=0.5)
MADE = list(documents(WORLD, LENGTHS, tokens=80_000, seed=0, corpus="x"))


def is_near(found: int, count: int, probability: float) -> bool:
    """Whether a count is within four standard deviations of what a probability makes of it."""
    return abs(found - count * probability) <= 4 * math.sqrt(
        count * probability * (1 - probability)
    )


def test_every_document_is_of_the_language():
    for ids in MADE:
        value_of: dict[int, int] = {}
        last = None
        for slot in slots_of(WORLD, ids):
            if len(slot) == 1:
                assert last is None or slot[0] in WORLD.successors[last]
                last = slot[0]
            else:
                key, value = slot
                assert value_of.setdefault(key, value) == value
                last = WORLD.fillers + key


def test_the_probabilities_are_those_that_are_said():
    """Slots, new keys, values, keys that are asked for, first fillers, successors."""
    kinds, fresh, values, asked, ranks, first = (Counter() for _ in range(6))
    asks = Counter()
    for ids in MADE:
        known: list[int] = []
        last = None
        for slot in slots_of(WORLD, ids):
            kinds[len(slot)] += 1
            if len(slot) == 1:
                if last is None:
                    first[slot[0]] += 1
                else:
                    ranks[WORLD.successors[last].index(slot[0])] += 1
                last = slot[0]
                continue
            key, value = slot
            if known and len(known) < WORLD.keys:
                fresh[key not in known] += 1
            if key in known:
                asks[len(known)] += 1
                asked[len(known), known.index(key)] += 1
            else:
                known.append(key)
                values[value] += 1
            last = WORLD.fillers + key
    assert is_near(kinds[2], kinds.total(), PAIRS)
    assert is_near(fresh[True], fresh.total(), NEW)
    assert all(is_near(values[v], values.total(), 1 / WORLD.values) for v in range(WORLD.values))
    assert all(is_near(first[f], first.total(), 1 / WORLD.fillers) for f in range(WORLD.fillers))
    assert all(is_near(ranks[r], ranks.total(), p) for r, p in enumerate(CHAIN))
    for m in range(1, WORLD.keys + 1):
        assert asks[m] > 100
        assert all(is_near(asked[m, i], asks[m], 1 / m) for i in range(m))


def test_a_key_comes_back_as_often_as_any_other():
    """With all keys known, the next pair has the same one with probability 1 / K."""
    same = pairs = 0
    for ids in MADE:
        keys = [slot[0] for slot in slots_of(WORLD, ids) if len(slot) == 2]
        firsts = {key: keys.index(key) for key in {*keys}}
        if len(firsts) == WORLD.keys:
            after = keys[max(firsts.values()) :]
            same += sum(a == b for a, b in pairwise(after))
            pairs += len(after) - 1
    assert pairs > 1000
    assert is_near(same, pairs, 1 / WORLD.keys)


@settings(max_examples=30)
@given(
    tau=st.integers(16, 100), more=st.integers(2, 200), share=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_documents_are_as_long_as_they_may_be(tau, more, share, seed):
    window = max(128, tau + more)
    lengths = Lengths(tau=tau, window=window, long_share=share)
    made = documents(WORLD, lengths, tokens=600, seed=seed, corpus="x")
    counts = [len(ids) + 1 for ids in made]  # with the end token
    assert all(tau // 4 < n <= window for n in counts)
    assert share > 0 or max(counts) <= tau
    assert share < 1 or min(counts) > tau
    assert sum(counts[:-1]) < 600 <= sum(counts)


def test_the_share_of_long_documents():
    assert is_near(sum(len(ids) >= 64 for ids in MADE), len(MADE), 0.5)


def test_a_document_is_the_same_however_many_there_are():
    few = list(documents(WORLD, LENGTHS, tokens=1000, seed=0, corpus="x"))
    assert few == MADE[: len(few)]


def test_documents_differ_by_seed_and_corpus():
    ways = [(0, "x"), (1, "x"), (0, "y")]
    made = [
        next(documents(WORLD, LENGTHS, tokens=1, seed=seed, corpus=corpus)) for seed, corpus in ways
    ]
    assert len({tuple(ids) for ids in made}) == 3


FEW = WorldConfig(short=3000, mixed=5000, long_share=0.2)


def test_a_world_on_the_disk(tmp_path):
    said: list[str] = []
    short, mixed = write_world(tmp_path / "world", FEW, said.append)
    folder = tmp_path / "world"
    assert {path.name for path in folder.rglob("*")} == {
        "world.json", "short.jsonl", "mixed.jsonl", "tokenizer", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    assert not (tmp_path / "world.partial").exists()
    assert said == [
        f"{each.name}: {each.documents:,} documents, {each.tokens:,} tokens"
        for each in (short, mixed)
    ]
    record = json.loads((folder / "world.json").read_text())
    assert record["corpora"] == [short.record(), mixed.record()]
    for corpus, longest in ((short, 128), (mixed, 512)):
        path = folder / f"{corpus.name}.jsonl"
        assert xxhash.xxh3_128_hexdigest(path.read_bytes()) == corpus.xxh3_128
        texts = [json.loads(line)["text"].split() for line in path.read_text().splitlines()]
        assert len(texts) == corpus.documents
        assert sum(map(len, texts)) + len(texts) == corpus.tokens
        assert max(map(len, texts)) < longest
    assert {*texts[0]} <= {*draw_world(fillers=16, keys=24, values=24, seed=0).words}


def test_the_same_settings_give_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        write_world(tmp_path / name, FEW, lambda _: None)
    one, other = (
        {p.relative_to(at): p.read_bytes() for p in sorted(at.rglob("*")) if p.is_file()}
        for at in (tmp_path / "one", tmp_path / "other")
    )
    assert one == other


def test_corpora_are_the_same_for_ever(tmp_path):
    """If this fails, models would be compared that were trained on different texts."""
    corpora = write_world(tmp_path / "world", FEW, lambda _: None)
    digest = json.loads((tmp_path / "world" / "world.json").read_text())["digest"]
    assert [digest, *(corpus.xxh3_128 for corpus in corpora)] == GOLDEN


GOLDEN = [
    "0f5ad8d8f17432c6b7b380101490433b",
    "bd49f56a2f8097c420c0bd0b0b804639",
    "09fc26c3ab1f8a931c7c279e56d8763c",
]


def test_what_an_interruption_left_is_written_again(tmp_path):
    left = tmp_path / "world.partial"
    left.mkdir()
    (left / "short.jsonl").write_text("half a li")
    write_world(tmp_path / "world", FEW, lambda _: None)
    assert not left.exists()
    assert (tmp_path / "world" / "world.json").is_file()


def test_a_failure_leaves_nothing(tmp_path):
    def fail(line):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_world(tmp_path / "world", FEW, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_refused(tmp_path):
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="the folder to write exists"):
        write_world(tmp_path / "world", FEW, lambda _: None)
    assert (tmp_path / "world" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("changed", "found", "expected"),
    [
        ({"values": 9}, "values is 9", "10 to 1,048,576"),
        ({"keys": 2}, "keys is 2", "3 to 1,048,576"),
        ({"fillers": 4}, "fillers is 4", "5 to 1,048,576"),
        ({"window": 127}, "window is 127", "128 to 1,048,576"),
        ({"tau": 15}, "tau is 15", "16 to 1,048,576"),
        ({"long_share": 1.1}, "long_share is 1.1", "0 to 1"),
        ({"short": 0}, "short is 0", "1 to 1,099,511,627,776"),
        ({"mixed": 0}, "mixed is 0", "1 to 1,099,511,627,776"),
        ({"seed": -1}, "seed is -1", "0 to 18,446,744,073,709,551,615"),
        (
            {"tau": 511},
            "tau is 511, window is 512",
            "a window of at least tau + 2 tokens: long documents are longer than tau",
        ),
    ],
)
def test_settings_that_make_no_world(tmp_path, changed, found, expected):
    with pytest.raises(UsageError) as raised:
        write_world(tmp_path / "world", WorldConfig(**changed), lambda _: None)
    assert (raised.value.found, raised.value.expected) == (found, expected)
    assert list(tmp_path.iterdir()) == []
