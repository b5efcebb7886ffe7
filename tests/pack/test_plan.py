from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import concat_by_stream, histogram_by_counting, room_left
from stores import part_of_nothing

from exactcpt.pipeline.core.selection import Quota, copies, is_validation, rank
from exactcpt.pipeline.core.shuffle import Purpose, permutation
from exactcpt.pipeline.pack.documents import Documents, PartRef, PlanSettings, part_documents
from exactcpt.pipeline.pack.plan import (
    Group,
    GroupMember,
    make_groups,
    plan_group,
    plan_schema,
    plan_table,
)
from exactcpt.pipeline.tokens.store import PartIndex

SPLITS = {"train": False, "validation": True}


def settings_of(window: int = 8, packing: str = "concat", seed: int = 0) -> PlanSettings:
    return PlanSettings(
        window=window, packing=packing, validation_fraction=Fraction(1, 4), seed=seed
    )


def parts_of(documents: list[int], tokens: list[int] | None = None) -> list[PartRef]:
    """Parts with so many documents each."""
    firsts = np.cumsum([0, *documents]).tolist()
    return [
        part_of_nothing(
            part=f"{i:06d}-0000",
            source="ab"[i % 2],
            first_document=firsts[i],
            documents=n,
            tokens=tokens[i] if tokens else n,
        )
        for i, n in enumerate(documents)
    ]


# groups


wanted = st.fractions(0, 4, max_denominator=3)


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=20),
    st.tuples(wanted, wanted),
    st.integers(1, 300),
    st.integers(0, 9),
)
def test_groups_hold_every_copy_of_a_part_once_and_as_many_as_fit(
    tokens, copied, group_tokens, seed
):
    parts = parts_of([1] * len(tokens), tokens)
    quotas = dict(zip("ab", map(Quota, copied), strict=True))
    groups = make_groups(parts, quotas, group_tokens, seed)
    assert [group.ordinal for group in groups] == list(range(len(groups)))
    expected = [
        (part.part, copy)
        for part in parts
        for copy in range(10)
        if copy == 0 or copy < quotas[part.source].copies
    ]
    assert sorted((m.part.part, m.copy) for g in groups for m in g.members) == sorted(expected)
    order = [expected[i] for i in permutation(len(expected), seed, Purpose.PARTS).tolist()]
    size = {part.part: part.tokens for part in parts}
    for group in groups:
        places = [(member.part.first_document, member.copy) for member in group.members]
        assert places == sorted(places)
        assert group.tokens == sum(member.part.tokens for member in group.members)
        assert group.tokens <= group_tokens or len(group.members) == 1
        mine, order = order[: len(places)], order[len(places) :]
        assert set(mine) == {(member.part.part, member.copy) for member in group.members}
        if order:
            assert group.tokens + size[order[0][0]] > group_tokens


ONCE = {"a": Quota(Fraction(1)), "b": Quota(Fraction(1))}


def test_the_seed_orders_parts():
    parts = parts_of([1] * 50)
    orders = {
        tuple(group.members for group in make_groups(parts, ONCE, 1, seed)) for seed in range(5)
    }
    assert len(orders) == 5


