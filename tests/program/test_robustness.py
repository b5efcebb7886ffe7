"""Jobs that are killed, interrupted, out of disk or not alone, and what the next run makes of it.

A job that is cut short at any moment leaves no process behind and nothing that counts as finished;
the same command, run again, completes to the bytes of a job that was never disturbed.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import harness
import psutil
import pytest
import xxhash
from commands import fork
from harness import DATA, TOKENIZER, bundled, done, finish, run, source, start, until

from exactcpt.pipeline.files import storage
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.verify import verify

pytestmark = pytest.mark.slow

# Small parts and shards, so that a job has many writes to be interrupted between.
FLAGS = [*bundled(), "--window", 256, "--split-bytes", "40k", "--shard-bytes", "200k"]
FLAGS += ["--group-tokens", "60k", "--workers", 2, "--dedup", "exact", "--token-budget", "300k"]
PROCESSES = ["--worker-type", "processes"]
ONE = ["--workers", 1]
"""For a job that nobody disturbs: its number of workers may be another one."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Digests of what the job writes when nobody disturbs it."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done("prepare", *FLAGS, *ONE, "--out", out)
    return harness.content(out)


def written(out: Path) -> int:
    """How many files a job has written so far, in its store and its shard set."""
    return sum(1 for f in (out, Path(f"{out}.store")) for p in f.rglob("*") if p.is_file())


def complete(out: Path, undisturbed: dict[str, dict[str, str]], *flags: object) -> None:
    """Runs the job to its end; it must come to the bytes of the undisturbed one."""
    done("prepare", *FLAGS, *ONE, *flags, "--out", out)
    assert harness.content(out) == undisturbed
    assert not harness.temporaries(out, Path(f"{out}.store"))


def assert_all_end(processes: list[psutil.Process], seconds: float = 5) -> None:
    assert until(lambda: not harness.alive(processes), seconds), [
        p.cmdline() for p in harness.alive(processes)
    ]


# SIGKILL


@pytest.mark.parametrize("moments", [(0, 12, 58), (4, 40, 90)])
def test_a_job_killed_again_and_again_completes_to_the_same_bytes(tmp_path, undisturbed, moments):
    """A moment is the number of files that are there; a whole run writes some 115."""
    out = tmp_path / "out"
    draw = random.Random(sum(moments))
    for moment in moments:
        process = fork("prepare", *FLAGS, "--out", out)
        until(lambda at=moment: process.poll() is not None or written(out) > at, 20)
        time.sleep(draw.random() * 0.05)
        process.kill()
        finish(process)
        for folder in (out, Path(f"{out}.store")):
            if (folder / "manifest.json").exists():
                assert harness.manifest(folder)["format_version"] == 1
    complete(out, undisturbed)


def test_a_killed_job_with_worker_processes_leaves_no_process(tmp_path, undisturbed):
    out = tmp_path / "out"
    for workers_seen, files in ((1, 0), (2, 20)):
        process = fork("prepare", *FLAGS, *PROCESSES, "--out", out)
        found: list[psutil.Process] = []

        def ready(seen: int = workers_seen, files: int = files) -> bool:
            found[:] = harness.children_of(process)
            return len(found) >= seen and written(out) >= files

        assert until(ready), finish(process).err
        found[:] = harness.children_of(process)
        process.kill()
        finish(process)
        assert_all_end(found)
    complete(out, undisturbed)


