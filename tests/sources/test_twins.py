import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources.twins import twins


@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        (["a.jsonl"], {}),
        (["a.jsonl", "a.jsonl.gz"], {"a.jsonl.gz": "a.jsonl"}),
        (
            ["a.jsonl.zst", "a.jsonl.gz", "a.jsonl"],
            {"a.jsonl.zst": "a.jsonl", "a.jsonl.gz": "a.jsonl"},
        ),
        (["a.jsonl.zst", "a.jsonl.gz"], {"a.jsonl.zst": "a.jsonl.gz"}),
        (["a.jsonl", "a.jsonl.GZ"], {"a.jsonl.GZ": "a.jsonl"}),
        (["part-0", "part-0.gz"], {"part-0.gz": "part-0"}),
        (["x/a.jsonl", "y/a.jsonl.gz"], {}),
        (["a.jsonl", "A.jsonl.gz"], {}),
        (["a.txt", "a.jsonl.gz"], {}),
        (["empty.jsonl", "empty.jsonl.gz"], {"empty.jsonl": "empty.jsonl.gz"}),
    ],
)
def test_one_of_the_same_files_is_read(names: list[str], left_out: dict[str, str]) -> None:
    assert twins(names, "empty.jsonl".__eq__) == left_out


NAMES = st.builds(
    "{}{}".format, st.sampled_from(["a.jsonl", "b.txt", "s/a.jsonl"]), st.sampled_from(["", ".gz"])
)


@given(names=st.sets(NAMES), empty=st.sets(NAMES))
def test_something_is_read_of_every_name(names: set[str], empty: set[str]) -> None:
    left_out = twins(sorted(names), empty.__contains__)
    read = names - set(left_out)
    assert {name.removesuffix(".gz") for name in read} == {n.removesuffix(".gz") for n in names}
    assert len(read) == len({name.removesuffix(".gz") for name in read})
    assert set(left_out.values()) <= read
    assert set(left_out) <= names
