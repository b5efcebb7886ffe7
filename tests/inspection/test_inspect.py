"""The command `inspect`: what a person reads, what goes into a spreadsheet, what bad input gets."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TOKENIZER, done, finish, manifest, run, source, start, write_jsonl
from rich.console import Console

from exactcpt.pipeline.files.storage import checksum
from exactcpt.pipeline.inspection.tables import print_inspection

TEXTS = {"long": ["word " * 900, "other words " * 300], "short": ["a b c", "d e f g", "h " * 40]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    flags: list[str] = []
    for name, texts in TEXTS.items():
        records = [{"id": f"{name}{i}", "text": text} for i, text in enumerate(texts)]
        flags += source(name, write_jsonl(folder / f"{name}.jsonl", records))
    out = folder / "small.store"
    done("tokenize", *flags, "--tokenizer", TOKENIZER, "--out", out, "--quiet")
    return out


@pytest.fixture(scope="module")
def shards(store: Path) -> Path:
    out = store.parent / "small"
    done("pack", store, "--window", "256", "--validation-fraction", "0", "--out", out, "--quiet")
    return out


def printed(
    *arguments: object, width: int = 80, encoding: str = "utf-8", by_source: bool = False
) -> str:
    """The tables as such a terminal has them, without the command below them."""
    inspection = done("inspect", *arguments, "--json").json
    for subject in inspection["subjects"]:
        subject["path"] = Path(subject["path"]).name
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding)
    console = Console(file=stream, width=width, highlight=False)
    print_inspection(inspection, console, by_source=by_source)
    stream.flush()
    lines = [line.rstrip() for line in raw.getvalue().decode(encoding).splitlines()]
    return "\n".join(lines[:-2] if lines[-1].startswith("exactcpt ") else lines)


def test_a_histogram(shards: Path):
    assert (
        printed(shards)
        == """\
small: shard set, 5 documents, 1,556 tokens, longest document 903
window 256, packing concat, tau 64, alpha 0.15, gamma 0.5, validation fraction 0

effective                                 up to        weighted
context   targets  share                   here weight    share
───────────────────────────────────────────────────────────────────────────────
0-7            70  4.53% █▋                4.5% 1.0000    4.12% █▍
8-15           72  4.66% █▋                9.2% 1.0000    4.23% █▌
16-31         132  8.54% ███              17.7% 1.0000    7.76% ██▊
32-63         234 15.15% █████▎           32.9% 1.0000   13.76% ████▊
64-127 *      390 25.24% ████████▊        58.1% 1.1743   26.93% █████████▍
128-255 *     647 41.88% ██████████████▌ 100.0% 1.1353   43.20% ███████████████

share: of the targets; weighted share: of the total loss weight, which is the
sum of the targets' weights
* tail, the buckets from 64 (tau) on: 67.12% of the targets, 70.13% of the total
loss weight
mean extra weight in the tail (the budget, alpha): 0.1500, asked for 0.15
effective sample size, (sum w)^2 / sum w^2: 99.57% of the targets; largest
weight 1.1743, mean weight 1.1007
7 windows of 256 tokens, padding 13.17%, 1.6 segments per window; documents
split across windows: 2 of 5 (40.00%)
6 windows have a target in the tail (85.71%); the largest effective context is
255"""
    )


def test_a_histogram_in_ascii(shards: Path):
    assert (
        printed(shards, encoding="ascii")
        == """\
small: shard set, 5 documents, 1,556 tokens, longest document 903
window 256, packing concat, tau 64, alpha 0.15, gamma 0.5, validation fraction 0

effective                                up to        weighted
context   targets  share                  here weight    share
------------------------------------------------------------------------------
0-7            70  4.53% ##               4.5% 1.0000    4.12% #
8-15           72  4.66% ##               9.2% 1.0000    4.23% ##
16-31         132  8.54% ###             17.7% 1.0000    7.76% ###
32-63         234 15.15% #####           32.9% 1.0000   13.76% #####
64-127 *      390 25.24% #########       58.1% 1.1743   26.93% #########
128-255 *     647 41.88% ############## 100.0% 1.1353   43.20% ###############

