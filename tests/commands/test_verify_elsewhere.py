"""`verify` on threads, in processes and on a Beam runner: one report, whoever looks at what."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import done, files, run
from stores import contents

from exactcpt.pipeline.commands import verify_elsewhere
from exactcpt.pipeline.verify.units import Inputs, Unit

pytestmark = pytest.mark.slow

WHERE = {
    "three threads": ["--workers=3"],
    "two processes": ["--workers=2", "--worker-type=processes"],
    "two processes, runs of shards": ["--workers=2", "--worker-type=processes"],
    "a job service": [
        "--runner=PortableRunner", "--", "--job_endpoint=embed", "--environment_type=LOOPBACK",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of several shards and groups, with its store beside it."""
    folder = tmp_path_factory.mktemp("made")
    sources = harness.source("poems", harness.DATA / "poems.jsonl", epochs=1.5)
    flags = ["--window=512", "--group-tokens=60k", "--shard-bytes=100k", "--split-bytes=60k"]
    flags += ["--validation-fraction=0.1", "--dedup=exact"]
    done("prepare", *sources, "--tokenizer", harness.TOKENIZER, *flags, "--out", folder / "set")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage(place: Path) -> None:
    train = sorted((place / "set/train").glob("*"))
    assert len(train) > 4
    for path in (train[3], train[1], sorted((place / "set.store/parts").glob("*-????.arrow"))[1]):
        flip(path)


@pytest.fixture
def runs_of_shards(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many shards units have, if they have several, as those of a remote store do."""
    found: list[int] = []
    if "runs of shards" in request.node.name:
        together = verify_elsewhere._shards_together

        def noted(*arguments: Any) -> Any:
            for unit in together(*arguments):
                found.append(unit.stop - unit.start)
                yield unit

        monkeypatch.setattr(verify_elsewhere, "is_local_url", lambda _: False)
        monkeypatch.setattr(verify_elsewhere, "TOGETHER", 60_000)
        monkeypatch.setattr(verify_elsewhere, "_shards_together", noted)
    return found


@pytest.mark.parametrize("where", WHERE)
def test_the_report_is_the_same_anywhere(place, where, runs_of_shards):
    before = contents(place)
    for change in (lambda _: None, damage):
        change(place)
        one = run("verify", place / "set", "--json", "--workers=1")
        other = run("verify", place / "set", "--json", *WHERE[where])
        assert other.json == one.json
        assert other.code == one.code == (0 if change is not damage else 1)
        assert other.err.partition("  files ")[2] == one.err.partition("  files ")[2]
    assert [finding["where"].partition(":")[0] for finding in one.json["findings"]] == [
        str(path.relative_to(place / ("set" if "shard" in path.name else "set.store")))
        for path in (
            sorted((place / "set.store/parts").glob("*-????.arrow"))[1],
            *sorted((place / "set/train").glob("*"))[1:4:2],
        )
    ]
    assert {*contents(place)} == {*before}  # nothing stays of what workers wrote
    if "runs of shards" in where:
        assert len(runs_of_shards) > 4 and max(runs_of_shards) > 1


def in_turn(monkeypatch: pytest.MonkeyPatch, do: Callable[[Inputs, Unit], Any]) -> None:
    """Units one after the other in place of a Beam graph, done by a function."""

    def do_each(job: Any, _settings: Any, _folder: Any, _poll: Any) -> None:
        for value in job.values:
            job.unit(value, job.shared)

    monkeypatch.setattr(verify_elsewhere, "do_each", do_each)
    monkeypatch.setattr(Inputs, "do", do)


def test_what_was_found_before_is_kept_unless_something_changes(place, monkeypatch):
    do, begun = Inputs.do, []

    def stopped(inputs: Inputs, unit: Unit) -> Any:
        begun.append(unit)
        if len(begun) == 4:
            raise KeyboardInterrupt
        return do(inputs, unit)

    in_turn(monkeypatch, stopped)
    flags = ["verify", place / "set", "--worker-type=processes", "--json"]
    stopped_at = run(*flags)
    assert stopped_at.code == 1 and "run the same command again" in stopped_at.err
    assert len(list((place / "set/.job/verify").rglob("*.npz"))) == 3
    done(*flags)
    assert begun[4:5] == begun[3:4] and len({*begun}) == len(begun) - 1
    assert not (place / "set/.job/verify").exists()
    begun.clear()
    assert run(*flags).code == 1
    flip(sorted((place / "set.store/parts").glob("*-????.arrow"))[0])
    again = run(*flags)
    assert again.code == 1 and not again.json["ok"]
    assert begun[4] == begun[0]  # nothing was believed


def test_a_set_that_another_job_writes_is_left_to_it(place):
    from exactcpt.pipeline.files.storage import Folder
    from exactcpt.pipeline.job.folder import locked

    with locked(Folder(str(place / "set"))):
        outcome = run("verify", place / "set", "--worker-type=processes")
    assert outcome.code == 1
    assert "another job is at work in this folder" in outcome.err
    before = files(place / "set")
    done("verify", place / "set", "--quiet")
    assert files(place / "set") == before


def test_a_set_that_is_replaced_meanwhile(place, monkeypatch):
    do = Inputs.do

    def replaced(inputs: Inputs, unit: Unit) -> Any:
        path = place / "set/manifest.json"
        path.write_text(path.read_text() + " ")
        verify_elsewhere._manifests.cache_clear()  # as in another process
        return do(inputs, unit)

    in_turn(monkeypatch, replaced)
    outcome = run("verify", place / "set", "--worker-type=processes")
    assert outcome.code == 1
    assert "error: a folder has been replaced while it was verified\n" in outcome.err


def test_no_set_and_no_url(place, tmp_path):
    outcome = run("verify", tmp_path / "none", "--worker-type=processes")
    assert outcome.code == 1 and "there is no manifest" in outcome.err
    assert not (tmp_path / "none").exists()
    outcome = run("verify", place / "set", "--runner=FlinkRunner")
    assert outcome.code == 2
    assert "the workers of FlinkRunner cannot read or write a path" in outcome.err


def test_threads_need_no_beam(place):
    program = (
        "import sys; from exactcpt.pipeline.cli import run_command\n"
        "code = run_command(sys.argv[1:]); sys.exit(code or 'apache_beam' in sys.modules)"
    )
    words = ["verify", str(place / "set"), "--quiet"]
    subprocess.run([sys.executable, "-c", program, *words], check=True)
