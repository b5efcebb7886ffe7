"""A token store whose files have changed: no reader takes its bytes for what was written."""

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from harness import TOKENIZER, content, done, files, manifest, run, source, write_jsonl
from hypothesis import given
from hypothesis import strategies as st
from stores import part_of_nothing

from exactcpt.pipeline.files.storage import Folder, checksum
from exactcpt.pipeline.pack import job, units
from exactcpt.pipeline.pack.shards import ShardTask
from exactcpt.pipeline.pack.store_files import refuse_replaced, with_checks
from exactcpt.schemas.errors import ExactcptError
from exactcpt.schemas.manifest import MANIFEST

PACK = ["--window", 32, "--shard-bytes", 1000, "--group-tokens", 300, "--workers", 1]
FLIPS = 3
"""Of every file."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus `in`, its token store, and the set `set` packed from that."""
    folder = tmp_path_factory.mktemp("durable")
    texts = [{"id": f"d{i}", "text": "the sea, the sea " * (i % 7)} for i in range(60)]
    write_jsonl(folder / "in/docs.jsonl", [*texts, b"no record"])
    done("tokenize", *tokenizing(folder), "--out", folder / "store")
    done("pack", folder / "store", *PACK, "--out", folder / "set")
    return folder


def tokenizing(folder: Path) -> list[Any]:
    corpus = source("docs", folder / "in/docs.jsonl")
    return [*corpus, "--tokenizer", TOKENIZER, "--split-bytes", 2000, "--max-rejected", 0.5]


def copied(place: Path, tmp_path: Path) -> Path:
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    return Path(shutil.copytree(place / "store", tmp_path / "store"))


def stored(store: Path) -> list[str]:
    return sorted(files(store))


def flips(path: Path, seed: object) -> Iterator[bytes]:
    """The bytes of a file, each time with one bit changed."""
    data, draw = path.read_bytes(), random.Random(f"{path.name} {seed}")
    for at in draw.sample(range(len(data)), FLIPS):
        yield data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def plain(outcome: Any) -> bool:
    """Whether a command failed with a plain error."""
    told = outcome.err.partition("error: ")[2]
    return outcome.code != 0 and bool(told) and "internal error" not in told


def test_every_file_of_a_store_is_in_these_tests(place):
    kinds = {"".join(c for c in name if not c.isdigit()) for name in stored(place / "store")}
    assert kinds == {
        "manifest.json",
        "tokenizer.json",
        "parts/-.arrow",
        "parts/-.index.arrow",
        "parts/-.json",
        "rejected/-.jsonl",
    }
    assert len(list((place / "store/parts").glob("*.index.arrow"))) >= 3


@pytest.mark.slow
def test_a_flipped_bit_never_reaches_a_shard(place, tmp_path):
    """Either an error, or the shards and documents of the undamaged store; one file of a kind."""
    store, out = copied(place, tmp_path), tmp_path / "out"
    wanted = {name: value for name, value in files(place / "set").items() if name != MANIFEST}
    harmless = ("rejected/", "manifest.json", "parts/000001-0000.json")
    for name in [n for n in stored(store) if n[:6] != "parts/" or "000001-0000" in n]:
        whole = (store / name).read_bytes()
        for data in flips(store / name, "pack"):
            (store / name).write_bytes(data)
            shutil.rmtree(out, ignore_errors=True)
            outcome = run("pack", store, *PACK, "--out", out)
            if outcome.code:
                assert plain(outcome), outcome.err
                assert not (out / MANIFEST).exists()
            else:
                made = {n: value for n, value in files(out).items() if n != MANIFEST}
                assert made == wanted, name
                assert name.startswith(harmless), name
        (store / name).write_bytes(whole)


def test_a_flipped_bit_never_reaches_an_inspection(place, tmp_path):
    store = copied(place, tmp_path)
    asked = ["inspect", store, "--window", "32", "--json"]
    wanted = done(*asked).json["subjects"][0]["rows"]
    for name in stored(store):
        whole = (store / name).read_bytes()
        for data in flips(store / name, "inspect"):
            (store / name).write_bytes(data)
            outcome = run(*asked)
            if outcome.code:
                assert plain(outcome), outcome.err
            else:
                assert outcome.json["subjects"][0]["rows"] == wanted
                assert "index" not in name
        (store / name).write_bytes(whole)