share: of the targets; weighted share: of the total loss weight, which is the
sum of the targets' weights
* tail, the buckets from 64 (tau) on: 67.12% of the targets, 70.13% of the total
loss weight
mean extra weight in the tail (the budget, alpha): 0.1500, asked for 0.15
effective sample size, (sum w)^2 / sum w^2: 99.57% of the targets; largest
weight 1.1743, mean weight 1.1007
7 windows of 256 tokens, padding 13.17%, 1.6 segments per window; documents
split across windows: 2 of 5 (40.00%)
6 windows have a target in the tail (85.71%); the largest effective context is
255"""
    )


def test_sources(shards: Path):
    _, _, below = printed(shards, by_source=True).partition("context is\n255\n\n")
    assert (
        below
        == """\
              share of weighted share of fraction   mean
source tokens  targets    share the tail  in tail weight
────────────────────────────────────────────────────────
long    1,505   96.89%   97.18%  100.00%   69.27% 1.1039
short      51    3.11%    2.82%    0.00%    0.00% 1.0000

source long

effective           share of                    share of
context   targets the source                  the bucket weight
───────────────────────────────────────────────────────────────
0-7            56      3.74% █▍                   80.00% 1.0000
8-15           64      4.28% █▋                   88.89% 1.0000
16-31         116      7.75% ██▉                  87.88% 1.0000
32-63         224     14.96% █████▌               95.73% 1.0000
64-127 *      390     26.05% █████████▋          100.00% 1.1743
128-255 *     647     43.22% ████████████████    100.00% 1.1353

source short

effective           share of                    share of
context   targets the source                  the bucket weight
───────────────────────────────────────────────────────────────
0-7            14     29.17% ██████████████       20.00% 1.0000
8-15            8     16.67% ████████             11.11% 1.0000
16-31          16     33.33% ████████████████     12.12% 1.0000
32-63          10     20.83% ██████████            4.27% 1.0000
64-127 *        0      0.00%                       0.00% 1.1743
128-255 *       0      0.00%                       0.00% 1.1353"""
    )


def test_combinations(store: Path):
    flags = ["--window", "64,256", "--packing", "concat,best_fit", "--validation-fraction", "0"]
    assert (
        printed(store, *flags)
        == """\
small.store: token store, 5 documents, 1,556 tokens, longest document 903
alpha 0.15, gamma 0.5, validation fraction 0

                                           tail's tail's windows
                                     split target weight  with a largest sample
window  packing tau windows padding   docs  share  share    tail  weight   size
───────────────────────────────────────────────────────────────────────────────
64       concat  16      25   2.75% 40.00% 73.67% 76.29% 100.00%   1.181 99.62%
64     best_fit  16      25   2.75% 40.00% 74.61% 77.16% 100.00%   1.183 99.62%
256      concat  64       7  13.17% 40.00% 67.12% 70.13%  85.71%   1.174 99.57%
256    best_fit  64       7  13.17% 40.00% 68.37% 71.31%  85.71%   1.171 99.59%

split docs: documents split across windows; tail: the buckets of effective
context from tau on; weight share: the tail's share of the total loss weight;
sample size: the effective sample size, (sum w)^2 / sum w^2, relative to the
number of targets"""
    )


@pytest.mark.slow
def test_two_side_by_side(store: Path, shards: Path, tmp_path: Path):
    other = tmp_path / "other"
    flags = ["--window", "128", "--packing", "best_fit", "--epochs", "short=2"]
    done("pack", store, *flags, "--validation-fraction", "0", "--out", other, "--quiet")
    assert (
        printed(shards, other, by_source=True)
        == """\
small: shard set, 5 documents, 1,556 tokens, longest document 903
other: shard set, 5 documents, 1,556 tokens, longest document 903

differs A      B
─────────────────────────────
path    small  other
window  256    128
packing concat best_fit
tau     64     32
mixing  -      short epochs 2

effective  share                weight        weighted
context        A      B   B - A      A      B  share A      B   B - A
─────────────────────────────────────────────────────────────────────
0-7        4.53%  7.43%  +2.90% 1.0000 1.0000    4.12%  6.71%  +2.60%
8-15       4.66%  7.05%  +2.39% 1.0000 1.0000    4.23%  6.37%  +2.14%
16-31      8.54% 14.11%  +5.56% 1.0000 1.0000    7.76% 12.74%  +4.98%
32-63 b   15.15% 25.44% +10.30% 1.0000 1.1796   13.76% 27.11% +13.35%
64-127 *  25.24% 45.97% +20.73% 1.1743 1.1336   26.93% 47.07% +20.14%
128-255 a 41.88%  0.00% -41.88% 1.1353      -   43.20%  0.00% -43.20%

share: of the targets; weighted share: of the total loss weight
* in the tail of both, a of A alone, b of B alone

