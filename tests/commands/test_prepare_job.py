"""What `prepare` keeps, replaces and refuses when it finds output in its folders."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness import TOKENIZER, content, done, files, run, source, write_jsonl

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.folder import discard
from exactcpt.pipeline.tokens import job as tokenize_job

pytestmark = pytest.mark.slow

WINDOW = ["--window", 64]


@pytest.fixture
def flags(tmp_path: Path) -> list[Any]:
    write_jsonl(
        tmp_path / "docs.jsonl", [{"text": f"some words and a number {i}"} for i in range(50)]
    )
    return [*source("docs", tmp_path / "docs.jsonl"), "--tokenizer", TOKENIZER]


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.arrow")}


def test_overwriting_shards_keeps_the_store_they_can_be_packed_from(flags, tmp_path):
    out, store = tmp_path / "out", tmp_path / "out.store"
    done("prepare", *flags, *WINDOW, "--out", out)
    before = stamps(store)
    outcome = run("prepare", *flags, "--window", 32, "--out", out)
    assert outcome.code == 2 and "window: 64 -> 32" in outcome.err
    done("prepare", *flags, "--window", 32, "--out", out, "--overwrite")
    assert stamps(store) == before
    done("prepare", *flags, "--window", 32, "--out", tmp_path / "new")
    assert content(out) == content(tmp_path / "new")


def test_overwriting_replaces_a_store_of_other_settings(flags, tmp_path):
    out = tmp_path / "out"
    done("prepare", *flags, *WINDOW, "--out", out)
    done("prepare", *flags, *WINDOW, "--min-tokens", 5, "--out", out, "--overwrite")
    done("prepare", *flags, *WINDOW, "--min-tokens", 5, "--out", tmp_path / "new")
    assert content(out) == content(tmp_path / "new")


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_an_output_folder_of_something_else_is_refused_before_the_work(flags, tmp_path, overwrite):
    out = tmp_path / "out"
    out.mkdir()
    (out / "note").write_text("mine")
    outcome = run("prepare", *flags, *WINDOW, "--out", out, *overwrite)
    assert outcome.code == 2 and "holds other files: note" in outcome.err
    assert not (tmp_path / "out.store").exists()
    assert [path.name for path in out.iterdir()] == ["note"]


def test_other_shards_are_refused_before_the_work(flags, tmp_path):
    out = tmp_path / "out"
    done("prepare", *flags, *WINDOW, "--out", out, "--discard-store")
    outcome = run("prepare", *flags, "--window", 32, "--out", out)
    assert outcome.code == 2 and "window: 64 -> 32" in outcome.err
    write_jsonl(tmp_path / "docs.jsonl", [{"text": "other words"}])
    outcome = run("prepare", *flags, *WINDOW, "--out", out)
    assert outcome.code == 2 and "inputs have changed" in outcome.err
    assert not (tmp_path / "out.store").exists()


def test_shards_that_pack_has_begun_are_refused_before_the_work(flags, tmp_path):
    store, out = tmp_path / "store", tmp_path / "out"
    done("tokenize", *flags, "--out", store)
    done("pack", store, *WINDOW, "--out", out)
    outcome = run("prepare", *flags, "--window", 32, "--out", out)
    assert outcome.code == 2 and "window: 64 -> 32" in outcome.err
    assert not (tmp_path / "out.store").exists()


def test_a_job_that_wrote_nothing_leaves_no_folder(tmp_path):
    outcome = run("pack", tmp_path / "nowhere", *WINDOW, "--out", tmp_path / "a" / "out")
    assert outcome.code == 1 and "not a token store" in outcome.err
    assert not (tmp_path / "a" / "out").exists()


# Discarding the store


def test_discarding_also_when_the_shards_were_finished_before(flags, tmp_path):
    out = tmp_path / "out"
    done("prepare", *flags, *WINDOW, "--out", out)
    outcome = done("prepare", *flags, *WINDOW, "--out", out, "--discard-store")
    assert "finished before" in outcome.err
    assert not (tmp_path / "out.store").exists()


def test_discarding_leaves_what_is_not_the_stores(flags, tmp_path):
    store = tmp_path / "mystore"
    done("tokenize", *flags, "--out", store)
    (store / "notes.txt").write_text("mine")
    more = [*WINDOW, "--store", store, "--discard-store"]
    done("prepare", *flags, *more, "--out", tmp_path / "out")
    assert files(store).keys() == {"notes.txt"}


def test_discarding_leaves_a_store_of_something_else(flags, tmp_path):
    out, store = tmp_path / "out", tmp_path / "out.store"
    done("prepare", *flags, *WINDOW, "--out", out)
    shutil.rmtree(store)
    done("tokenize", *flags, "--min-tokens", 5, "--out", store)
    before = files(store)
    done("prepare", *flags, *WINDOW, "--out", out, "--discard-store")
    assert files(store) == before


def test_a_store_half_discarded_never_counts_as_complete(flags, tmp_path, monkeypatch):
    out, store = tmp_path / "out", tmp_path / "out.store"
    done("prepare", *flags, *WINDOW, "--out", out)
    removed: list[str] = []

    class PowerCutError(BaseException):
        pass

    def cut(self: Folder, name: str = "") -> None:
        removed.append(name)
        raise PowerCutError

    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(Folder, "remove_tree", cut)
        discard(Folder(str(store)), tokenize_job.OWNED)
    assert removed and (store / "parts").exists()
    assert run("pack", store, *WINDOW, "--out", tmp_path / "other").code == 1
    done("prepare", *flags, *WINDOW, "--out", out, "--discard-store")
    assert not store.exists()


def test_the_last_of_a_discarded_store_is_removed(flags, tmp_path):
    """The job was killed before it removed the mark that it is removing."""
    out, store = tmp_path / "out", tmp_path / "out.store"
    done("prepare", *flags, *WINDOW, "--out", out, "--discard-store")
    (store / ".job").mkdir(parents=True)
    (store / ".job" / "removing").write_bytes(b"")
    done("prepare", *flags, *WINDOW, "--out", out, "--discard-store")
    assert not store.exists()


@pytest.mark.parametrize("left", [[], [".job"], [".job", ".job/lock"]])
def test_a_lock_and_empty_folders_of_a_discarded_store_are_removed(flags, tmp_path, left):
    """The job was killed after it removed that mark."""
    out, store = tmp_path / "out", tmp_path / "out.store"
    done("prepare", *flags, *WINDOW, "--out", out, "--discard-store")
    store.mkdir()
    for name in left:
        (store / name).touch() if name.endswith("lock") else (store / name).mkdir()
    done("prepare", *flags, *WINDOW, "--out", out, "--discard-store")
    assert not store.exists()


def test_a_mark_that_was_never_finished_does_not_keep_a_discarded_store(flags, tmp_path):
    out, store = tmp_path / "out", tmp_path / "out.store"
    done("prepare", *flags, *WINDOW, "--out", out)
    (store / ".job" / f".removing.{'0' * 32}.tmp").touch()
    done("prepare", *flags, *WINDOW, "--out", out, "--discard-store")
    assert not store.exists()


# What had been left out


@pytest.fixture
def with_a_bad_file(flags, tmp_path) -> list[Any]:
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(b'{"text": "words"}\n' * 99)[:-9])
    return [*flags, *source("more", tmp_path / "bad.jsonl.gz"), *WINDOW]


def test_finished_output_without_a_bad_file_is_not_what_fail_asks_for(with_a_bad_file, tmp_path):
    out = tmp_path / "out"
    done("prepare", *with_a_bad_file, "--out", out, "--on-bad-file", "skip")
    done("prepare", *with_a_bad_file, "--out", out, "--on-bad-file", "skip")
    outcome = run("prepare", *with_a_bad_file, "--out", out)
    assert outcome.code == 1
    assert f"{out} is finished, but leaves out 1 bad file, such as bad.jsonl.gz" in outcome.err
    assert "--on-bad-file skip" in outcome.err


def test_an_unfinished_store_reads_the_bad_file_again(with_a_bad_file, tmp_path):
    out, store = tmp_path / "out", tmp_path / "out.store"
    done("prepare", *with_a_bad_file, "--out", out, "--on-bad-file", "skip")
    shutil.rmtree(out)
    (store / "manifest.json").unlink()
    (store / ".job" / "bad").mkdir()
    bad = {"url": str(tmp_path / "bad.jsonl.gz"), "reason": "truncated"}
    (store / ".job" / "bad" / "0.json").write_text(json.dumps(bad))
    outcome = run("prepare", *with_a_bad_file, "--out", out)
    assert outcome.code == 1 and "bad.jsonl.gz" in outcome.err
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(b'{"text": "words"}\n' * 99))
    done("prepare", *with_a_bad_file, "--out", tmp_path / "mended")
    manifest = json.loads((tmp_path / "mended/manifest.json").read_text())
    assert not any("left out" in warning for warning in manifest["warnings"])


def test_finished_output_with_more_rejected_than_is_allowed_now(tmp_path):
    write_jsonl(tmp_path / "docs.jsonl", [*[{"text": f"words {i}"} for i in range(99)], b"{"])
    flags = [*source("docs", tmp_path / "docs.jsonl"), "--tokenizer", TOKENIZER, *WINDOW]
    out = tmp_path / "out"
    done("prepare", *flags, "--out", out)
    for folder in (out, tmp_path / "out.store"):
        outcome = run("prepare", *flags, "--out", out, "--max-rejected", 0.001)
        assert outcome.code == 1
        assert f"{folder} is finished, but too many records were rejected: 1 of 100" in outcome.err
        assert "at most 0.10%" in outcome.err
        shutil.rmtree(out, ignore_errors=True)
