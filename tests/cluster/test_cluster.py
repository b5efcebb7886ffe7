"""Whole jobs on engines with workers of their own: the same bytes as embedded, also after faults.

`make cluster` runs this; see README.md.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import harness
import psutil
import pytest
from harness import (
    CORPORA,
    DATA,
    Outcome,
    alive,
    bundled,
    children_of,
    done,
    files,
    finish,
    run,
    source,
    start,
    until,
)
from s3_server import Server, serving

sys.path.insert(0, str(Path(__file__).parent))

from engines import ENGINES, Engine, MissingError, prism_program

WINDOW = ["--window", 512, "--group-tokens", "40k", "--shard-bytes", "100k"]
SECONDS = 1800


def corpus(folder: object = DATA) -> list[str]:
    return [*bundled(folder, poems=",epochs=1.5", novels=",epochs=0.5"), "--split-bytes", "20k"]


def job(out: Path) -> list[object]:
    """Deduplicated and mixed."""
    return [
        "prepare",
        *corpus(f"file://{DATA}"),
        *WINDOW,
        "--dedup",
        "exact",
        "--out",
        f"file://{out}",
    ]


def packing(out: Path) -> list[object]:
    """The same store in the other packing."""
    flags = ["--packing", "best_fit", "--dedup", "exact", "--out", f"file://{out}.best_fit"]
    return ["pack", f"file://{out}.store", *WINDOW, *flags]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the embedded runner writes."""
    out = tmp_path_factory.mktemp("embedded") / "out"
    done(*job(out))
    done(*packing(out))
    return written(out)


def written(out: Path) -> dict[str, bytes]:
    """The bytes of all files of the shard sets and the store, by folder and name."""
    folders = [out, Path(f"{out}.store"), Path(f"{out}.best_fit")]
    return {
        f"{folder.suffix}/{path.relative_to(folder)}": path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".job" not in path.parts
    }


def same(out: Path, embedded: dict[str, bytes]) -> bool:
    found = written(out)
    folders = {name.partition("/")[0] for name in found}
    wanted = {name: data for name, data in embedded.items() if name.partition("/")[0] in folders}
    return {"", ".store"} <= folders and found == wanted


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """An object store."""
    with pytest.MonkeyPatch.context() as patch, serving(patch) as running:
        yield running


@pytest.fixture(scope="module", params=ENGINES)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: Server
) -> Iterator[Engine]:
    """An engine whose workers find the object store."""
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    try:
        manager = ENGINES[request.param](folder)
        with manager as started:
            yield started
    except MissingError as error:
        pytest.skip(str(error))


def on(engine: Engine, words: list[object]) -> Outcome:
    """Runs a command on an engine, in a process of its own."""
    return finish(start(*words, *engine.flags), SECONDS)


def begun(engine: Engine, out: Path) -> "harness.subprocess.Popen[str]":
    """A job that has written a part and has more to do."""
    process = start(*job(out), *engine.flags)
    parts = Path(f"{out}.store/parts")
    assert until(lambda: process.poll() is not None or [*parts.glob("*.json")], SECONDS)
    assert process.poll() is None, process.communicate()[1]
    return process


def test_the_same_bytes(engine: Engine, embedded: dict[str, bytes], tmp_path: Path) -> None:
    for words in (job(tmp_path / "out"), packing(tmp_path / "out")):
        outcome = on(engine, words)
        assert outcome.code == 0, outcome.err
    assert written(tmp_path / "out") == embedded
    sys.stdout.write(f"tasks of each machine: {engine.tasks()}\n")
    assert all(engine.tasks())


def test_a_store_whose_requests_fail_now_and_then(
    engine: Engine, server: Server, tmp_path: Path
) -> None:
    poems = source("poems", f"file://{DATA / CORPORA['poems']}")
    words = ["prepare", *poems, "--tokenizer", f"file://{DATA}/tokenizer.json", *WINDOW, "--out"]
    done(*words, tmp_path / "here/out")
    server.every, before = 9, server.failed
    try:
        outcome = on(engine, [*words, server.url(f"{tmp_path.name}/out")])
    finally:
        server.every = 0
    failed = server.failed - before
    sys.stdout.write(f"{failed} requests have failed\n")
    assert outcome.code == 0, outcome.err
    assert failed > 20
    server.download(tmp_path.name, tmp_path / "there")
    assert written(tmp_path / "there/out") == written(tmp_path / "here/out")


