"""Sources, stores and shard sets on S3: the same bytes as on a disk, and plain errors.

A server of moto on this machine stands for S3.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness
import pytest
import tiny
from harness import DATA, done, run, source

pytest.importorskip("moto")
pytest.importorskip("s3fs")

from s3_server import Server, forget, serving, use

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.folder import LOCK, locked
from exactcpt.schemas.cached_set import CACHE
from exactcpt.schemas.errors import ExactcptError

pytestmark = pytest.mark.slow

SETTINGS = ["--window", 256, "--split-bytes", "20k", "--group-tokens", "20k"]
SETTINGS += ["--shard-bytes", "60k", "--dedup", "exact", "--validation-fraction", "0.1"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch, serving(patch) as started:
        yield started
    forget()


@pytest.fixture(autouse=True)
def _well(server: Server) -> Iterator[None]:
    server.requests.clear()
    yield
    server.every = 0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    shutil.copy(DATA / "tokenizer.json", folder)
    for name, count in (("poems", 60), ("proposals", 4)):
        lines = (DATA / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_bytes(b"".join(lines[:count]))
    server.upload(folder, "corpus")
    return folder


def job(place: object, out: object) -> list[object]:
    notes = source("notes", f"{place}/p*.jsonl", epochs=1.5)
    return ["prepare", *notes, "--tokenizer", f"{place}/tokenizer.json", *SETTINGS, "--out", out]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """What the job writes on a disk: the folder with shards and store."""
    folder = tmp_path_factory.mktemp("local")
    done(*job(corpus, folder / "shards"))
    return folder


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """The requests of the job in the fixture `remote`."""
    return []


@pytest.fixture(scope="module")
def remote(server: Server, local: Path, asked: list[str]) -> str:
    """The same job from S3 to S3."""
    server.requests.clear()
    out = server.url("job/shards")
    done(*job(server.url("corpus"), out))
    asked += server.requests
    return out


def test_the_same_bytes(server: Server, local: Path, remote: str, tmp_path: Path) -> None:
    found = server.download("job", tmp_path / "found")
    assert harness.content(found / "shards") == harness.content(local / "shards")
    assert harness.files(found / "shards.store") == harness.files(local / "shards.store")
    assert "finished before" in done(*job(server.url("corpus"), remote)).err
    assert [name for name in server.names() if name.endswith((".tmp", LOCK))] == []


def test_files_are_uploaded_once_and_under_their_names(remote: str, asked: list[str]) -> None:
    puts = [line for line in asked if line.startswith("PUT ") and not line.endswith(LOCK)]
    assert len(puts) == len({*puts}) > 20
    assert not [line for line in puts if ".tmp" in line or line.count(" ") > 1]


def test_reading_commands(server: Server, local: Path, remote: str) -> None:
    assert "everything agrees" in done("verify", remote).err
    for command in (["inspect"], ["show", "--window", "1"]):
        here = done(*command[:1], local / "shards", *command[1:]).out
        there = done(*command[:1], remote, *command[1:]).out
        there = there.replace(remote, str(local / "shards"))
        assert there.split() == here.split()  # lines break where the paths leave room


def test_packing_and_weighing_again(
    server: Server, local: Path, remote: str, tmp_path: Path
) -> None:
    for store, folder in ((local / "shards.store", tmp_path), (f"{remote}.store", server.url("2"))):
        flags = ["--window", 128, "--packing", "best_fit", "--out", f"{folder}/packed"]
        done("pack", store, *flags)
        done("reweigh", f"{folder}/packed", "--alpha", "0.5", "--out", f"{folder}/weighed")
    found = server.download("2", tmp_path / "found")
    for name in ("packed", "weighed"):
        assert harness.content(found / name) == harness.content(tmp_path / name)


def test_a_server_that_fails_now_and_then(server: Server, local: Path, tmp_path: Path) -> None:
    server.every = 17
    done(*job(server.url("corpus"), server.url("faults/shards")))
    server.every = 0
    found = server.download("faults", tmp_path / "found")
    assert harness.content(found / "shards") == harness.content(local / "shards")


def test_a_killed_job_is_continued_at_once(server: Server, local: Path, tmp_path: Path) -> None:
    command = job(server.url("corpus"), server.url("killed/shards"))
    process = harness.start(*command, start_new_session=True)
    assert harness.until(lambda: any("store/parts/" in each for each in server.names("killed")))
    os.killpg(process.pid, signal.SIGSTOP)
    second = run(*command)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert second.code == 1
    assert "another job is at work in this folder" in second.err
    assert "killed/shards/manifest.json" not in server.names("killed")
    done(*command)
    found = server.download("killed", tmp_path / "found")
    assert harness.content(found / "shards") == harness.content(local / "shards")


def test_small_files_are_read_many_at_once(server: Server) -> None:
    folder = Folder(server.url("many"))
    names = [f"{i}.json" for i in range(60)]
    folder.for_all(names, lambda name: folder.write(name, name.encode()))
    server.together, server.delay = 0, 0.3
    try:
        assert folder.for_all(names, folder.read) == [name.encode() for name in names]
    finally:
        server.delay = 0.0
    assert server.together > 20  # of its own accord, the driver has ten


def test_one_of_many_gets_the_lock(server: Server) -> None:
    folder = Folder(server.url("locked"))

    def try_it(_: int) -> bool:
        try:
            with locked(folder):
                time.sleep(1)
                return True
        except ExactcptError:
            return False

    # Threads are one process, which may take its own lock again: they have to be strangers.
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as pool:
        patch.setattr("exactcpt.pipeline.job.folder._process", lambda _: os.urandom(8).hex())
        assert sum(pool.map(try_it, range(8))) == 1
    assert server.names("locked") == []


def test_training_from_a_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    made = tiny.shards_and_model(tmp_path)
    url = server.upload(made / "shards", "trained")
    flags = ["--model", made / "model", "--steps", 2, "--global-batch", 2, "--device", "cpu"]
    for shards, out in ((made / "shards", "here"), (url, "there")):
        done("train", "--shards", shards, "--out", tmp_path / out, *flags)
    losses = [[step["loss"] for step in tiny.steps_of(tmp_path / out)] for out in ("here", "there")]
    assert losses[0] == losses[1]
    outcome = done("train", "--shards", url, "--out", tmp_path / "again", *flags)
    assert "copying" not in outcome.err


# Errors

BUCKETS = [
    ("prepare", "there is no bucket s3://nowhere"),
    ("verify", "there is no manifest"),
    ("inspect", "there is nothing at this path"),
    ("train", "there is no manifest"),
]


def command_for(name: str, url: str, corpus: Path, tmp_path: Path) -> list[object]:
    if name == "prepare":
        return job(corpus, url)
    if name == "train":
        model = DATA / "recall-base"
        return ["train", "--shards", url, "--model", model, "--out", tmp_path / "run"]
    return [name, url]


@pytest.mark.parametrize(("name", "found"), BUCKETS)
def test_a_bucket_that_does_not_exist(
    server: Server, corpus: Path, tmp_path: Path, name: str, found: str
) -> None:
    outcome = run(*command_for(name, "s3://nowhere/shards", corpus, tmp_path))
    assert outcome.code in (1, 2)
    assert f"error: {found}" in outcome.err
    assert "s3://nowhere/shards" in outcome.err
    assert not server.driver.exists("nowhere")


@pytest.mark.parametrize("name", ["prepare", "verify", "inspect", "train"])
@pytest.mark.parametrize("what", ["credentials", "address"])
def test_no_way_to_the_server(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if what == "credentials":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        forget()
    else:
        use(monkeypatch, "http://127.0.0.1:9")
    outcome = run(*command_for(name, "s3://corpora/job/shards", corpus, tmp_path))
    monkeypatch.undo()
    forget()
    assert outcome.code == 1
    found = "there are no credentials for s3://" if what == "credentials" else "cannot be reached: "
    assert found in outcome.err
    assert "  fix:      " in outcome.err
    assert "AWS_ENDPOINT_URL" in outcome.err or "aws configure" in outcome.err
    assert "internal error" not in outcome.err
