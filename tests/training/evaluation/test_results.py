"""Results are whole, found again, and go on where they were interrupted."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exactcpt.schemas.errors import ExactcptError, FormatError, UsageError
from exactcpt.training.evaluation.results import (
    ITEMS,
    PROMPTS,
    SCORES,
    ResultFolder,
    content_digest,
)

IDENTITY = {
    "suite": "probe", "suite_version": 1, "length": 256, "tasks": ["code"], "seed": 0,
    "ablation": "replace", "haystack": "a" * 32, "tokenizer": "b" * 32, "items": "c" * 32,
    "model": "d" * 32, "step": 3, "tau": None, "window": None, "positions": 4096,
    "precision": "fp32", "extrapolated": False,
}  # fmt: skip
MORE = {"device": "cpu", "versions": {"exactcpt": "0"}, "seconds": 1.5, "tokens": 7}
TABLE = pa.table({"item": [0, 1], "logp_gold": [-0.1, 1 / 3]})


def test_what_is_finished_is_found_again(tmp_path):
    folder = ResultFolder(tmp_path, IDENTITY)
    assert folder.path.name.startswith("probe-256-")
    assert len(folder.path.name) == len("probe-256-") + 8
    assert folder.finished() is None
    with folder.held(), folder.journal() as journal:
        journal.add({"0": [1]}, 0.5)
        assert folder.finished() is None
        manifest = folder.write({SCORES: TABLE}, MORE)
    assert ResultFolder(tmp_path, IDENTITY).finished() == manifest
    assert folder.scores().equals(TABLE)
    assert folder.items() is None
    assert {path.name for path in folder.path.iterdir()} == {"manifest.json", SCORES}


@pytest.mark.parametrize("name", IDENTITY)
def test_every_field_of_the_identity_has_its_own_folder(tmp_path, name):
    other = IDENTITY | {name: "other"}
    assert ResultFolder(tmp_path, other).path != ResultFolder(tmp_path, IDENTITY).path


def test_a_damaged_manifest(tmp_path):
    folder = ResultFolder(tmp_path, IDENTITY)
    folder.write({SCORES: TABLE}, MORE)
    path = folder.path / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": -1'))
    with pytest.raises(FormatError, match="the manifest is not valid"):
        folder.finished()


def test_two_processes(tmp_path):
    with ResultFolder(tmp_path, IDENTITY).held():
        with (
            pytest.raises(ExactcptError, match="another process makes the same evaluation"),
            ResultFolder(tmp_path, IDENTITY).held(),
        ):
            pass
        with ResultFolder(tmp_path, IDENTITY | {"seed": 1}).held():
            pass


@pytest.mark.parametrize("name", [SCORES, ITEMS, PROMPTS, "manifest.json"])
def test_what_a_killed_process_left_is_removed(tmp_path, name):
    folder = ResultFolder(tmp_path, IDENTITY)
    with folder.held(), folder.journal():
        left = folder.path / f".{name}.{'0' * 32}.tmp"
        left.touch()
    with folder.held():
        assert not left.exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="the results cannot be written: Not a directory"),
        ResultFolder(tmp_path / "file", IDENTITY).held(),
    ):
        pass


SCORED = [{"0": [1 / 3, -1e-300], "1": [-0.1, 2.5]}, {"2": [3, 4]}, {"3": [[5, "x", 1e22]]}]


def scored(folder):
    with folder.journal() as journal:
        return journal.scores, journal.seconds


def test_a_journal_cut_at_any_byte_goes_on(tmp_path):
    """Whatever was left of it, whole batches are kept, and more can be added."""
    folder = ResultFolder(tmp_path, IDENTITY)
    folder.path.mkdir(parents=True)
    with folder.journal() as journal:
        for batch in SCORED:
            journal.add(batch, 0.25)
    whole = (folder.path / "scores.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        (folder.path / "scores.jsonl").write_bytes(whole[:size])
        kept = max(0, sum(end <= size for end in ends) - 1)
        with folder.journal() as journal:
            for batch in SCORED[kept:]:
                assert not batch.keys() & journal.scores.keys()
                journal.add(batch, 0.25)
        assert scored(folder) == (SCORED[0] | SCORED[1] | SCORED[2], 0.75)


def test_a_journal_of_another_evaluation_is_dropped(tmp_path):
    one, other = (ResultFolder(tmp_path, IDENTITY | {"seed": seed}) for seed in (1, 2))
    for folder in (one, other):
        folder.path.mkdir(parents=True)
    with one.journal() as journal:
        journal.add(SCORED[0], 1)
    (one.path / "scores.jsonl").rename(other.path / "scores.jsonl")
    assert scored(other) == ({}, 0)


def test_the_digest_is_of_the_content(tmp_path):
    lists = pa.table({"gold": pa.array([[1, 2], [3]], pa.list_(pa.int32()))})
    moved = pa.table({"gold": pa.array([[1], [2, 3]], pa.list_(pa.int32()))})
    renamed = lists.rename_columns(["other"])
    assert len({content_digest(t) for t in (TABLE, lists, moved, renamed)}) == 4
    pq.write_table(lists, tmp_path / "x.parquet", compression="zstd")
    assert content_digest(pq.read_table(tmp_path / "x.parquet")) == content_digest(lists)