def test_a_worker_whose_job_is_gone_before_it_looks_ends():
    """The job was killed while the worker's interpreter was still starting."""
    code = (
        "import os, subprocess, sys\n"
        "worker = [sys.executable, '-m', 'exactcpt.pipeline.beam.worker']\n"
        "start = ['sh', '-c', 'sleep 0.3; exec \"$@\"', 'sh', *worker]\n"
        "from exactcpt.pipeline.beam import worker as module\n"
        "environment = {**os.environ, getattr(module, 'PARENT', 'PARENT'): str(os.getpid())}\n"
        "quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}\n"
        "print(subprocess.Popen(start, env=environment, **quiet).pid)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    worker = psutil.Process(int(found.stdout))
    try:
        assert_all_end([worker], 10)
    finally:
        if harness.alive([worker]):
            worker.kill()


@pytest.mark.parametrize(("phase", "age"), [("tokenize", 1.0), ("pack", 0)])
def test_a_killed_worker_process_ends_the_job_with_an_error_in_seconds(
    tmp_path, undisturbed, phase, age
):
    """Also one that is too young to be connected."""
    out = tmp_path / "out"
    if phase == "pack":
        done("tokenize", *FLAGS[: FLAGS.index("--window")], "--split-bytes", "40k",
             "--out", f"{out}.store")  # fmt: skip
    process = fork("prepare", *FLAGS, *PROCESSES, "--out", out)
    found: list[psutil.Process] = []

    def ready() -> bool:
        found[:] = harness.children_of(process)
        return len(found) == 2

    assert until(ready)
    time.sleep(age)
    random.Random(0).choice(found).kill()
    outcome = finish(process, 30)
    assert_all_end(found)
    assert outcome.code == 1, outcome.err
    message = outcome.err.partition("error: ")[2]
    assert "SIGKILL" in message and "memory" in message
    assert "run the same command again" in message
    assert len(message.splitlines()) <= 5
    assert "Traceback" not in outcome.err
    complete(out, undisturbed)


# SIGINT and SIGTERM


@pytest.mark.parametrize(
    ("number", "kind", "files"),
    [
        (signal.SIGINT, [], 0),
        (signal.SIGTERM, [], 20),
        (signal.SIGINT, PROCESSES, 20),
        (signal.SIGTERM, PROCESSES, 0),
    ],
)
def test_an_interrupted_job_ends_and_goes_on(tmp_path, undisturbed, number, kind, files):
    """Ctrl-C reaches every process of the terminal's group, so the signal goes to all of them."""
    out = tmp_path / "out"
    process = fork("prepare", *FLAGS, *kind, "--out", out)
    assert until(lambda: out.with_suffix(".store").exists() and written(out) >= files)
    found = harness.children_of(process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    outcome = finish(process, 30)
    assert outcome.code == 1, outcome.err
    assert outcome.err.endswith("error: interrupted; run the same command again to continue\n")
    assert "Traceback" not in outcome.err and "KeyboardInterrupt" not in outcome.err
    assert_all_end(found)
    assert not (out / "manifest.json").exists()
    complete(out, undisturbed)


# Power cuts


class PowerCutError(Exception):
    """Nothing is written from here on."""


@contextmanager
def power_cut_after(events: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Lets that many files be written or removed; the next one is left half-written."""
    left = [events]
    beside, remove, remove_tree = storage.written_whole, Folder.remove, Folder.remove_tree

    def spend() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise PowerCutError("power cut")

    @contextmanager
    def cut_beside(target: Path) -> Iterator[Path]:
        with beside(target) as scratch:
            yield scratch
            try:
                spend()
            except PowerCutError:
                data = scratch.read_bytes()
                half = scratch.with_name(scratch.name.replace(".tmp", "half.tmp"))
                half.write_bytes(data[: len(data) // 2])
                raise

    def cut_remove(self: Folder, name: str) -> None:
        spend()
        remove(self, name)

    def cut_remove_tree(self: Folder, name: str = "") -> None:
        spend()
        remove_tree(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "written_whole", cut_beside)
        patch.setattr(Folder, "remove", cut_remove)
        patch.setattr(Folder, "remove_tree", cut_remove_tree)
        yield left


SMALL = [*source("poems", DATA / "poems.jsonl", epochs=0.5), "--tokenizer", TOKENIZER]
SMALL += ["--window", 256, "--split-bytes", "120k", "--shard-bytes", "100k", "--workers", 1]


@pytest.fixture(scope="module")
def small_undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    out = tmp_path_factory.mktemp("small") / "out"
    done("prepare", *SMALL, "--out", out)
    return harness.content(out)


@pytest.mark.parametrize("events", [2, 3, 5, 8, 13, 21, 34])
def test_power_cuts_between_any_two_writes(tmp_path, small_undisturbed, monkeypatch, events):
    """Cut after that many writes, again and again, until the job is done; then once more, whole."""
    out = tmp_path / "out"
    for _ in range(3):
        with power_cut_after(events, monkeypatch):
            run("prepare", *SMALL, "--out", out)
        if (out / "manifest.json").exists():
            assert verify(str(out), f"{out}.store").ok
    done("prepare", *SMALL, "--out", out)
    assert harness.content(out) == small_undisturbed


@pytest.mark.parametrize("events", [1, 4, 9, 15, 22])
def test_power_cuts_while_another_jobs_output_is_replaced(
    tmp_path, small_undisturbed, monkeypatch, events
):
    """Nothing of the old job may turn up in the new one."""
    out = tmp_path / "out"
    done("prepare", *SMALL, "--seed", 5, "--min-tokens", 60, "--out", out)
    with power_cut_after(events, monkeypatch):
        run("prepare", *SMALL, "--overwrite", "--out", out)
    if (out / "manifest.json").exists():  # of either job; the store may be the other one's
        assert verify(str(out)).ok
    done("prepare", *SMALL, "--overwrite", "--out", out)
    assert harness.content(out) == small_undisturbed


# A full disk


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small disk, or gives the mounted one another size."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def resize(size: str) -> Path:
        how = f"size={size}" + (",remount" if disk.is_mount() else "")
        command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no permission to mount a small disk")
        return disk

    yield resize
    if disk.is_mount():
        subprocess.run(["umount", str(disk)], check=True)


def test_too_small_a_disk_is_noticed_before_the_work(mounted):
    out = mounted("2m") / "out"
    outcome = finish(fork("prepare", *FLAGS, "--out", out))
    assert outcome.code == 1
    message = outcome.err.partition("error: ")[2]
    assert "the disk has too little room" in message
    assert str(out) in message and "expected: about" in message
    assert not list(out.parent.rglob("*.arrow"))


@pytest.fixture(scope="module")
def deceptive(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """A source whose beginning has few tokens and whose end has many: the estimate is too low."""
    folder = tmp_path_factory.mktemp("deceptive")
    spaces = [{"text": " " * 4000 + str(i)} for i in range(40)]
    draw = random.Random(3)
    hard = [{"text": "".join(map(chr, draw.choices(range(0x4E00, 0x9FFF), k=400)))}
            for _ in range(1200)]  # fmt: skip
    harness.write_jsonl(folder / "a.jsonl", spaces)
    harness.write_jsonl(folder / "b.jsonl", hard)
    flags = [*source("docs", folder), "--tokenizer", TOKENIZER, "--window", 512]
    return [*flags, "--split-bytes", "100k", "--shard-bytes", "500k"]


@pytest.mark.parametrize(("kind", "size"), [([], "2500k"), ([], "8m"), (PROCESSES, "2500k")])
def test_a_disk_that_fills_up_is_an_error_and_the_job_goes_on_where_there_is_room(
    tmp_path, mounted, deceptive, kind, size
):
    """The store does not fit on the smaller disk, the shards do not fit on the larger one."""
    done("prepare", *deceptive, "--out", tmp_path / "roomy")
    out = mounted(size) / "out"
    outcome = finish(fork("prepare", *deceptive, *kind, "--out", out))
    assert outcome.code == 1, outcome.err
    message = outcome.err.partition("error: ")[2]
    assert "No space left on device" in message or "too little room" in message
    assert ("too little room" in message) <= (size == "8m")
    assert len(message.splitlines()) <= 5 and "Traceback" not in outcome.err
    assert not (out / "manifest.json").exists()
    mounted("100m")
    done("prepare", *deceptive, "--out", out)
    assert harness.content(out) == harness.content(tmp_path / "roomy")


def test_a_write_that_fails_in_the_middle(tmp_path, undisturbed):
    """A limit on the size of files does what a full disk does, without one."""
    limit = 40_000
    out = tmp_path / "out"
    process = start(
        "prepare", *FLAGS, "--out", out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    outcome = finish(process)
    assert outcome.code == 1
    message = outcome.err.partition("error: ")[2]
    assert "File too large" in message and "run the same command again" in message
    assert len(message.splitlines()) <= 5 and "Traceback" not in outcome.err
    complete(out, undisturbed)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    flags = [*harness.small(tmp_path, ["some words"]), "--window", 16]
    outcome = run("prepare", *flags, "--out", tmp_path / "file" / "out")
    assert outcome.code == 1
    assert str(tmp_path / "file") in outcome.err and "internal" not in outcome.err


# Two jobs at once


def test_the_second_job_in_a_folder_refuses(tmp_path, undisturbed):
    out = tmp_path / "out"
    first = fork("prepare", *FLAGS, "--out", out)
    assert until(lambda: written(out) > 5)
    for command, held in (
        (["prepare", *FLAGS, "--out", out], out),
        (["prepare", *FLAGS, "--out", out, "--store", tmp_path / "other"], out),
        (["prepare", *FLAGS, "--out", out, "--overwrite"], out),
        (["tokenize", *bundled(), "--out", f"{out}.store"], f"{out}.store"),
    ):
        second = run(*command)
        assert second.code == 1
        assert "another job is at work in this folder" in second.err
        assert f"where:    {held}\n" in second.err
    assert not (tmp_path / "other").exists()
    assert finish(first).code == 0
    assert harness.content(out) == undisturbed


def test_packing_holds_its_folder(tmp_path):
    flags = [*harness.small(tmp_path, ["some words"]), "--out", tmp_path / "store"]
    done("tokenize", *flags)
    (tmp_path / "out" / ".job").mkdir(parents=True)
    with filelock.FileLock(tmp_path / "out" / ".job" / "lock"):
        outcome = run("pack", tmp_path / "store", "--window", 16, "--out", tmp_path / "out")
    assert outcome.code == 1 and "another job is at work" in outcome.err
    done("pack", tmp_path / "store", "--window", 16, "--out", tmp_path / "out")


# Running again


JOB = ["--window", 64, "--min-tokens", 2]


def prepare_in(folder: Path) -> tuple[Path, list[Any]]:
    """A finished job over a folder of two files, and its flags without --out."""
    harness.write_jsonl(folder / "in" / "a.jsonl", [{"text": f"first {i}"} for i in range(50)])
    harness.write_jsonl(folder / "in" / "b.jsonl", [{"text": f"second {i}"} for i in range(50)])
    flags = [*source("docs", folder / "in"), "--tokenizer", TOKENIZER, *JOB]
    done("prepare", *flags, "--out", folder / "out")
    return folder / "out", flags


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Path, list[Any]]:
    """For tests that change something."""
    return prepare_in(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """For tests of what changes nothing."""
    return prepare_in(tmp_path_factory.mktemp("finished"))


def times(out: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for f in (out, Path(f"{out}.store"))
            for p in f.rglob("*") if p.is_file() and p.name != "lock"}  # fmt: skip


def test_a_finished_job_says_so_and_writes_nothing(finished):
    out, flags = finished
    before = times(out)
    outcome = done("prepare", *flags, "--out", out)
    assert f"{out} was finished before" in outcome.err
    assert done("prepare", *flags, "--out", out, "--json").json["status"] == "finished before"
    more = ["--workers", 1, "--max-rejected", 0.5, "--worker-type", "processes"]
    assert "finished before" in done("prepare", *flags, *more, "--out", out).err
    store = Path(f"{out}.store")
    without = flags[: flags.index("--window")]
    assert "finished before" in done("tokenize", *without, "--min-tokens", 2, "--out", store).err
    assert "finished before" in done("pack", store, "--window", 64, "--out", out).err
    assert times(out) == before


def test_a_finished_job_whose_store_was_discarded(prepared):
    out, flags = prepared
    shutil.rmtree(f"{out}.store")
    before = times(out)
    outcome = done("prepare", *flags, "--out", out, "--discard-store")
    assert "finished before" in outcome.err
    assert times(out) == before and not Path(f"{out}.store").exists()


def test_a_discarded_store_is_made_again_for_another_job(prepared, tmp_path):
    out, flags = prepared
    shutil.rmtree(f"{out}.store")
    outcome = run("prepare", *flags, "--out", out, "--seed", 3)
    assert outcome.code == 2 and "seed: 0 -> 3" in outcome.err
    done("prepare", *flags, "--out", out, "--seed", 3, "--overwrite")
    done("prepare", *flags, "--out", tmp_path / "other", "--seed", 3)
    assert harness.content(out) == harness.content(tmp_path / "other")


CHANGES = {
    "window: 64 -> 128": ["--window", 128, "--tau", 16],
    "tau: 16 -> 8": ["--tau", 8],
    "alpha: 0.15 -> 0.3": ["--alpha", 0.3],
    "alpha: 0.15 -> 0": ["--alpha", 0],
    "seed: 0 -> 1": ["--seed", 1],
    'packing: "concat" -> "best_fit"': ["--packing", "best_fit"],
    'dedup: "none" -> "exact"': ["--dedup", "exact"],
    "token_budget: null -> 1000": ["--token-budget", "1k"],
    "min_tokens: 2 -> 1": ["--min-tokens", 1],
    "split_bytes: 33554432 -> 1000": ["--split-bytes", 1000],
    'eos_token: "<|endoftext|>" -> "!"': ["--eos-token", "!"],
    'special_tokens_in_text: "ordinary" -> "allow"': ["--special-tokens-in-text", "allow"],
    'tokenizer_backend: "auto" -> "tokenizers"': ["--tokenizer-backend", "tokenizers"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_settings_are_refused_and_named(finished, change):
    out, flags = finished
    before = times(out)
    outcome = run("prepare", *flags, *CHANGES[change], "--out", out)
    assert outcome.code == 2, outcome.err
    message = outcome.err.partition("error: ")[2]
    assert "begun with other settings" in message
    assert change.partition(" -> ")[0] in message and change.rpartition(" -> ")[2] in message
    assert len([line for line in message.splitlines() if " -> " in line]) == 1
    assert "--overwrite" in message and str(out) in message
    assert times(out) == before


def test_another_tokenizer_is_refused(finished, tmp_path):
    out, flags = finished

    def change(tokenizer: dict[str, Any]) -> None:
        tokenizer["model"]["vocab"]["<new>"] = 4096

    folder = harness.changed_tokenizer(tmp_path / "t", change)
    outcome = run("prepare", *flags, "--tokenizer", folder, "--out", out)
    assert outcome.code == 2 and "tokenizer_sha256" in outcome.err


def test_changed_inputs_are_refused_and_named(prepared, tmp_path):
    out, flags = prepared
    path, other = tmp_path / "in" / "a.jsonl", tmp_path / "in" / "b.jsonl"
    data, stat = path.read_bytes(), path.stat()

    def refused(expected: str) -> None:
        outcome = run("prepare", *flags, "--out", out)
        assert outcome.code == 2, outcome.err
        assert "inputs have changed" in outcome.err and expected in outcome.err
        assert outcome.err.count(str(tmp_path / "in")) == expected.count(str(tmp_path / "in"))

    path.write_bytes(data + b'{"text": "more words"}\n')
    refused(f"changed: {path}")
    path.write_bytes(data.replace(b"first 1", b"first 7", 1))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 5_000_000_000))
    refused(f"changed: {path}")
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "finished before" in done("prepare", *flags, "--out", out).err
    shutil.copy2(other, tmp_path / "in" / "c.jsonl")
    refused(f"new: {tmp_path / 'in' / 'c.jsonl'}")
    (tmp_path / "in" / "c.jsonl").unlink()
    other.rename(tmp_path / "b.jsonl")
    refused(f"gone: {other}")


def touch(path: Path) -> None:
    """Gives a file another time and the same bytes, as a copy has."""
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 7_000_000_000))


def unfinished(store: Path, *, read: list[Path]) -> None:
    """Makes the store one of a job that has tokenized, and noted the checksums of some inputs."""
    (store / "manifest.json").unlink()
    facts = {
        str(path): {"xxh3_128": xxhash.xxh3_128_hexdigest(path.read_bytes()), "newlines": {}}
        for path in read
    }
    (store / ".job/files").mkdir()
    (store / ".job/files/000000.json").write_text(json.dumps(facts))


def test_inputs_that_were_touched_are_compared(prepared, tmp_path):
    out, flags = prepared
    path, before = tmp_path / "in" / "a.jsonl", harness.content(out)
    touch(path)
    outcome = done("prepare", *flags, "--out", out)
    assert "finished before" in outcome.err
    assert "1 input with another time than before: reading 0.0 MB" in outcome.err
    (out / ".job" / "prepared.json").unlink()
    touch(path)
    assert "compare the bytes" in done("prepare", *flags, "--out", out).err
    store = Path(f"{out}.store")
    assert "compare" not in done("prepare", *flags, "--out", out).err  # its time is known now
    touch(path)
    unfinished(store, read=sorted((tmp_path / "in").iterdir()))
    (out / "manifest.json").unlink()
    done("prepare", *flags, "--out", out)
    assert harness.content(out) == before
    touch(path)
    done("prepare", *flags, "--out", out, "--overwrite", "--alpha", 0.4)
    assert harness.content(out)["store"] == before["store"]
    touch(path)
    outcome = done("prepare", *flags, "--alpha", 0.4, "--out", out, "--discard-store")
    assert not store.exists()
    assert outcome.err.count("compare the bytes") == 1  # the set's and the store's, read once


def test_a_damaged_record_of_an_unfinished_job_is_made_anew_once_it_is_removed(prepared):
    out, flags = prepared
    before, store = harness.content(out), Path(f"{out}.store")
    for folder in (store, out):
        (folder / "manifest.json").unlink()
    summary = store / "parts" / "000000-0000.json"
    summary.write_bytes(summary.read_bytes()[:100])
    outcome = run("prepare", *flags, "--out", out)
    assert outcome.code == 1 and f"where:    {summary}" in outcome.err
    assert "fix:      remove that file and run the same command again" in outcome.err
    summary.unlink()
    done("prepare", *flags, "--out", out)
    assert harness.content(out) == before


def test_an_input_of_a_job_that_has_begun_must_be_known(prepared, tmp_path):
    """It may be another one of the same size, with which the splits behind it would be others."""
    _, flags = prepared
    store, names = tmp_path / "store", ("a", "b")
    done("tokenize", *flags[:4], "--out", store)
    paths = [tmp_path / "in" / f"{name}.jsonl" for name in names]
    unfinished(store, read=paths[1:])
    touch(paths[1])
    touch(paths[0])
    outcome = run("tokenize", *flags[:4], "--out", store)
    assert outcome.code == 2
    assert f"changed: {paths[0]}\n" in outcome.err and str(paths[1]) not in outcome.err


def test_an_input_that_was_not_read_yet_may_have_another_time(prepared, tmp_path):
    _, flags = prepared
    done("tokenize", *flags[:4], "--out", tmp_path / "store")
    for name in ("manifest.json", ".job/files", "parts"):
        path = tmp_path / "store" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    touch(tmp_path / "in" / "a.jsonl")
    done("tokenize", *flags[:4], "--out", tmp_path / "store")


def test_overwriting_makes_what_a_new_folder_would_have(prepared, tmp_path):
    out, flags = prepared
    (tmp_path / "in" / "b.jsonl").unlink()
    done("prepare", *flags, "--window", 128, "--out", out, "--overwrite")
    done("prepare", *flags, "--window", 128, "--out", tmp_path / "new")
    assert harness.content(out) == harness.content(tmp_path / "new")
    done("verify", out)


THEIRS = ["out/notes.txt", "out/documents/thesis.docx", "out/train/model.bin", "out/manifest.json"]
THEIRS += ["out.store/parts/a.json", "out.store/tokenizer.json"]


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_what_is_not_ours_is_neither_mixed_with_nor_removed(tmp_path, name, more):
    flags = [*harness.small(tmp_path, ["some words"]), "--window", 16]
    theirs = tmp_path / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("{}")
    outcome = run("prepare", *flags, *more, "--out", tmp_path / "out")
    assert outcome.code == 2, outcome.err
    assert name.split("/", 1)[1] in outcome.err
    assert theirs.read_text() == "{}"


def test_one_folder_for_store_and_shards_is_refused(tmp_path):
    flags = [*harness.small(tmp_path, ["some words"]), "--window", 16]
    out = tmp_path / "out"
    outcome = run("prepare", *flags, "--out", out, "--store", f"{out}/")
    assert outcome.code == 2
    assert not list(tmp_path.rglob("*.arrow"))


def test_temporaries_of_a_killed_job_are_removed(tmp_path, small_undisturbed, monkeypatch):
    out = tmp_path / "out"
    with power_cut_after(6, monkeypatch):
        run("prepare", *SMALL, "--out", out)
    names = ["out.store/parts/.000000-0000.arrow.0123abcd.tmp", "out.store/.manifest.json.8.tmp"]
    names += ["out.store/.job/files/.000000.json.9.tmp"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    done("prepare", *SMALL, "--out", out)
    assert harness.content(out) == small_undisturbed
    assert not harness.temporaries(tmp_path)


def test_an_unfinished_store_is_not_packed(tmp_path):
    flags = [*harness.small(tmp_path, ["some words"]), "--out", tmp_path / "store"]
    done("tokenize", *flags)
    (tmp_path / "store" / "manifest.json").unlink()
    outcome = run("pack", tmp_path / "store", "--window", 16, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "this token store is not finished" in outcome.err
    assert str(tmp_path / "store") in outcome.err and "continues where it stopped" in outcome.err
    outcome = run("pack", tmp_path / "none", "--window", 16, "--out", tmp_path / "out")
    assert outcome.code == 1 and "this is not a token store" in outcome.err


def test_a_damaged_store_is_not_packed(tmp_path):
    flags = [*harness.small(tmp_path, ["some words"] * 50), "--out", tmp_path / "store"]
    done("tokenize", *flags)
    part = tmp_path / "store" / "parts" / "000000-0000.arrow"
    part.write_bytes(part.read_bytes()[:-10])
    outcome = run("pack", tmp_path / "store", "--window", 16, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "damaged" in outcome.err and str(part) in outcome.err


def test_an_input_that_changes_while_it_is_read(tmp_path, monkeypatch):
    from exactcpt.pipeline.sources import reading

    flags = [*harness.small(tmp_path, ["some words"] * 50), "--out", tmp_path / "store"]
    read = reading.READERS["jsonl"]

    def read_and_touch(*args: Any) -> Any:
        yield from read(*args)
        os.utime(tmp_path / "docs.jsonl", (1, 1))

    monkeypatch.setitem(reading.READERS, "jsonl", read_and_touch)
    outcome = run("tokenize", *flags)
    assert outcome.code == 1
    assert "changed while it was read" in outcome.err
    assert str(tmp_path / "docs.jsonl") in outcome.err