def test_the_same_report_and_the_same_copy(engine: Engine, tmp_path: Path) -> None:
    out, flags = tmp_path / "out", ["--alpha", "0.4", "--out"]
    done(*job(out))
    done("reweigh", out, *flags, tmp_path / "one")
    outcome = on(engine, ["reweigh", f"file://{out}", *flags, f"file://{tmp_path}/other"])
    assert outcome.code == 0, outcome.err
    assert files(tmp_path / "other") == files(tmp_path / "one")
    flip = next((out / "validation").glob("*"))
    flip.write_bytes(flip.read_bytes()[:-1] + b"?")
    outcome = on(engine, ["verify", f"file://{out}", "--json"])
    assert outcome.json == run("verify", out, "--json").json
    assert (outcome.code, len(outcome.json["findings"])) == (1, 1)


def test_a_worker_is_killed(engine: Engine, embedded: dict[str, bytes], tmp_path: Path) -> None:
    """The engine goes on, or it ends the job, or a person does; the same command continues."""
    process = begun(engine, tmp_path / "out")
    workers: list[psutil.Process] = []
    assert until(lambda: workers.extend(engine.workers()) or workers or process.poll(), SECONDS)
    workers[0].kill()
    if engine.after_death == "waits":
        time.sleep(20)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
    outcome = finish(process, SECONDS)
    sys.stdout.write(f"a worker is killed: exit {outcome.code}\n{outcome.err}")
    if engine.after_death == "goes on":
        assert outcome.code == 0, outcome.err
    elif outcome.code:
        assert "error: " in outcome.err and "Traceback" not in outcome.err
        again = on(engine, job(tmp_path / "out"))
        assert again.code == 0, again.err
    assert same(tmp_path / "out", embedded)


def test_the_driver_is_killed(engine: Engine, embedded: dict[str, bytes], tmp_path: Path) -> None:
    """The next command begins at once, while the engine still works for the first one."""
    process = begun(engine, tmp_path / "out")
    process.kill()
    process.communicate()
    outcome = on(engine, job(tmp_path / "out"))
    assert outcome.code == 0, outcome.err
    assert same(tmp_path / "out", embedded)


def test_the_driver_is_interrupted(
    engine: Engine, embedded: dict[str, bytes], tmp_path: Path
) -> None:
    process = begun(engine, tmp_path / "out")
    process.send_signal(signal.SIGINT)
    outcome = finish(process, SECONDS)
    assert outcome.code == 1
    assert "error: interrupted; run the same command again" in outcome.err
    assert "Traceback" not in outcome.err
    assert until(lambda: not engine.workers(), 60)
    assert on(engine, job(tmp_path / "out")).code == 0
    assert same(tmp_path / "out", embedded)


def test_a_truncated_input(engine: Engine, tmp_path: Path) -> None:
    """A worker meets it: one readable error that names the file, the machine and the work."""
    novels = DATA / CORPORA["novels"]
    whole, broken = (tmp_path / f"{name}.jsonl.zst" for name in ("a", "b"))
    whole.write_bytes(novels.read_bytes())  # the program itself looks at the first file of a source
    broken.write_bytes(novels.read_bytes())
    os.truncate(broken, broken.stat().st_size // 2)
    sources = source("novels", f"file://{tmp_path}/*.zst")
    words = ["prepare", *sources, "--tokenizer", f"file://{DATA}/tokenizer.json", *WINDOW]
    outcome = on(engine, [*words, "--out", f"file://{tmp_path}/out/a"])
    sys.stdout.write(outcome.err)
    assert outcome.code == 1
    assert outcome.err.count("error: ") == 1
    assert "error: a file cannot be read to its end" in outcome.err
    assert f"where:    {broken}" in outcome.err
    assert f"machine:  {socket.gethostname()}, a worker of {engine.flags[1]} at '" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_machine_is_lost(engine: Engine, embedded: dict[str, bytes], tmp_path: Path) -> None:
    """The engine goes on with the others. The last test of an engine: the machine stays away."""
    if not engine.machines:
        pytest.skip("it has no machines apart from its own")
    process = begun(engine, tmp_path / "out")
    engine.lose_a_machine()
    outcome = finish(process, SECONDS)
    sys.stdout.write(outcome.err)
    assert outcome.code == 0, outcome.err
    assert same(tmp_path / "out", embedded)


def test_a_job_server_that_the_runner_starts(embedded: dict[str, bytes], tmp_path: Path) -> None:
    """Ctrl-C ends it, too; the same command continues."""
    try:
        flags = ["--runner", "PrismRunner", "--", f"--prism_location={prism_program()}"]
    except MissingError as error:
        pytest.skip(str(error))
    engine = Engine(flags, "waits", tmp_path, [])
    process = begun(engine, tmp_path / "out")
    server = children_of(process)
    process.send_signal(signal.SIGINT)
    outcome = finish(process, SECONDS)
    assert (outcome.code, bool(server)) == (1, True)
    assert "error: interrupted; run the same command again" in outcome.err
    assert until(lambda: not alive(server), 60)
    outcome = on(engine, job(tmp_path / "out"))
    assert outcome.code == 0, outcome.err
    assert same(tmp_path / "out", embedded)
