"""The command `show`, run as its users run it."""

import io
import json
import os
import re
import shutil
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pytest
import xxhash
from harness import done, run
from rich.cells import cell_len
from tokenizers import Tokenizer

from exactcpt.pipeline.cli import run_command
from exactcpt.pipeline.show.decoding import visible
from exactcpt.training.run.log import RunLog, write_run
from exactcpt.training.windows.order import windows_at

STORY = "The same words again and again, until the tail is reached. " * 12
TEXTS = {
    "story": STORY,
    "escape": "before \x1b[2J\x1b]0;title\x07 after\r\x9b31m \u202eback\u202c \x00 <b>&amp;</b>",
    "hebrew": "שלום עולם, זה טקסט מימין לשמאל\nבשתי שורות",
    "wide": "日本語の文章です。🙂🙂 とても長い文章。" * 9,
    "dup\x1b[31m": STORY,
    "7": "a document whose id is a number",
    "twice": "one of two",
}
FLAGS = ["--window=128", "--validation-fraction=0", "--dedup=exact", "--tau=32", "--seed=3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp("show")
    records = [{"id": name, "text": text} for name, text in TEXTS.items()]
    records += [{"id": "twice", "text": f"another {'x ' * 300}"}]
    harness.write_jsonl(at / "docs.jsonl", records)
    flags = ["--tokenizer", harness.TOKENIZER, *FLAGS]
    done(
        "prepare",
        *harness.source("docs", at / "docs.jsonl"),
        *flags,
        "--out",
        at / "shards",
        "--quiet",
    )
    return at / "shards"


@pytest.fixture
def shards(made, tmp_path) -> Path:
    """A set that a test may damage."""
    return shutil.copytree(made, tmp_path / "shards")


def shown(*arguments: object) -> str:
    return done("show", *arguments).out


def all_windows(made: Path) -> str:
    return "".join(shown(made, "--window", n) for n in range(len(harness.windows(made))))


def index_of(made: Path, name: str) -> int:
    return next(row["doc_index"] for row in harness.documents(made) if row["id"] == name)


def body(text: str) -> list[tuple[int, str, str]]:
    """Context, weight and text of every line that has a margin."""
    pattern = r"^\u200e? *([\d,]+) +([\d.]+|-) │ \u2068?(.*?)\u2069?$"
    found = re.findall(pattern, text, re.MULTILINE)
    return [(int(context.replace(",", "")), weight, line) for context, weight, line in found]


def as_shown(text: str) -> str:
    """A text as it has to be shown; a character that is cut is left out."""
    return visible(text.replace("\t", "    ").replace("\ufffd", ""))


@pytest.mark.parametrize("number", range(5))
def test_a_window_has_all_its_text(made, number):
    row = harness.windows(made)[number]
    out = shown(made, "--window", number)
    assert f"window {number} of train ({len(harness.windows(made))} windows)" in out
    tokenizer = Tokenizer.from_file(str(harness.TOKENIZER))
    expected, start = "", 0
    for length, document in zip(row["seq_lengths"], row["doc_index"], strict=True):
        ids = row["input_ids"][start : start + length]
        expected += "" if document < 0 else tokenizer.decode(ids, skip_special_tokens=False)
        start += length
    lines = "".join(line for _, _, line in body(out))
    assert lines.replace("\ufffd", "") == as_shown(expected)


def test_a_document_through_its_windows(made):
    out = shown(made, "--doc", "story")
    assert "document story of docs" in out
    text = "".join(line for _, _, line in body(out))
    assert text == STORY + "<|endoftext|>"
    offsets = [int(a) for a in re.findall(r"tokens ([\d,]+)-", out)]
    assert offsets == sorted(offsets)
    windows = re.findall(r"window (\d+), position", out)
    assert windows != sorted(windows), "the document's order, not that of the windows"


def test_the_margin_has_what_the_shards_have(made):
    """Every weight of the document's targets, and contexts that begin again in every window."""
    document = index_of(made, "story")
    weights = set()
    for row in harness.windows(made):
        ends = np.cumsum(row["seq_lengths"])
        for end, length, found in zip(ends, row["seq_lengths"], row["doc_index"], strict=True):
            if found == document:
                weights |= {f"{w:.4g}" for w in row["loss_weight"][end - length + 1 : end]}
    lines = body(shown(made, "--doc", "story"))
    assert {weight for _, weight, _ in lines} - {"-"} == weights
    assert len(weights) > 1
    contexts = [context for context, _, _ in lines]
    assert contexts.count(0) >= 2
    assert max(contexts) < 128


def test_nothing_is_sent_to_the_terminal_that_it_obeys(made):
    out = all_windows(made) + shown(made, "--doc", "escape") + shown(made, "--heaviest")
    hidden = {c for c in out if unicodedata.category(c) in ("Cc", "Cf")}
    assert hidden <= set("\n\u200e\u2068\u2069")
    assert "before ␛[2J␛]0;title␇ after␍<U+009B>31m <U+202E>back<U+202C> ␀" in "".join(
        line for _, _, line in body(shown(made, "--doc", "escape"))
    )


def test_lines_fit_in_80_columns(made):
    for line in all_windows(made).splitlines():
        assert cell_len(line) <= 80, line


def test_right_to_left_text_is_isolated_from_the_margin(made):
    out = shown(made, "--doc", "hebrew")
    lines = [line for line in out.splitlines() if re.search("[א-ת]", line)]
    assert len(lines) >= 2
    for line in lines:
        assert re.match(r"^\u200e +\d+ +\S+ │ \u2068.*\u2069$", line)


def test_the_heaviest_segments(made):
    """The order is that of the sums over the shards' own weights."""
    extra = extra_of_segments(made)
    by_document = {document: (weight, number) for weight, number, document in reversed(extra)}
    expected = sorted(by_document.values(), key=lambda e: (-round(e[0], 4), e[1]))
    assert 3 < len(expected) < len(extra)  # some documents have several
    out = shown(made, "--heaviest", 3)
    found = re.findall(r"^── \d+\. \+([\d.]+), window (\d+), effective contexts 32-", out, re.M)
    assert [(float(a), int(b)) for a, b in found] == [
        (pytest.approx(a, abs=0.06), b) for a, b in expected[:3]
    ]
    assert f"{len(extra)} segments have extra weight in train; 3 shown" in out
    assert "docs: " in out
    assert body(out)[0][0] == 32
    headings = re.findall(r"^── .*(?:\n   .*)*", shown(made, "--heaviest"), re.M)
    documents = [re.search(r"\(#(\d+)\)", heading)[1] for heading in headings]
    assert sorted(map(int, documents)) == sorted(by_document)


def extra_of_segments(made: Path) -> list[tuple[float, int, int]]:
    """Extra weight, window and document of the segments that have any, the heaviest first."""
    found = []
    for number, row in enumerate(harness.windows(made)):
        start = 0
        for length, document in zip(row["seq_lengths"], row["doc_index"], strict=True):
            weights = row["loss_weight"][start : start + length]
            found.append((sum(max(w - 1, 0) for w in weights), number, document))
            start += length
    return sorted((e for e in found if e[0]), key=lambda e: (-round(e[0], 4), e[1]))


def test_a_first_look_is_where_weights_begin(made):
    out = shown(made)
    first = min(number for _, number, _ in extra_of_segments(made))
    lines = body(out)
    weights = [float(weight) for _, weight, _ in lines if weight != "-"]
    assert out.startswith("the first extra weight of train\n")
    assert f"--window {first} shows all of this window" in out
    assert f"── window {first}, position" in out
    assert weights[0] == 1 and weights[-1] > 1
    assert {context >= 32 for context, weight, _ in lines if weight not in ("-", "1")} == {True}
    assert next(context for context, weight, _ in lines if weight not in ("-", "1")) == 32


def test_a_first_look_without_weights(made, tmp_path):
    done("reweigh", made, "--alpha=0", "--out", tmp_path / "plain", "--quiet")
    assert shown(tmp_path / "plain") == shown(tmp_path / "plain", "--window", 0)


def test_there_may_be_no_extra_weight(made, tmp_path):
    done("reweigh", made, "--alpha=0", "--out", tmp_path / "plain", "--quiet")
    out = shown(tmp_path / "plain", "--heaviest")
    assert out.endswith("no target of train weighs more than 1\n")  # and no margin below it
    assert "no target of validation" in shown(made, "--heaviest", "--split", "validation")


def test_weights_below_1(made, tmp_path):
    printed = done("reweigh", made, "--table-only", "--quiet").out
    table = json.loads(printed)
    for bucket, weight in zip(table["buckets"], (0.25, 1, 2, 0.5, 4), strict=True):
        bucket["weight"] = weight
    (tmp_path / "table.json").write_text(json.dumps(table))
    new = tmp_path / "new"
    done("reweigh", made, "--table", tmp_path / "table.json", "--out", new, "--quiet")
    assert {w for _, w, _ in body(shown(new, "--doc", "story"))} == {"0.25", "1", "2", "0.5", "4"}
    out = shown(new, "--heaviest", 1)
    assert "effective contexts 16-" in out
    shown(new, "--doc", "story", "--html", tmp_path / "page.html")


def test_a_remote_set(made):
    import fsspec

    fsspec.filesystem("memory").put(str(made), "/show/far", recursive=True)
    for flags in ([], ["--doc=story"], ["--heaviest"]):
        assert shown("memory://show/far", *flags) == shown(made, *flags)


# Colour


def test_colour_on_a_terminal(made, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    out = shown(made, "--doc", "story")
    assert "\x1b[38;2;0;0;0;48;2;237;149;53m" in out
    assert "no target" in out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "38;2" not in shown(made, "--doc", "story")


def test_no_codes_when_piped(made):
    process = harness.start("show", made)
    outcome = harness.finish(process)
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.out
    assert body(outcome.out)


def test_a_pager_may_stop_reading(made):
    reads, writes = os.pipe()
    os.close(reads)
    process = harness.start("show", made, stdout=writes)
    os.close(writes)
    assert harness.finish(process).err == ""


def test_a_terminal_that_knows_no_unicode(made, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert run_command(["show", str(made), "--doc", "wide"]) == 0


# The page


class Page(HTMLParser):
    """What a page has: tags with their attributes, and the text of its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.cells = ""
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside |= tag == "td"

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag != "td"

    def handle_data(self, data: str) -> None:
        self.cells += data if self._inside else ""


def test_the_page(made, tmp_path):
    path = tmp_path / "new" / "page.html"
    assert shown(made, "--doc", "story", "--html", path) == ""
    found = Page(path.read_text("utf-8"))
    assert found.cells == STORY + "<|endoftext|>"
    titles = [attrs["title"] for tag, attrs in found.tags if tag == "span" and "title" in attrs]
    assert titles[0] == "context 0: no target"
    assert titles[1] == "context 1, weight 1"
    assert any(re.fullmatch(r"context 32, weight 1\.\d+", title) for title in titles)
    assert {tag for tag, _ in found.tags} == {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "small"),
        *("table", "thead", "tbody", "tr", "th", "td", "span"),
    }, "nothing that loads or runs anything"
    assert "url(" not in path.read_text("utf-8")


def test_the_page_is_escaped(made, tmp_path):
    shown(made, "--doc", "escape", "--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    spans = re.findall(r"<span[^>]*>([^\n]*?)</span>", text)
    assert not [span for span in spans if "<" in span or re.search("&(?!(lt|gt|amp|quot);)", span)]
    assert {"&lt;", "&amp;"} <= set(re.findall("&[a-z]+;", "".join(spans)))
    assert "<b>&amp;</b>" in Page(text).cells
    assert not {c for c in text if unicodedata.category(c) in ("Cc", "Cf")} - {"\n"}


# What cannot be shown


def test_a_dropped_document(made):
    outcome = run("show", made, "--doc", f"#{index_of(made, next(k for k in TEXTS if 'dup' in k))}")
    assert outcome.code == 1
    expected = (
        "error: document 'dup␛[31m' is in no window: it was dropped (duplicate: another document "
        "has the same content)"
    )
    assert expected in outcome.err


def test_documents_by_number(made):
    number = index_of(made, "7")
    assert "document 7 of docs" in shown(made, "--doc", "7"), "an id comes first"
    assert "document 7 of docs" in shown(made, "--doc", f"#{number}")
    assert "document escape of docs" in shown(made, "--doc", str(index_of(made, "escape")))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--window=99"], ["there is no window 99 in train", "expected: 0 to "]),
        (["--split=validation"], ["no window 0 in validation", "this one is empty"]),
        (["--doc=stor"], ["there is no document 'stor'", "try a similar id: 'story'"]),
        (["--doc=#99"], ["there is no document '#99'", "a doc_index from 0 to 7"]),
        (["--doc=99999999999999999999"], ["there is no document '99999999999999999999'"]),
        (["--html=."], ["--html is a folder"]),
        (["--doc=twice"], ["2 documents have the id 'twice'", "by its doc_index: #6, #7"]),
        (["--doc=7", "--window=1"], ["--window and --doc", "one of them"]),
        (["--heaviest=0"], ["heaviest"]),
        (["--run=r", "--step=1", "--window=1"], ["--window and --step", "one of them"]),
        (["--run=r"], ["--run is given without --step", "expected: both"]),
        (["--step=1"], ["--step is given without --run", "expected: both"]),
        (["--run=r", "--step=1", "--split=train"], ["a step has training windows alone"]),
        (["--run=no-run", "--step=1"], ["there is no such folder", "no-run"]),
        (["--window=-1"], ["window"]),
    ],
)
def test_wrong_usage(made, flags, words):
    outcome = run("show", made, *flags)
    assert outcome.code == 2
    assert outcome.out == ""
    for word in words:
        assert word in outcome.err


def test_no_shards():
    outcome = run("show")
    assert outcome.code == 2
    assert "SHARDS is missing" in outcome.err


def test_the_windows_of_a_step(made, tmp_path):
    """Those of the order, in its order, for each size of a step that the run has had."""
    recorded(tmp_path / "run", made, batches={0: 3, 2: 2}, taken=3)
    order = windows_at(np.arange(3 + 3 + 2), len(harness.windows(made)), 7).tolist()
    for step, expected in ((1, order[:3]), (2, order[3:6]), (3, order[6:])):
        out = shown("--run", tmp_path / "run", "--step", step)
        assert out.startswith(f"step {step} of {tmp_path / 'run'}\n")
        headings = re.findall(r"^── (\d+) of (\d+): window (\d+), position 0", out, re.M)
        count = len(expected)
        assert headings == [(str(i), str(count), str(n)) for i, n in enumerate(expected, 1)]
        alone = "".join(shown(made, "--window", number) for number in expected)
        assert body(out) == body(alone)


def test_a_step_that_is_not_taken_yet(made, tmp_path):
    recorded(tmp_path / "run", made, batches={0: 3}, taken=3)
    assert "step 4 of" in shown(made, "--run", tmp_path / "run", "--step", 4)
    assert ", which is not taken yet" in shown("--run", tmp_path / "run", "--step", 4)
    outcome = run("show", "--run", tmp_path / "run", "--step", 11)
    assert outcome.code == 2
    assert "the run has no step 11" in outcome.err and "expected: 1 to 10" in outcome.err


def test_the_shards_of_another_run(made, tmp_path):
    recorded(tmp_path / "run", made, batches={0: 3}, taken=3)
    done("reweigh", made, "--alpha=0", "--out", tmp_path / "plain", "--quiet")
    outcome = run("show", tmp_path / "plain", "--run", tmp_path / "run", "--step", 1)
    assert outcome.code == 2
    assert "these are not the shards of the run" in outcome.err
    assert f"trained on: {made} when it began" in outcome.err


def recorded(folder: Path, shards: Path, *, batches: dict[int, int], taken: int) -> None:
    """The folder of a run of ten steps, with batch sizes by the step after which they hold."""
    digest = xxhash.xxh3_128_hexdigest((shards / "manifest.json").read_bytes())
    folder.mkdir()
    log = RunLog(folder, step=0)
    for after, size in batches.items():
        settings = {"shards": str(shards), "global_batch": size}
        log.write("start", {"step": after, "steps": 10, "settings": settings})
    for step in range(1, taken + 1):
        log.write("step", {"step": step})
    log.close()
    record = {
        "settings": {"shards": str(shards)},
        "identity": {"shards": digest, "seed": 7},
        "earlier": None,
        "model_folder": "",
        "longest_window": 128,
        "buckets": [],
    }
    write_run(folder, record)


def test_a_manifest_whose_buckets_are_not_those_of_its_window(shards):
    manifest = harness.manifest(shards)
    manifest["weights"]["table"].pop()
    (shards / "manifest.json").write_text(json.dumps(manifest))
    outcome = run("show", shards, "--heaviest")
    assert outcome.code == 1
    assert "a weight table of 4 buckets" in outcome.err
    assert "expected: 5, for windows of 128 tokens" in outcome.err


def test_sets_that_cannot_be_shown(shards):
    outcome = run("show", shards / "train")
    assert outcome.code == 2
    assert "this folder is inside a token store or shard set" in outcome.err
    assert f"fix:      use {shards}\n" in outcome.err
    (shards / "tokenizer.json").rename(shards / "other.json")
    outcome = run("show", shards)
    assert outcome.code == 1
    assert "the shard set has no tokenizer.json" in outcome.err
    (shards / "manifest.json").unlink()
    outcome = run("show", shards)
    assert outcome.code == 1
    assert "this shard set is not finished" in outcome.err