def test_a_flipped_bit_is_found_by_verify(place, tmp_path):
    store = copied(place, tmp_path)
    asked = ["verify", place / "set", "--store", store]
    done(*asked)
    for name in stored(store):
        whole = (store / name).read_bytes()
        for data in flips(store / name, "verify"):
            (store / name).write_bytes(data)
            outcome = run(*asked)
            read = not name.startswith("rejected") and (name[:6] != "parts/" or "arrow" in name)
            assert (outcome.code != 0) == read, name
            assert "internal error" not in outcome.err
        (store / name).write_bytes(whole)


def test_a_flipped_bit_in_what_a_job_continues_from(place, tmp_path):
    """The record of the settings and the summaries; a part is compared when it is read."""
    wanted = content(place / "set")["shards"] | files(place / "store")
    kept = sorted((place / "store/.job").rglob("*.json")) + sorted(
        (place / "store/parts").glob("*.json")
    )
    for path in kept:
        name = path.relative_to(place / "store")
        for data in flips(path, "continue"):
            store = copied(place, tmp_path)
            (store / MANIFEST).unlink()
            (store / name).write_bytes(data)
            outcome = run("tokenize", *tokenizing(place), "--out", store)
            if outcome.code:
                assert plain(outcome), outcome.err
                continue
            others = {k: v for k, v in files(store).items() if k != str(name)}
            if others != {k: v for k, v in wanted.items() if k in others}:
                outcome = run("pack", store, *PACK, "--out", tmp_path / "out")
                assert plain(outcome), name


@pytest.mark.parametrize("key", ["documents", "tokens"])
def test_a_manifest_with_other_counts_is_not_packed(place, tmp_path, key):
    store = copied(place, tmp_path)
    told = manifest(store)
    told["parts"][0][key] += 1
    (store / MANIFEST).write_text(json.dumps(told))
    outcome = run("pack", store, *PACK, "--out", tmp_path / "out")
    assert outcome.err.endswith(
        "error: a file of the token store is damaged\n"
        f"  where:    {store}/manifest.json\n"
        "  expected: what the summaries of the parts (parts/*.json) say of part 000000-0000\n"
        "  fix:      restore the file, or write the store again with `exactcpt tokenize "
        "--overwrite`\n"
    )
    for summary in (store / "parts").glob("*.json"):
        summary.unlink()  # such as a copy without them: the index tells
    outcome = run("pack", store, *PACK, "--out", tmp_path / "out2")
    assert "as the manifest says, not" in outcome.err and plain(outcome)


def test_a_manifest_that_names_another_file_is_not_packed(place, tmp_path):
    store = copied(place, tmp_path)
    shutil.rmtree(store / "parts", ignore_errors=True)
    told = manifest(store)
    told["parts"][0]["file"]["path"] = "../elsewhere.arrow"
    (store / MANIFEST).write_text(json.dumps(told))
    outcome = run("pack", store, *PACK, "--out", tmp_path / "out")
    assert plain(outcome) and "'../elsewhere.arrow' does not match" in outcome.err


@pytest.mark.parametrize("key", ["file", "index"])
def test_a_part_that_is_a_pipe_or_elsewhere_is_not_opened(place, tmp_path, key):
    store = copied(place, tmp_path)
    told = manifest(store)
    path = store / told["parts"][0][key]["path"]
    shutil.move(path, tmp_path / "elsewhere.arrow")
    path.symlink_to(tmp_path / "elsewhere.arrow")
    outcome = run("pack", store, *PACK, "--out", tmp_path / "out")
    assert plain(outcome) and "a file leads out of its folder" in outcome.err
    path.unlink()
    os.mkfifo(path)  # to open it would mean to wait for ever
    told["parts"][0][key]["bytes"] = 0
    (store / MANIFEST).write_text(json.dumps(told))
    for summary in (store / "parts").glob("*.json"):
        summary.unlink()
    outcome = run("pack", store, *PACK, "--out", tmp_path / "out2")
    assert plain(outcome) and "this is a named pipe" in outcome.err