def test_copies_of_a_part_are_spread_over_the_run():
    """No part has its 40 copies side by side: every tenth of the run has some of them."""
    parts = parts_of([1] * 50)
    groups = make_groups(parts, {"a": Quota(Fraction(40)), "b": Quota(Fraction(1))}, 1, 0)
    members = [member for group in groups for member in group.members]
    tenth = len(members) // 10
    for part in parts[::2]:
        mine = [i // tenth for i, member in enumerate(members) if member.part == part]
        assert len(mine) == 40
        assert len(set(mine)) >= 8


# what selection decides of a part


@st.composite
def stored(draw):
    """Hashes and lengths of some documents, of which a part begins at `first`."""
    content = st.tuples(st.integers(0, 2**128 - 1), st.integers(1, 30))
    contents = draw(st.lists(content, max_size=12))
    first = draw(st.integers(0, 20))
    repeated = draw(st.sets(st.integers(0, first + len(contents) + 20), max_size=8))
    return contents, first, sorted(repeated)


@given(stored(), st.fractions(0, 3, max_denominator=4), st.integers(0, 3))
def test_selection_in_a_part(part, wanted, seed):
    contents, first, repeated = part
    ref = part_of_nothing(
        part="p", source="s", first_document=first, documents=len(contents), tokens=0
    )
    digests = b"".join(content.to_bytes(16, "big") for content, _ in contents)
    index = PartIndex(
        np.array([n for _, n in contents], np.int32), np.frombuffer(digests, "V16", len(contents))
    )
    limit = (2**63, first + 2)
    found = part_documents(
        ref,
        index,
        Quota(wanted, limit),
        np.array([first + i in repeated for i in range(len(contents))], bool),
        settings_of(seed=seed),
    )
    assert found.copies.dtype == np.int32
    for row, (content, length) in enumerate(contents):
        prefix = np.array([content >> 64], np.uint64)
        validates = bool(is_validation(prefix, Fraction(1, 4), seed)[0])
        number = np.array([first + row])
        if first + row in repeated:
            count = 0
        elif validates:
            count = 1
        else:
            count = int(copies(rank(prefix, seed), number, Quota(wanted, limit))[0])
        assert (
            found.index[row],
            found.lengths[row],
            found.validates[row],
            found.copies[row],
            found.repeated[row],
        ) == (first + row, length, validates, count, first + row in repeated)


# the plan of a group


@st.composite
def groups(draw):
    """A group, and of each part (length, copies, whether it validates) of every document."""
    window = draw(st.integers(2, 20))
    length = st.integers(1, 3 * window) | st.sampled_from([window, 2 * window])
    document = st.tuples(length, st.integers(0, 3), st.booleans())
    contents = draw(st.lists(st.lists(document, max_size=8), min_size=1, max_size=4))
    parts = parts_of([len(part) for part in contents])
    members = [GroupMember(part, copy) for part in parts for copy in range(4)]
    some = draw(st.sets(st.sampled_from(members), min_size=1) | st.just(set(members)))
    group = Group(draw(st.integers(0, 3)), tuple(m for m in members if m in some))
    return window, group, dict(zip(parts, contents, strict=True))


def all_of(parts: list[PartRef], ordinal: int = 0) -> Group:
    return Group(ordinal, tuple(GroupMember(part, copy) for part in parts for copy in range(3)))


def chosen(contents) -> Callable[[PartRef], Documents]:
    """The documents of each part; asking for a part twice is an error."""
    documents = {
        part.part: Documents(
            index=part.first_document + np.arange(part.documents),
            lengths=np.array([n for n, _, _ in mine], np.int32),
            validates=np.array([v for _, _, v in mine], bool),
            copies=np.array([c for _, c, _ in mine], np.int32),
            repeated=np.zeros(part.documents, bool),
        )
        for part, mine in contents.items()
    }
    return lambda part: documents.pop(part.part)


def occurrences(group: Group, contents, validation: bool) -> list[tuple[int, int, str]]:
    """Index in the store, length and source of each copy."""
    return [
        (part.first_document + row, length, part.source)
        for part, copy in ((member.part, member.copy) for member in group.members)
        for row, (length, count, validates) in enumerate(contents[part])
        if validates == validation and count > copy
    ]


def rows_of(table: pa.Table) -> list[list[tuple[int, int, int]]]:
    """The windows as lists of (document, offset, length), padding included."""
    return [
        list(zip(row["doc_index"], row["doc_offset"], row["seq_lengths"], strict=True))
        for row in table.to_pylist()
    ]


@given(groups(), st.sampled_from(["concat", "best_fit"]), st.integers(0, 5))
def test_every_token_appears_once_a_copy(some, packing, seed):
    window, group, contents = some
    plans = plan_group(group, chosen(contents), settings_of(window, packing, seed)).splits
    assert list(plans) == list(SPLITS)
    for split, plan in plans.items():
        expected = occurrences(group, contents, SPLITS[split])
        rows = rows_of(plan_table(plan))
        segments = [segment for row in rows for segment in row if segment[0] != -1]
        tokens = Counter((d, at + i) for d, at, n in segments for i in range(n))
        assert tokens == Counter((d, i) for d, n, _ in expected for i in range(n))
        if packing == "best_fit":
            assert len(segments) == sum(-(-n // window) for _, n, _ in expected)


@given(groups(), st.sampled_from(["concat", "best_fit"]))
def test_a_plan_adds_up(some, packing):
    window, group, contents = some
    planned = plan_group(group, chosen(contents), settings_of(window, packing))
    dropped = {source: {"duplicate": 0, "mixing": 0} for source in planned.dropped}
    for member in group.members:
        if member.copy == 0:
            zero = sum(count == 0 for _, count, _ in contents[member.part])
            dropped[member.part.source]["mixing"] += zero
    assert planned.dropped == dropped
    plans = planned.splits
    for split, plan in plans.items():
        expected = occurrences(group, contents, SPLITS[split])
        sources = {member.part.source for member in group.members}
        assert set(plan.by_source) == sources
        source_of = {d: source for d, _, source in expected}
        segments = [s for row in rows_of(plan_table(plan)) for s in row if s[0] != -1]
        for source in sources:
            mine = [n for _, n, of in expected if of == source]
            lengths = [n for d, _, n in segments if source_of[d] == source]
            assert plan.by_source[source] == {
                "documents": len(mine),
                "tokens": sum(mine),
                "targets": sum(lengths) - len(lengths),
                "histogram": histogram_by_counting(lengths, window),
            }
        pieces = Counter(plan.packing.document.tolist())
        assert len(pieces) == len(expected)
        assert plan.cut_documents == sum(n > 1 for n in pieces.values())


@given(groups(), st.integers(0, 5))
def test_the_order_is_that_of_the_permutations(some, seed):
    """Copies in the order of the store, shuffled, joined, cut; then the windows shuffled."""
    window, group, contents = some
    plans = plan_group(group, chosen(contents), settings_of(window, "concat", seed)).splits
    for number, (split, plan) in enumerate(plans.items()):
        copied = occurrences(group, contents, SPLITS[split])
        scope = (group.ordinal, number)
        order = permutation(len(copied), seed, Purpose.DOCUMENTS, *scope).tolist()
        shuffled = [copied[i] for i in order]
        windows = concat_by_stream([n for _, n, _ in shuffled], window)
        order = permutation(len(windows), seed, Purpose.WINDOWS, *scope).tolist()
        expected = []
        for i in order:
            room = room_left(windows[i], window)
            row = [(shuffled[d][0], offset, n) for d, offset, n in windows[i]]
            expected.append([*row, (-1, 0, room)] if room else row)
        assert rows_of(plan_table(plan)) == expected


@given(groups(), st.sampled_from(["concat", "best_fit"]))
def test_a_plan_table_has_the_shards_columns_and_full_windows(some, packing):
    window, group, contents = some
    planned = plan_group(group, chosen(contents), settings_of(window, packing))
    for plan in planned.splits.values():
        table = plan_table(plan)
        table.validate(full=True)
        assert table.schema == plan_schema(window)
        assert table.schema.names == ["seq_lengths", "doc_index", "doc_offset"]
        assert len(table) == plan.packing.windows
        for row in rows_of(table):
            assert sum(n for _, _, n in row) == window
            assert all(n > 0 for _, _, n in row)
            assert all(d != -1 for d, _, _ in row[:-1])
            assert row[0][0] != -1
            assert all(offset == 0 for d, offset, _ in row if d == -1)


def test_equal_plans_are_equal_and_seeds_differ():
    (part,) = parts_of([29])
    contents = {part: [(n, 1, False) for n in range(1, 30)]}

    def table(seed: int, ordinal: int = 0):
        some = all_of([part], ordinal)
        planned = plan_group(some, chosen(contents), settings_of(8, "concat", seed))
        return plan_table(planned.splits["train"])

    assert table(0).equals(table(0))
    assert not table(0).equals(table(1))
    assert not table(0).equals(table(0, ordinal=1))


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_a_split_without_documents_has_no_windows(packing):
    (part,) = parts_of([2])
    documents = chosen({part: [(5, 0, False), (5, 1, True)]})
    plan = plan_group(all_of([part]), documents, settings_of(4, packing)).splits["train"]
    assert plan.packing.windows == 0
    assert plan.packing.padding == 0
    assert plan.cut_documents == 0
    assert plan.by_source == {
        "a": {"documents": 0, "tokens": 0, "targets": 0, "histogram": [0]},
    }
    assert len(plan_table(plan)) == 0