figure                                   A      B   B - A
─────────────────────────────────────────────────────────
windows                                  7     13      +6
windows with a tail target               6     13      +7
tokens                               1,556  1,607     +51
padding                                236     57    -179
segments                                11     19      +8
documents, repeats counted               5      8      +3
documents split across windows           2      2      +0
targets                              1,545  1,588     +43
largest effective context              255    127    -128
padding, share of windows           0.1317 0.0343 -0.0974
tail, share of targets              0.6712 0.7141 +0.0429
tail, share of total loss weight    0.7013 0.7418 +0.0405
share of windows with a tail target 0.8571 1.0000 +0.1429
largest weight                      1.1743 1.1796 +0.0053
mean weight                         1.1007 1.1071 +0.0064
mean extra weight in the tail       0.1500 0.1500 +0.0000
effective sample size               0.9957 0.9960 +0.0003

effective sample size: (sum w)^2 / sum w^2, relative to the number of targets

        share        weighted        share of
source      A      B  share A      B   tail A      B
────────────────────────────────────────────────────
long   96.89% 93.95%   97.18% 94.34%  100.00% 98.24%
short   3.11%  6.05%    2.82%  5.66%    0.00%  1.76%"""
    )


def test_an_empty_tail(shards: Path):
    assert (
        printed(shards, "--tau", "255")
        == """\
small: shard set, 5 documents, 1,556 tokens, longest document 903
window 256, packing concat, tau 255, alpha 0.15, gamma 0.5, validation fraction
0

effective                                 up to        weighted
context   targets  share                   here weight    share
───────────────────────────────────────────────────────────────────────────────
0-7            70  4.53% █▋                4.5% 1.0000    4.53% █▋
8-15           72  4.66% █▋                9.2% 1.0000    4.66% █▋
16-31         132  8.54% ███              17.7% 1.0000    8.54% ███
32-63         234 15.15% █████▍           32.9% 1.0000   15.15% █████▍
64-127        390 25.24% █████████        58.1% 1.0000   25.24% █████████
128-255       647 41.88% ███████████████ 100.0% 1.0000   41.88% ███████████████

