"""A set with supervised spans is worked out again, and every damage to them is found."""

import copy
import shutil
from pathlib import Path

import pytest
from handmade import (
    Corpus,
    Document,
    adopt_store,
    edit_manifest,
    edit_part,
    edit_shard,
    write_shards,
    write_store,
)

from exactcpt.pipeline.verify import verify
from exactcpt.schemas import shard

SHARD = "train/shard-00000-of-00002.arrow"
DOCUMENTS = [
    Document(40, answers=((30, 40),)),
    Document(90, answers=((3, 5), (9, 10), (80, 90))),
    Document(7),
    Document(3, answers=((0, 3),)),
    Document(66, answers=((64, 66),), copies=2),
    Document(150, answers=((149, 150),), copies=2),
    Document(12, split="validation", answers=((6, 12),)),
    Document(20, answers=((0, 1), (19, 20)), copies=2),
]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("verify-answers")
    corpus = Corpus([("a", DOCUMENTS[:4]), ("b", DOCUMENTS[4:])], mixing={"b": 2.0})
    write_store(folder / "store", corpus)
    write_shards(folder / "shards", corpus, folder / "store")
    return folder


@pytest.fixture
def folder(original, tmp_path) -> Path:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path


def problems(folder: Path, *, store: bool = False) -> dict[str, list[str]]:
    report = verify(str(folder / "shards"), str(folder / "store") if store else None)
    found: dict[str, list[str]] = {}
    for finding in report.findings:
        words = f"{finding.where}: {finding.found}, not {finding.expected}"
        found.setdefault(finding.check, []).append(words)
    return found


def test_a_good_set(folder):
    assert problems(folder, store=True) == {}


def change(columns, edit):
    spans = copy.deepcopy(columns[shard.SUPERVISED])
    edit(spans)
    columns[shard.SUPERVISED] = spans


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda s: s[0].insert(0, {"start": -1, "stop": 2}), "-1 to 2, not a run of the"),
        (lambda s: s[0].append({"start": 63, "stop": 65}), "63 to 65, not a run of the"),
        (lambda s: s[0].append({"start": 5, "stop": 5}), "5 to 5, not a run of the"),
        (lambda s: s[0].append({"start": 0, "stop": 2}), "not in rising order, apart"),
        (lambda s: s[0].reverse(), "not in rising order, apart"),
        (lambda s: s[0].append(dict(s[0][-1])), "not in rising order, apart"),
        (lambda s: s[0][0].update(stop=41), "not inside of one segment"),
    ],
)
def test_spans_that_are_none(folder, edit, says):
    edit_shard(folder / "shards", SHARD, lambda c: change(c, edit))
    assert any(says in words for words in problems(folder)["segments"])


def test_a_span_in_padding(folder):
    path = "validation/shard-00000-of-00001.arrow"
    edit = lambda s: s[0].append({"start": 20, "stop": 30})  # noqa: E731
    edit_shard(folder / "shards", path, lambda c: change(c, edit))
    assert any("none in padding" in words for words in problems(folder)["segments"])


@pytest.mark.parametrize("to", [31, 29])
def test_a_span_that_is_not_that_of_the_codes(folder, to):
    """One token less, or one more: its code does not fit."""
    edit_shard(folder / "shards", SHARD, lambda c: change(c, lambda s: s[0][0].update(start=to)))
    found = problems(folder)
    assert {*found} == {"codes", "histogram"}
    assert f"position {min(to, 30)}" in found["codes"][0]


@pytest.mark.parametrize(("at", "code"), [(35, 0), (20, 2), (0, 1)])
def test_a_code_that_is_not_that_of_the_spans(folder, at, code):
    """No target in an answer; a target in a question; the first token of a segment."""

    def edit(columns):
        columns["codes"][0][at] = code

    edit_shard(folder / "shards", SHARD, edit)
    found = problems(folder)
    assert {*found} == {"codes"}
    assert f"position {at}: code {code}" in found["codes"][0]


def test_spans_and_codes_that_agree_are_compared_with_the_store(folder):
    def edit(columns):
        change(columns, lambda s: s[0][0].update(start=31))
        columns["codes"][0][30] = 0

    edit_shard(folder / "shards", SHARD, edit)

    def one_less(manifest):
        for counts in (manifest["splits"], manifest["sources"][0]["splits"]):
            counts["train"]["histogram"][2] -= 1
            counts["train"]["targets"] -= 1

    edit_manifest(folder / "shards", one_less)
    found = problems(folder, store=True)
    assert [w for w in found["store"] if "other supervised spans from token 30" in w]
    assert "store" not in problems(folder)


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [{"start": 0, "stop": 41}],
        [{"start": -1, "stop": 2}],
        [{"start": 2, "stop": 2}],
        [{"start": 1, "stop": 3}, {"start": 3, "stop": 4}],
        [{"start": 5, "stop": 6}, {"start": 1, "stop": 2}],
    ],
)
def test_an_index_with_spans_that_are_none(folder, spans):
    def edit(_, index):
        index[shard.SUPERVISED][0] = spans

    edit_part(folder / "store", 0, edit)
    adopt_store(folder / "shards", folder / "store")
    found = problems(folder, store=True)["store"]
    assert any("supervised spans that are none" in words for words in found)


def test_the_version_follows_from_the_sources(folder):
    def edit(manifest):
        manifest["settings"]["tokenize"]["sources"] = {"a": {"text": "t"}}

    edit_manifest(folder / "shards", edit)
    assert "manifest.json: format_version: 2, not 1" in problems(folder)["schema"]
    edit_manifest(folder / "shards", lambda m: m.update(format_version=1))
    found = problems(folder)["schema"]
    assert any("supervised" in words for words in found)
    assert not any("format_version" in words for words in found)


@pytest.mark.parametrize("sources", [[], {"a": None}, {"a": []}, "x"])
def test_settings_of_strangers(folder, sources):
    edit_manifest(folder / "shards", lambda m: m["settings"]["tokenize"].update(sources=sources))
    assert "manifest.json: format_version: 2, not 1" in problems(folder)["schema"]


def test_a_set_of_version_2_without_the_column(folder):
    edit_shard(folder / "shards", SHARD, lambda c: c.pop(shard.SUPERVISED))
    assert any("supervised" in words for words in problems(folder)["schema"])