# every part is checked once


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 4), max_size=9))
def test_every_part_is_given_to_one_shard(groups_of_shards, groups_of_parts):
    """To one of its group, if that has a shard."""
    shards = [
        ShardTask(name=f"{i}", split="train", group=g, start=0, stop=1)
        for i, g in enumerate(groups_of_shards)
    ]
    parts = [
        part_of_nothing(part=f"{i}", source="a", first_document=i, documents=1, tokens=1)
        for i in range(len(groups_of_parts))
    ]
    summaries = [
        {"group": g, "parts": [f"{i}" for i, other in enumerate(groups_of_parts) if other == g]}
        for g in range(4)  # parts of group 4 are in no summary
    ]
    given_to = [(s.group, p) for s in with_checks(shards, parts, summaries) for p in s.checks]
    assert sorted(p.part for _, p in given_to) == sorted(p.part for p in parts if shards)
    for group, part in given_to:
        wanted = groups_of_parts[int(part.part)]
        assert group == wanted or wanted not in groups_of_shards


def test_a_part_of_a_local_store_is_hashed_once(place, tmp_path, monkeypatch):
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return checksum(path)

    monkeypatch.setattr("exactcpt.pipeline.tokens.store.checksum", counted)
    done("pack", place / "store", *PACK, "--epochs", "docs=2.5", "--out", tmp_path / "out")
    parts = [path.name for path in (place / "store/parts").glob("*-????.arrow")]
    assert sorted(name for name in hashed if "index" not in name) == sorted(parts)


@pytest.mark.slow
def test_a_remote_part_is_compared_when_it_is_fetched_and_not_fetched_for_it(
    place, tmp_path, monkeypatch
):
    """The comparison adds no request."""
    remote = Folder(f"memory:/{tmp_path}/store")
    for name in stored(place / "store"):
        remote.write(name, (place / "store" / name).read_bytes())
    fetched: list[str] = []
    cat_file = MemoryFileSystem.cat_file

    def fetch(fs: Any, path: str, **where: Any) -> bytes:
        fetched.append(path)
        return cat_file(fs, path, **where)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fetch)
    done("pack", remote.url, *PACK, "--out", tmp_path / "out")
    assert files(tmp_path / "out") == files(place / "set")
    counts = len(fetched)
    monkeypatch.setattr("exactcpt.pipeline.pack.shards.refuse_damaged", lambda *_: None)
    fetched.clear()
    done("pack", remote.url, *PACK, "--out", tmp_path / "unchecked")
    assert len(fetched) == counts
    monkeypatch.undo()
    name = "parts/000000-0000.arrow"
    data = bytearray(remote.read(name))
    data[len(data) // 2] ^= 1
    remote.write(name, bytes(data))
    outcome = run("pack", remote.url, *PACK, "--out", tmp_path / "damaged")
    assert plain(outcome) and f"{remote.url}/{name}" in outcome.err


# a store that is replaced while it is read


def replace_when(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, place: Path) -> None:
    """Lets another job write the store again at the first call of a function."""
    called, step = [], getattr(module, name)

    def hooked(*arguments: Any, **more: Any) -> Any:
        if not called:
            called.append(True)
            other = [*tokenizing(place), "--min-tokens", 9, "--overwrite"]
            done("tokenize", *other, "--out", place / "store")
        return step(*arguments, **more)

    monkeypatch.setattr(module, name, hooked)


@pytest.mark.parametrize(
    ("module", "name"),
    [(job, "store_parts"), (units, "write_shard")],
)
def test_a_store_that_is_replaced_while_it_is_packed(place, tmp_path, monkeypatch, module, name):
    shutil.copytree(place / "in", tmp_path / "in")
    done("tokenize", *tokenizing(tmp_path), "--out", tmp_path / "store")
    replace_when(monkeypatch, module, name, tmp_path)
    outcome = run("pack", tmp_path / "store", *PACK, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert outcome.err.endswith(
        "error: the token store has been replaced while it was read\n"
        f"  where:    {tmp_path}/store\n"
        "  expected: a store that stays as it is\n"
        "  fix:      run the command again once no job writes there; `pack` then needs "
        "--overwrite\n"
    )
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_a_store_whose_manifest_is_gone_was_replaced(tmp_path):
    with pytest.raises(ExactcptError, match="replaced"), refuse_replaced(Folder(str(tmp_path)), ""):
        raise ValueError
    with refuse_replaced(Folder(str(tmp_path)), None):
        pass


def test_a_store_that_cannot_be_reached_keeps_its_own_error(tmp_path, monkeypatch):
    def refuse(*_: object) -> bytes:
        raise OSError("out of reach")

    monkeypatch.setattr(Folder, "read", refuse)
    with pytest.raises(ValueError, match="first"), refuse_replaced(Folder(str(tmp_path)), ""):
        raise ValueError("first")