share: of the targets; weighted share: of the total loss weight, which is the
sum of the targets' weights
the tail is empty: no bucket that begins at 255 (tau) or later has targets; all
weights are 1
effective sample size, (sum w)^2 / sum w^2: 100.00% of the targets; largest
weight 1.0000, mean weight 1.0000
7 windows of 256 tokens, padding 13.17%, 1.6 segments per window; documents
split across windows: 2 of 5 (40.00%)
0 windows have a target in the tail (0.00%); the largest effective context is
255"""
    )


def test_one_window_is_not_windows(store: Path):
    text = printed(store, "--window", "4096", "--tau", "64")
    assert "\n1 window of 4,096 tokens, " in text
    assert "\n1 window has a target in the tail (100.00%)" in text


def test_a_narrow_terminal_goes_without_some_figures(store: Path):
    flags = ["--window", "64,256", "--alpha", "0.1,0.2", "--gamma", "0,1"]
    wide, narrow = (printed(store, *flags, width=width) for width in (120, 60))
    assert max(map(len, wide.splitlines())) > 80
    assert "too wide" not in wide
    assert max(map(len, narrow.splitlines())) <= 60
    assert "…" not in printed(store, *flags, width=36)
    assert narrow.endswith(
        "too wide for this terminal, but in --json: windows, split\ndocuments, tail's weight share"
    )


def test_it_prints_on_stdout_without_colour_into_a_pipe(shards: Path):
    outcome = finish(start("inspect", shards))
    assert outcome.code == 0
    assert outcome.err == ""
    assert "\x1b" not in outcome.out
    command = json.loads(done("inspect", shards, "--json").out)["subjects"][0]["rows"][0]["command"]
    assert outcome.out.splitlines()[-1] == command
    assert "█" in outcome.out


def test_no_colour_and_no_utf_8(shards: Path):
    how = {**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1", "PYTHONIOENCODING": "ascii"}
    outcome = finish(start("inspect", shards, "--by-source", env=how))
    assert outcome.code == 0
    assert outcome.out.isascii()
    assert "\x1b[36m" not in outcome.out


def test_csv_has_a_line_a_row_and_bucket(store: Path):
    flags = ["--window", "64,256", "--epochs", "short=2"]
    plain = list(csv.DictReader(io.StringIO(done("inspect", store, *flags, "--csv").out)))
    text = done("inspect", store, *flags, "--csv", "--by-source").out
    both = list(csv.DictReader(io.StringIO(text)))
    rows = done("inspect", store, *flags, "--json").json["subjects"][0]["rows"]
    buckets = [(row, bucket) for row in rows for bucket in row["buckets"]]
    assert [line for line in both if not line["source"]] == plain
    for line, (row, bucket) in zip(plain, buckets, strict=True):
        assert line["path"] == str(store)
        assert line["window"] == str(row["settings"]["window"])
        assert json.loads(line["mixing"]) == row["settings"]["mixing"]
        for name in ("low", "high", "targets", "in_tail", "weight", "mass_after"):
            assert line[name] == str(bucket[name])
        mine = [
            other
            for other in both
            if other["source"] and (other["window"], other["low"]) == (line["window"], line["low"])
        ]
        assert {other["source"] for other in mine} == {"long", "short"}
        for name in ("targets", "share", "cumulative_share", "mass_before", "mass_after"):
            assert sum(float(other[name]) for other in mine) == pytest.approx(float(line[name]))


def refused(*arguments: object) -> tuple[int, str]:
    outcome = run("inspect", *arguments)
    assert outcome.out == ""
    return outcome.code, outcome.err


COMMANDS = pytest.mark.parametrize("command", [["inspect"], ["show"], ["reweigh", "--out=new"]])
EITHER = "  expected: the folder of a token store or shard set\n"


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--window", "1"], "window is 1\n  where:    --window 1\n  expected: 2 to 16,777,216"),
        (
            ["--window", "64,4096", "--tau", "100"],
            "tau is 100\n  where:    --window 64 --tau 100\n  expected: 0 to 63",
        ),
        (["--alpha=-1"], "alpha is -1.0\n  where:    --alpha -1.0\n  expected: 0 to 1,000"),
        (["--alpha", "nan"], "alpha is nan\n  where:    --alpha nan\n  expected: 0 to 1,000"),
        (["--gamma", "inf"], "gamma is inf\n  where:    --gamma inf\n  expected: 0 to 10"),
        (
            ["--alpha", "0.1,0.9", "--max-weight", "1.5"],
            "alpha 0.9 is more than max_weight 1.5 allows\n"
            "  where:    --alpha 0.9 --max-weight 1.5\n"
            "  expected: alpha of at most max_weight - 1 = 0.5",
        ),
        (
            ["--epochs", "shrot=2"],
            "there is no source 'shrot' to mix\n  expected: one of long, short",
        ),
        (["--epochs", "short=-1"], "--epochs short is -1.0\n  expected: 0 to 1,000"),
        (
            ["--share", "short=0.5"],
            "a share is a fraction of the token budget, and no budget is given\n"
            "  fix:      give --token-budget, or epochs instead of share",
        ),
        (
            ["--json", "--csv"],
            "both --json and --csv are given\n  expected: one of them",
        ),
    ],
)
def test_what_cannot_be_asked(store: Path, flags: list[str], error: str):
    assert refused(store, *flags) == (2, f"error: {error}\n")


def test_values_that_are_none(store: Path):
    for flags in (["--window", "4096,"], ["--window", "4k,x"], ["--packing", "next_fit"]):
        code, error = refused(store, *flags)
        assert code == 2
        assert f"Invalid value for '{flags[0]}'" in error


def test_paths_that_are_something_else(store: Path, shards: Path, tmp_path: Path):
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()
    corpus = write_jsonl(tmp_path / "corpus" / "a.jsonl", [{"text": "a"}])
    sample = (
        "  fix:      inspect a sample of it: exactcpt inspect --source NAME={} --tokenizer PATH\n"
    )
    cases: list[tuple[Path | str, str]] = [
        (missing, f"there is nothing at this path\n  where:    {missing}\n{EITHER}"),
        (empty, f"this folder is empty\n  where:    {empty}\n{EITHER}"),
        (
            corpus,
            f"this is a corpus file (jsonl)\n  where:    {corpus}\n{EITHER}"
            + sample.format(corpus),
        ),
        (
            corpus.parent,
            "this is a folder of 1 corpus file (jsonl)\n"
            f"  where:    {corpus.parent}\n{EITHER}" + sample.format(corpus.parent),
        ),
        (
            shards / "train",
            "this folder is inside a token store or shard set\n"
            f"  where:    {shards / 'train'}\n{EITHER}  fix:      use {shards}\n",
        ),
        (
            store / "manifest.json",
            f"this is a file\n  where:    {store / 'manifest.json'}\n{EITHER}"
            f"  fix:      use {store}\n",
        ),
    ]
    for path, error in cases:
        assert refused(path) == (2, f"error: {error}")
    assert refused()[0] == refused("")[0] == 2


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / folder.name))


@pytest.mark.parametrize(
    ("kind", "what", "command"),
    [("store", "token store", "tokenize"), ("shards", "shard set", "pack")],
)
def test_an_unfinished_job(
    kind: str, what: str, command: str, store: Path, shards: Path, tmp_path: Path
):
    folder = copied(store if kind == "store" else shards, tmp_path)
    (folder / "manifest.json").unlink()
    assert refused(folder) == (
        1,
        f"error: this {what} is not finished\n"
        f"  where:    {folder}\n"
        f"  expected: a folder that `exactcpt {command}` has completed\n"
        f"  fix:      run `exactcpt {command}` (or `prepare`) again; "
        "it continues where it stopped\n",
    )


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", b"7", b"\xff", b'{"inputs": {}}'])
@COMMANDS
def test_an_unfinished_job_of_which_nothing_is_known(
    command: list[str], content: bytes, tmp_path: Path
):
    state = tmp_path / "shards" / ".job" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_bytes(content)
    outcome = run(*command, tmp_path / "shards")
    assert (outcome.code, outcome.err) == (
        1,
        "error: this token store or shard set is not finished, and the state of its job is "
        "damaged\n"
        f"  where:    {state}\n"
        "  expected: a folder that `exactcpt tokenize`, `pack` or `reweigh` has completed\n"
        "  fix:      remove the folder and run the job again\n",
    )


@pytest.mark.parametrize("command", [["show"], ["reweigh", "--out=new"]])
def test_paths_that_are_no_shard_set(store: Path, command: list[str], tmp_path: Path):
    corpus = write_jsonl(tmp_path / "corpus" / "a.jsonl", [{"text": "a"}])
    missing, expected = tmp_path / "missing", "  expected: the folder of a shard set\n"
    cases = [
        (missing, f"there is nothing at this path\n  where:    {missing}\n{expected}"),
        (
            store,
            f"this is a token store\n  where:    {store}\n{expected}"
            f"  fix:      make a shard set from it: exactcpt pack {store} --out DIR\n",
        ),
        (
            corpus,
            f"this is a corpus file (jsonl)\n  where:    {corpus}\n{expected}"
            f"  fix:      make shards from it: exactcpt prepare --source NAME={corpus} "
            "--tokenizer PATH --out DIR\n",
        ),
    ]
    for path, error in cases:
        outcome = run(*command, path)
        assert (outcome.code, outcome.err) == (2, f"error: {error}")


LONGER: dict[str, Callable[[Any], object]] = {
    "a weight table of 7": lambda m: m["weights"]["table"].append(m["weights"]["table"][0]),
    "a histogram of train of 7": lambda m: m["splits"]["train"]["histogram"].append(0),
    "a histogram of train in source 'short' of 7": (
        lambda m: m["sources"][1]["splits"]["train"]["histogram"].append(0)
    ),
}
IMPOSSIBLE: dict[str, Callable[[Any], object]] = {
    "tau is 256": lambda m: m["settings"].update(tau=256),
    "alpha is null": lambda m: m["settings"].update(alpha=None),
    "alpha 0.15 is more than max_weight 1.1 allows": (
        lambda m: m["settings"].update(max_weight=1.1)
    ),
}


@COMMANDS
@pytest.mark.parametrize("error", LONGER)
def test_a_manifest_with_other_buckets(
    shards: Path, command: list[str], error: str, tmp_path: Path
):
    folder = with_manifest(copied(shards, tmp_path), LONGER[error])
    outcome = run(*command, folder)
    assert (outcome.code, outcome.err) == (
        1,
        f"error: the manifest has {error} buckets\n"
        f"  where:    {folder}/manifest.json\n"
        "  expected: 6, for windows of 256 tokens\n"
        "  fix:      run `exactcpt verify` on the shard set to see all that is wrong\n",
    )


@COMMANDS
def test_a_manifest_of_another_window(shards: Path, command: list[str], tmp_path: Path):
    folder = with_manifest(copied(shards, tmp_path), lambda m: m["settings"].update(window=128))
    outcome = run(*command, folder)
    assert outcome.code == 1
    assert "the manifest has a weight table of 6 buckets" in outcome.err
    assert "expected: 5, for windows of 128 tokens" in outcome.err


@COMMANDS
@pytest.mark.parametrize("error", IMPOSSIBLE)
def test_a_manifest_with_settings_that_cannot_be(
    shards: Path, command: list[str], error: str, tmp_path: Path
):
    folder = with_manifest(copied(shards, tmp_path), IMPOSSIBLE[error])
    outcome = run(*command, folder)
    assert outcome.code == 1
    start = f"error: the manifest has an impossible setting: {error}\n"
    assert outcome.err.startswith(f"{start}  where:    {folder}/manifest.json\n")


def with_manifest(folder: Path, change: Callable[[Any], object]) -> Path:
    changed = manifest(folder)
    change(changed)
    (folder / "manifest.json").write_text(json.dumps(changed))
    return folder


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{", "the manifest is not JSON"),
        (b"[]", "this is neither a token store nor a shard set"),
        (b'{"format": "exactcpt run"}', "this is neither a token store nor a shard set"),
        (
            b'{"format": "exactcpt shard set", "format_version": 3}',
            "the exactcpt shard set has format version 3",
        ),
        (b'{"format": "exactcpt token store", "format_version": 1}', "the manifest is not valid"),
    ],
)
def test_a_manifest_that_cannot_be_used(store: Path, content: bytes, error: str, tmp_path: Path):
    folder = copied(store, tmp_path)
    (folder / "manifest.json").write_bytes(content)
    code, text = refused(folder)
    assert code == 1
    assert text.startswith(f"error: {error}")
    assert f"{folder}/manifest.json" in text


def test_a_missing_index(store: Path, tmp_path: Path):
    folder = copied(store, tmp_path)
    index = folder / "parts" / "000000-0000.index.arrow"
    size = index.stat().st_size
    index.unlink()
    assert refused(folder) == (
        1,
        "error: a file of the token store is damaged\n"
        f"  where:    {index}\n"
        f"  expected: {size:,} bytes, the file is missing\n"
        "  fix:      restore the file, or write the store again with `exactcpt tokenize "
        "--overwrite`\n",
    )


def test_a_damaged_index(store: Path, tmp_path: Path):
    """One bit of one length: the index is still an index."""
    folder = copied(store, tmp_path)
    index = folder / "parts" / "000000-0000.index.arrow"
    whole = index.read_bytes()
    at = whole.index((903).to_bytes(4, "little"))
    index.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    (expected,) = [
        part["index"]["xxh3_128"]
        for part in manifest(folder)["parts"]
        if part["part"] == "000000-0000"
    ]
    assert refused(folder) == (
        1,
        "error: a file of the token store is damaged\n"
        f"  where:    {index}\n"
        f"  expected: xxh3-128 {expected}, not {checksum(index)}\n"
        "  fix:      restore the file, or write the store again with `exactcpt tokenize "
        "--overwrite`\n",
    )


def test_the_tokens_are_not_needed(store: Path, tmp_path: Path):
    folder = copied(store, tmp_path)
    for path in folder.glob("parts/*-????.arrow"):
        path.unlink()
    found, expected = (done("inspect", path, "--json").json for path in (folder, store))
    (rows,), (wanted,) = ([s["rows"] for s in one["subjects"]] for one in (found, expected))
    assert [row | {"command": ""} for row in rows] == [row | {"command": ""} for row in wanted]


def test_a_shard_that_is_gone_or_cut_off(shards: Path, tmp_path: Path):
    folder = copied(shards, tmp_path)
    shard = folder / "train" / "shard-00000-of-00001.arrow"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    assert refused(folder) == (
        1,
        "error: a file of the shard set is damaged\n"
        f"  where:    {shard}\n"
        f"  expected: {len(data):,} bytes, not {len(data) - 1:,}\n"
        "  fix:      run `exactcpt verify` on the shard set to see all that is wrong\n",
    )
    shard.write_bytes(bytes(len(data)))
    code, text = refused(folder)
    assert code == 1
    assert text.startswith("error: a file of the shard set cannot be read")
    shard.unlink()
    assert refused(folder)[1].startswith("error: a file of the shard set is missing")


def test_shards_that_are_not_the_manifests(shards: Path, tmp_path: Path):
    folder = copied(shards, tmp_path)
    changed = manifest(folder)
    changed["splits"]["train"]["segments"] += 1
    (folder / "manifest.json").write_text(json.dumps(changed))
    code, text = refused(folder)
    assert code == 1
    assert text.startswith(
        "error: the manifest's counts are not those of the shards: train: segments is 12\n"
    )
    assert text.endswith(
        "  fix:      run `exactcpt verify` on the shard set to see all that is wrong\n"
    )
