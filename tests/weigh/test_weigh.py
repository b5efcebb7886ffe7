"""Packed windows in, a shard set out: the same windows, with the weights that `pack` would give."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import DATA, EOS, TOKENIZER, done, run, source

from exactcpt.pipeline.verify import verify
from exactcpt.pipeline.weigh import units
from exactcpt.schemas.shard import PADDING

WINDOW = 512
READ = ["--tokenizer", TOKENIZER, "--quiet"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set with padding, whose windows are weighed again."""
    out = tmp_path_factory.mktemp("packed") / "shards"
    flags = ["--window", WINDOW, "--packing", "best_fit", "--validation-fraction", "0.2"]
    done("prepare", *source("poems", DATA / "poems.jsonl"), *READ, *flags, "--out", out)
    return out


def shards_of(folder: Path, split: str = "train") -> pa.Table:
    files = sorted((folder / split).glob("*.arrow"))
    return pa.concat_tables(
        [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files]
    )


def columns(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist()


def rows_of(folder: Path, split: str = "train") -> dict[str, list[Any]]:
    """The windows as other packers write them: padding is in the tokens, and a segment of none."""
    table = shards_of(folder, split)
    pairs = zip(columns(table, "seq_lengths"), columns(table, "doc_index"), strict=True)
    lengths = [[n for n, d in zip(*pair, strict=True) if d != PADDING] for pair in pairs]
    return {
        "input_ids": columns(table, "input_ids"),
        "seq_lengths": lengths,
        "cu_seqlens": [np.cumsum([0, *some]).tolist() for some in lengths],
        "position_ids": [
            [i for n in some for i in range(n)] for some in columns(table, "seq_lengths")
        ],
    }


def without_padding(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Rows that end with their text, as a packer writes them that leaves padding to a collator."""
    totals = [sum(some) for some in rows["seq_lengths"]]
    cut = {
        n: [x[:t] for x, t in zip(rows[n], totals, strict=True)]
        for n in ("input_ids", "position_ids")
    }
    return rows | cut


def parquet(path: Path, rows: dict[str, Any]) -> Path:
    pq.write_table(pa.table(rows), path, row_group_size=7)
    return path


def assert_weighed(out: Path, original: Path) -> None:
    """The set is whole, and its windows and weights are those of the original."""
    report = verify(str(out))
    assert report.ok, report.findings
    found, expected = shards_of(out), shards_of(original)
    for name in ("input_ids", "loss_weight", "seq_lengths"):
        assert columns(found, name) == columns(expected, name)
    one, other = (json.loads((folder / "manifest.json").read_text()) for folder in (out, original))
    assert one["weights"] == other["weights"]
    assert one["warnings"] == []
    assert one["splits"]["train"] == other["splits"]["train"] | {"cut_documents": 0}


@pytest.mark.parametrize("kind", ["seq_lengths", "cu_seqlens", "position_ids", "end_token"])
def test_each_kind_of_boundaries(kind, packed, tmp_path):
    rows = rows_of(packed)
    kept = {name: rows[name] for name in ("input_ids", kind) if name in rows}
    flags = ["--boundaries", kind] if kind == "end_token" else []
    done("weigh", parquet(tmp_path / "a.parquet", kept), *READ, *flags, "--out", tmp_path / "out")
    assert_weighed(tmp_path / "out", packed)


def test_short_rows_are_padded(packed, tmp_path):
    file = parquet(tmp_path / "a.parquet", without_padding(rows_of(packed)))
    done("weigh", file, *READ, "--window", WINDOW, "--out", tmp_path / "out")
    assert_weighed(tmp_path / "out", packed)


def test_a_saved_data_set_with_validation_over_several_shards(packed, tmp_path):
    for split in ("train", "validation"):
        data = datasets.Dataset.from_dict(rows_of(packed, split))
        data.save_to_disk(str(tmp_path / split))
    flags = ["--validation", tmp_path / "validation", "--shard-bytes", "20k"]
    done("weigh", f"mine={tmp_path / 'train'}", *READ, *flags, "--out", tmp_path / "out")
    assert_weighed(tmp_path / "out", packed)
    held_out = shards_of(tmp_path / "out", "validation")
    assert columns(held_out, "input_ids") == columns(shards_of(packed, "validation"), "input_ids")
    assert {w for row in columns(held_out, "loss_weight") for w in row} == {0.0, 1.0}
    assert len(list((tmp_path / "out" / "train").iterdir())) > 1


def test_other_commands_take_the_result(packed, tmp_path):
    file = parquet(tmp_path / "a.parquet", rows_of(packed))
    done("weigh", file, *READ, "--out", tmp_path / "out")
    done("reweigh", tmp_path / "out", "--alpha", 1, "--quiet", "--out", tmp_path / "more")
    assert verify(str(tmp_path / "more")).ok
    (subject,) = done("inspect", tmp_path / "out", "--json").json["subjects"]
    assert subject["rows"][0]["command"].startswith("exactcpt reweigh")
    assert "a.parquet:1:1" in done("show", tmp_path / "out").out


def test_counting_alone_says_the_same(packed, tmp_path):
    file = parquet(tmp_path / "a.parquet", rows_of(packed))
    asked = ["--alpha", "0.15,1", "--json"]
    (counted,) = done("inspect", "--packed", file, "--tokenizer", TOKENIZER, *asked).json[
        "subjects"
    ]
    (shards,) = done("inspect", packed, *asked).json["subjects"]
    assert counted["kind"] == "packed windows"
    for mine, other in zip(counted["rows"], shards["rows"], strict=True):
        same = (
            "windows",
            "tokens",
            "padding",
            "segments",
            "targets",
            "windows_by_largest",
            "buckets",
        )
        assert [mine[name] for name in same] == [other[name] for name in same]
    command = counted["rows"][0]["command"]
    assert command.startswith(f"exactcpt weigh {file} --tokenizer") and "--alpha 0.15" in command


def test_the_same_command_again_does_nothing_and_other_rows_are_refused(packed, tmp_path):
    rows = rows_of(packed)
    file, out = parquet(tmp_path / "a.parquet", rows), tmp_path / "out"
    done("weigh", file, *READ, "--out", out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert (
        done("weigh", file, *READ[:2], "--json", "--out", out).json["status"] == "finished before"
    )
    assert before == {path: path.stat().st_mtime_ns for path in before}
    parquet(file, {name: some[1:] for name, some in rows.items()})
    refused = run("weigh", file, *READ, "--out", out)
    assert refused.code == 2 and "inputs have changed" in refused.err
    done("weigh", file, *READ, "--out", out, "--overwrite")
    assert len(shards_of(out)) == len(rows["input_ids"]) - 1


# Bad input

IDS = [[5, 6, EOS, 7, 8, 9, 5, 6], [7, 8, 9, EOS, 5, 6, 7, 8]]
LENGTHS = [[3, 5], [4, 4]]
NONE = pa.array([], pa.list_(pa.int32()))
BAD: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "no boundaries": ({"input_ids": IDS}, [], "does not say where the documents"),
    "boundaries by another name": (
        {"input_ids": IDS, "segment_ids": [[0] * 8] * 2},
        [],
        "from what the packer knows (such as 'segment_ids')",
    ),
    "two columns that differ": (
        {
            "input_ids": IDS,
            "seq_lengths": LENGTHS,
            "position_ids": [[0, 1, 2, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 0, 1, 2]],
        },
        [],
        "a.parquet, row 2",
    ),
    "two columns, one wrong": (
        {"input_ids": IDS, "seq_lengths": LENGTHS, "cu_seqlens": [[0, 3, 8], [0, 4, 7]]},
        [],
        "the columns 'seq_lengths' and 'cu_seqlens' put",
    ),
    "lengths that differ": (
        {"input_ids": [IDS[0], IDS[1][:7]], "seq_lengths": [[3, 5], [4, 3]]},
        [],
        "the rows have 7 to 8 tokens",
    ),
    "longer than the window": (
        {"input_ids": IDS, "seq_lengths": LENGTHS}, ["--window=7"], "a row has 8 tokens",
    ),
    "a sum that is wrong": ({"input_ids": IDS, "seq_lengths": [[3, 5], [4, 3]]}, [], "add up to 7"),
    "an id outside the vocabulary": (
        {"input_ids": [IDS[0], [7, 8, 9, 10**6, 5, 6, 7, 8]], "seq_lengths": LENGTHS},
        [],
        "has an id outside 0..",
    ),
    "float ids": (
        {"input_ids": [[float(i) for i in row] for row in IDS], "seq_lengths": LENGTHS},
        [],
        "column 'input_ids' holds list<",
    ),
    "float lengths": ({"input_ids": IDS, "seq_lengths": [[3.0, 5.0]] * 2}, [], "holds list<"),
    "null lengths": ({"input_ids": IDS, "seq_lengths": [[3, 5], None]}, [], "has nulls"),
    "a null row": ({"input_ids": [IDS[0], None], "seq_lengths": LENGTHS}, [], "is null"),
    "huge positions": (
        {"input_ids": IDS, "position_ids": [[0, 1, 2, 1 << 32, 4, 5, 6, 7]] * 2},
        [],
        "has 4,294,967,296",
    ),
    "huge negative positions": (
        {"input_ids": IDS, "position_ids": [[0, 1 - (1 << 32), 2, 3, 4, 5, 6, 7]] * 2},
        [],
        "has -4,294,967,295",
    ),
    "positions that never begin again": (
        {"input_ids": IDS, "position_ids": [list(range(8))] * 2},
        [],
        "is inside 2 of them",
    ),
    "no end token": (
        {"input_ids": [[5, 6, 7, 8]] * 2},
        ["--boundaries=end_token"],
        "none of 2 rows has",
    ),
    "another column": ({"tokens": IDS, "seq_lengths": LENGTHS}, [], "no column 'input_ids'"),
    "no rows": (dict.fromkeys(("input_ids", "seq_lengths"), NONE), [], "there are no windows"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_rows(name, tmp_path):
    rows, flags, message = BAD[name]
    file = parquet(tmp_path / "a.parquet", rows)
    refused = run("weigh", file, *READ, *flags, "--out", tmp_path / "out")
    assert refused.code != 0
    assert message in refused.err
    assert "expected" in refused.err
    assert not (tmp_path / "out" / "manifest.json").exists()
    if not name.startswith("longer"):
        asked = run("inspect", "--packed", file, "--tokenizer", TOKENIZER, *flags)
        assert asked.code != 0 and message in asked.err


def test_columns_that_agree_or_are_told_apart(tmp_path):
    """Padding may be a segment of its own in one of them."""
    rows = {
        "input_ids": [[5, 6, EOS, 7, 8, EOS, EOS, EOS]],
        "seq_lengths": [[3, 3]],
        "position_ids": [[0, 1, 2, 0, 1, 2, 0, 1]],
    }
    file = parquet(tmp_path / "a.parquet", rows)
    done("weigh", file, *READ, "--out", tmp_path / "out")
    rows["position_ids"] = [[0, 1, 2, 3, 4, 5, 6, 7]]
    file = parquet(tmp_path / "b.parquet", rows)
    assert run("weigh", file, *READ, "--out", tmp_path / "b").code == 2
    done("weigh", file, *READ, "--boundaries", "seq_lengths", "--out", tmp_path / "b")


@pytest.mark.parametrize("block_bytes", [1000, 4000])
def test_columns_of_which_different_numbers_of_rows_are_read_at_once(
    monkeypatch, tmp_path, block_bytes
):
    monkeypatch.setattr("exactcpt.pipeline.sources.reading.BLOCK_BYTES", block_bytes)
    rows = {
        "input_ids": [IDS[0]] * 100,
        "seq_lengths": [LENGTHS[0]] * 100,
        "position_ids": [[0, 1, 2, 0, 1, 2, 3, 4]] * 100,
    }
    file = parquet(tmp_path / "a.parquet", rows)
    done("weigh", file, *READ, "--out", tmp_path / "out")
    rows["position_ids"][1] = [0, 1, 0, 1, 2, 3, 4, 5]
    file = parquet(tmp_path / "b.parquet", rows)
    refused = run("weigh", file, *READ, "--out", tmp_path / "b")
    assert refused.code == 2
    assert "b.parquet, row 2" in refused.err


def test_a_damaged_file_is_to_be_restored(tmp_path):
    (tmp_path / "a.parquet").touch()
    refused = run("weigh", tmp_path / "a.parquet", *READ, "--out", tmp_path / "out")
    assert refused.code == 1
    assert refused.err.endswith("fix:      restore the file\n")  # there is no --on-bad-file here


def test_the_same_rows_for_training_and_validation(tmp_path):
    file = parquet(tmp_path / "a.parquet", {"input_ids": IDS, "seq_lengths": LENGTHS})
    both = [f"one={file}", "--validation", f"two={file}"]
    refused = run("weigh", *both, *READ, "--out", tmp_path / "out")
    assert refused.err.endswith("fix:      narrow one of the patterns\n")


def test_a_row_of_another_length_far_behind(monkeypatch, tmp_path):
    monkeypatch.setattr("exactcpt.pipeline.sources.reading.BLOCK_BYTES", 100)
    rows = {"input_ids": [*IDS * 20, IDS[0][:7]], "seq_lengths": [*LENGTHS * 20, [3, 4]]}
    file = parquet(tmp_path / "a.parquet", rows)
    refused = run("weigh", file, *READ, "--out", tmp_path / "out")
    assert refused.code == 1 and "a row has 7 tokens" in refused.err
    assert "row a.parquet:41" in refused.err
    done("weigh", file, *READ, "--window", 8, "--out", tmp_path / "out", "--overwrite")


def test_a_file_without_rows_is_the_first_of_several(tmp_path):
    parquet(tmp_path / "a.parquet", dict.fromkeys(("input_ids", "seq_lengths"), NONE))
    parquet(tmp_path / "b.parquet", {"input_ids": IDS, "seq_lengths": LENGTHS})
    done("weigh", tmp_path / "*.parquet", *READ, "--out", tmp_path / "out")
    assert columns(shards_of(tmp_path / "out"), "input_ids") == IDS


def test_a_folder_of_partitioned_data(tmp_path):
    folder = tmp_path / "lang=en"
    folder.mkdir()
    parquet(folder / "a.parquet", {"input_ids": IDS, "seq_lengths": LENGTHS})
    for number, pattern in enumerate((folder, folder / "*.parquet")):
        out = tmp_path / f"out{number}"
        done("weigh", pattern, *READ, "--out", out)
        manifest = json.loads((out / "manifest.json").read_text())
        assert [each["name"] for each in manifest["sources"]] == ["lang-en"]


CHANGES = {
    "fewer rows": [[8, 8]] * 7,
    "more rows": [[8, 8]] * 9,
    "more segments": [[8, 7, 1], *[[8, 8]] * 7],
    "segments of other lengths": [[1, 15]] * 8,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_changes_after_it_was_counted(name, monkeypatch, tmp_path):
    row = IDS[0] * 2
    file = parquet(tmp_path / "a.parquet", {"input_ids": [row] * 8, "seq_lengths": [[8, 8]] * 8})
    lengths, numbered = CHANGES[name], units.number_shards

    def changing(*arguments: Any) -> Any:
        parquet(file, {"input_ids": [row] * len(lengths), "seq_lengths": lengths})
        return numbered(*arguments)

    monkeypatch.setattr(units, "number_shards", changing)
    # As with an object store, where nothing is noticed but the rows.
    monkeypatch.setattr("exactcpt.pipeline.sources.reading.is_unchanged", lambda _: True)
    flags = ["--workers", 1, "--out", tmp_path / "out"]
    refused = run("weigh", file, *READ, *flags)
    assert refused.code == 1 and "other windows than when they were counted" in refused.err
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_truncated_file(tmp_path):
    file = parquet(tmp_path / "a.parquet", {"input_ids": IDS, "seq_lengths": LENGTHS})
    file.write_bytes(file.read_bytes()[:-20])
    refused = run("weigh", file, *READ, "--out", tmp_path / "out")
    assert refused.code == 1 and "cannot be read" in refused.err


def test_lines_have_end_tokens_alone(packed, tmp_path):
    lines = [json.dumps({"input_ids": ids}) for ids in rows_of(packed)["input_ids"]]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(lines))
    refused = run("weigh", file, *READ, "--boundaries", "seq_lengths", "--out", tmp_path / "out")
    assert refused.code == 2 and "has no column 'seq_lengths'" in refused.err
    flags = ["--boundaries", "end_token", "--shard-bytes", "20k"]
    done("weigh", file, *READ, *flags, "--out", tmp_path / "out")
    assert_weighed(tmp_path / "out", packed)


def test_an_array_of_ids(packed, tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, np.array(rows_of(packed)["input_ids"], np.uint16))
    done("weigh", file, *READ, "--boundaries", "end_token", "--out", tmp_path / "out")
    assert_weighed(tmp_path / "out", packed)


def test_our_own_shards_are_for_reweigh(packed, tmp_path):
    refused = run("weigh", packed / "train", *READ, "--out", tmp_path / "out")
    assert refused.code == 2 and "exactcpt reweigh" in refused.err


def test_an_end_token_inside_some_segments_is_warned_of(tmp_path):
    rows = {"input_ids": IDS, "seq_lengths": [[8], [4, 4]]}
    file = parquet(tmp_path / "a.parquet", rows)
    done("weigh", file, *READ, "--out", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert any("is inside 1 of 3 segments" in warning for warning in manifest["warnings"])
    assert manifest["sources"][0]["read"]["encoding"]["inner_ends"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there are no windows to weigh"),
        (["a.parquet"], "--tokenizer is missing"),
        (["a.parquet,epochs=2", "--tokenizer", TOKENIZER], "says how often it is seen"),
        (["a.parquet", "--packed"], "No such option"),
    ],
)
def test_wrong_usage(arguments, message, tmp_path):
    refused = run("weigh", *arguments, "--out", tmp_path / "out")
    assert refused.code == 2 and message in refused.err


def test_packed_windows_have_no_other_packing(tmp_path):
    flags = ["--packed", "a.parquet", "--tokenizer", TOKENIZER]
    for more in (["--packing", "concat"], ["--seed", 1], ["--source", "a=b"], ["--window", "4,8"]):
        refused = run("inspect", *flags, *more)
        assert refused.code == 2, refused.err


def test_packed_rows_as_documents_are_warned_of(tmp_path):
    for name, rows in (
        ("packed", {"input_ids": IDS, "seq_lengths": LENGTHS}),
        ("plain", {"input_ids": IDS}),
    ):
        file = parquet(tmp_path / f"{name}.parquet", rows)
        flags = ["--source", f"mine={file},tokens=input_ids", "--window", 8]
        done("prepare", *flags, *READ, "--out", tmp_path / name)
        warnings = json.loads((tmp_path / name / "manifest.json").read_text())["warnings"]
        expected = name == "packed"
        assert any("exactcpt weigh" in warning for warning in warnings) == expected, warnings


WORDS = list(range(5, 13))
PADDED: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "a token that is not the tokenizer's": (
        {"input_ids": [[*WORDS, *[300] * 8]] * 3, "seq_lengths": [[16]] * 3},
        [],
        ["3 of 3 rows end with a run of one token"],
    ),
    "the same, named": (
        {"input_ids": [[*WORDS, *[300] * 8]] * 3, "seq_lengths": [[3, 5]] * 3},
        ["--pad-id", "300"],
        [],
    ),
    "on the left": (
        {"input_ids": [[EOS, EOS, *WORDS]] * 3, "seq_lengths": [[1, 1, 3, 5]] * 3},
        [],
        ["6 tokens of padding stand before or between"],
    ),
    "between documents": (
        {"input_ids": [[*WORDS, 300, 300, *WORDS]] * 3, "seq_lengths": [[10, 8]] * 3},
        ["--pad-id", "300"],
        ["6 tokens of padding stand before or between"],
    ),
    "one document in each row": (
        {"input_ids": [WORDS, WORDS[:5], WORDS[:3]], "seq_lengths": [[8], [5], [3]]},
        ["--window", "8"],
        ["every row is one document, and 33% of the windows is padding"],
    ),
    "labels": (
        {"input_ids": [WORDS] * 2, "seq_lengths": [[3, 5]] * 2, "labels": [WORDS] * 2},
        [],
        [],
    ),
    "labels and a mask": (
        {
            "input_ids": [WORDS] * 2,
            "seq_lengths": [[3, 5]] * 2,
            "labels": [WORDS] * 2,
            "loss_mask": [[1] * 8] * 2,
        },
        [],
        ["the column 'loss_mask' is not read: targets are those of 'labels'"],
    ),
    "spans of ours": (
        {"input_ids": [WORDS] * 2, "seq_lengths": [[3, 5]] * 2, "supervised": [[1, 2]] * 2},
        [],
        ["the column 'supervised' is not read"],
    ),
}


@pytest.mark.parametrize("name", PADDED)
def test_what_others_pad_and_mask_is_warned_of(name, tmp_path):
    rows, flags, expected = PADDED[name]
    file = parquet(tmp_path / "a.parquet", rows)
    done("weigh", file, *READ, *flags, "--out", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    about_rows = [w for w in manifest["warnings"] if w.startswith("source")]
    assert len(about_rows) == len(expected)
    for warning, text in zip(about_rows, expected, strict=True):
        assert text in warning
    if name == "the same, named":
        assert manifest["splits"]["train"]["padding"] == 24
        assert verify(str(tmp_path / "out")).ok
