import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources.named_splits import ALL, choose_split, split_by_name


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("training-0.jsonl", "train"),
        ("data/train-00000-of-00005.parquet", "train"),
        ("data/train_sft-00000-of-00001-0123abcd.parquet", "train_sft"),
        ("data/en-00000-of-00052.parquet", "en"),
        ("train-00000-of-00005.parquet", "train"),
        ("en-00000-of-00052.parquet", None),
        ("c4-train.00000-of-01024.json.gz", "train"),
        ("c4-validation.00000-of-00008.json.gz", "validation"),
        ("val.jsonl.zst", "validation"),
        ("my_dev2.txt", "validation"),
        ("valid/a.jsonl", "validation"),
        ("test/a.jsonl", "test"),
        ("x/my-test/y/a.jsonl", "test"),
        ("evaluation_1/a.jsonl", "test"),
        ("testing 3.txt", "test"),
        ("test-drive-reviews.jsonl", "test"),
        ("training_manual.txt", "train"),
        # An inner folder tells more than an outer one, and a folder more than a file's name.
        ("training/test/a.jsonl", "test"),
        ("eval/train/a.jsonl", "train"),
        ("train/test.jsonl", "train"),
        # No separator, no split.
        ("tests/a.jsonl", None),
        ("latest.jsonl", None),
        ("contest/a.jsonl", None),
        ("trained.jsonl", None),
        ("value.jsonl", None),
        ("device/a.jsonl", None),
        ("Test.jsonl", None),
        ("test", None),
        ("a.jsonl", None),
        ("line\nbreak test.jsonl", "test"),
    ],
)
def test_what_a_name_tells(name: str, split: str | None) -> None:
    assert split_by_name(name) == split


PIECES = st.sampled_from(["train", "test", "val", "eval", "dev", "x", "s", "-", "_", ".", " ", "1"])
PARTS = st.lists(PIECES, min_size=1, max_size=5).map("".join).filter(lambda part: part.strip("."))


@given(folders=st.lists(PARTS, max_size=2), base=PARTS)
def test_as_datasets_does(folders: list[str], base: str) -> None:
    """A file of several splits, in the library, is here in one of them."""
    from datasets.data_files import (
        DEFAULT_PATTERNS_SPLIT_IN_DIR_NAME,
        DEFAULT_PATTERNS_SPLIT_IN_FILENAME,
    )
    from fsspec.utils import glob_translate

    name = "/".join([*folders, base])
    expected: set[str] = set()
    for patterns in (DEFAULT_PATTERNS_SPLIT_IN_DIR_NAME, DEFAULT_PATTERNS_SPLIT_IN_FILENAME):
        expected = expected or {
            str(split)
            for split, some in patterns.items()
            if any(re.match(glob_translate(pattern), name) for pattern in some)
        }
    found = split_by_name(name)
    assert found in expected if expected else found is None


@pytest.mark.parametrize(
    ("splits", "wanted", "read"),
    [
        ([None], None, [None]),
        (["train"], None, ["train"]),
        (["train", None], None, ["train", None]),
        (["train", "test", "validation", None], None, ["train", None]),
        (["train", "unsupervised"], None, ["train"]),
        (["test", None], None, [None]),
        (["test", "validation", None], None, [None]),
        (["test"], None, ["test"]),
        (["en"], None, ["en"]),
        (["en", None], None, ["en", None]),
        (["test", "validation"], None, []),
        (["en", "fr"], None, []),
        (["en", "test"], None, []),
        (["train_sft", "test_sft", None], None, []),
        ([None], "train", [None]),
        (["train", None, "test"], "train", ["train"]),
        (["train", None, "test"], "test", ["test"]),
        (["train", None, "test"], "dev", []),
        ([None], "test", []),
        (["train", None, "test"], ALL, ["train", None, "test"]),
    ],
)
def test_the_choice(splits: list[str | None], wanted: str | None, read: list[str | None]) -> None:
    files = {f"file of {split}": split for split in splits}
    choice = choose_split(files, wanted)
    assert choice.read == read
    assert choice.splits == {split: [f"file of {split}"] for split in splits}
