import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job import folder as job
from exactcpt.pipeline.job.folder import (
    LOCK,
    REMOVING,
    STATE,
    State,
    begin,
    differences,
    forget_progress,
    locked,
)
from exactcpt.schemas.errors import ExactcptError, FormatError, UsageError
from exactcpt.schemas.manifest import MANIFEST, SHARD_SET, TOKEN_STORE

OWNED = ("tokenizer.json", "parts", "rejected")
ONE = State(
    settings={"window": 8, "sources": {"a": {"text": "text"}, "b": {"text": "body"}}},
    inputs={"/a.jsonl": ["a", 10, "1.0"], "/b.jsonl": ["b", 20, "2.0"]},
)


def changed(**settings: object) -> State:
    return State(settings={**ONE.settings, **settings}, inputs=ONE.inputs)


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path: Path) -> Folder:
    """Not there yet."""
    return Folder(f"{'' if request.param == 'local' else 'memory:/'}{tmp_path}/out")


def started(folder: Folder, state: State = ONE) -> None:
    assert begin(folder, state, OWNED, overwrite=False) is False


def finished(folder: Folder, kind: str = TOKEN_STORE) -> None:
    started(folder)
    folder.write("parts/000000-0000.arrow", b"part")
    folder.write("parts/000000-0000.json", b"{}")
    folder.write("tokenizer.json", b"{}")
    folder.write(MANIFEST, json.dumps({"format": kind}).encode())


def refusal(folder: Folder, state: State = ONE, *, overwrite: bool = False) -> UsageError:
    before = {name: folder.read(name) for name in folder.names()}
    with pytest.raises(UsageError) as error:
        begin(folder, state, OWNED, overwrite=overwrite)
    assert {name: folder.read(name) for name in folder.names()} == before
    assert error.value.where == folder.url
    return error.value


# new, to be continued, finished


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_new_folder(folder, overwrite):
    assert begin(folder, ONE, OWNED, overwrite=overwrite) is False
    assert State.read(folder, STATE) == ONE
    assert folder.names() == [STATE]


def test_an_equal_job_goes_on(folder):
    started(folder)
    folder.write("parts/000000-0000.json", b"{}")
    assert begin(folder, ONE, OWNED, overwrite=False) is False
    assert folder.names() == [STATE, "parts/000000-0000.json"]


def test_an_equal_job_has_finished(folder):
    finished(folder)
    names = folder.names()
    assert begin(folder, ONE, OWNED, overwrite=False) is True
    assert folder.names() == names


def test_what_a_killed_writer_left_is_removed(folder):
    started(folder)
    folder.write("parts/.000000-0000.arrow.0123.tmp", b"half")
    folder.write("parts/not.tmp", b"whole")
    started(folder)
    assert folder.names() == [STATE, "parts/not.tmp"]


def test_a_finished_job_keeps_its_state_and_its_lock_alone(folder):
    with locked(folder):
        finished(folder)
        folder.write(".job/plans/00000.json", b"{}")
        folder.write(".job/attempts/1.halt", b"{}")
        folder.write("parts/.000000-0000.arrow.0123.tmp", b"half")  # of a worker that was killed
        held = folder.read(STATE)
        forget_progress(folder)
        assert set(folder.names(".job")) == {STATE, LOCK}
        assert not [name for name in folder._all_names() if name.endswith(".tmp")]
        assert folder.read(STATE) == held and folder.exists(MANIFEST)


def test_what_a_finished_job_did_not_clear_is_cleared_by_the_next_one(folder):
    finished(folder)
    names = set(folder.names())
    folder.write(job.PREPARED, b"{}")
    folder.write(".job/plans/00000.json", b"{}")
    assert begin(folder, ONE, OWNED, overwrite=False) is True
    assert set(folder.names()) == {*names, job.PREPARED}
    folder.write(".job/attempts/1.halt", b"{}")
    with locked(folder):
        job.tidy(folder)  # another job is at work
        assert folder.exists(".job/attempts/1.halt") == folder.is_local
    job.tidy(folder)
    assert set(folder.names()) - {LOCK} == {*names, job.PREPARED}
    if folder.is_local:
        assert not folder.has_folders(".job")
        Path(folder.url, ".job/plans/empty").mkdir(parents=True)
        job.tidy(folder)
        assert not [path for path in Path(folder.url, ".job").iterdir() if path.is_dir()]


def test_what_cannot_be_cleared_is_no_error(folder, monkeypatch):
    finished(folder)
    folder.write(".job/attempts/1.halt", b"{}")

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Folder, "remove", refuse)
    assert begin(folder, ONE, OWNED, overwrite=False) is True


def test_tuples_are_equal_to_lists(folder):
    state = State(settings={"some": (1, 2)}, inputs={"a": (1, 2)})
    started(folder, state)
    started(folder, state)


# other settings, other inputs


def test_settings_that_differ_are_named(folder):
    started(folder)
    other = changed(window=16, sources={"a": {"text": "other"}, "c": {"text": "text"}})
    assert str(refusal(folder, other)) == (
        "this folder was begun with other settings:\n"
        "    window: 8 -> 16\n"
        '    sources.a.text: "text" -> "other"\n'
        '    sources.b: {"text": "body"} -> null\n'
        '    sources.c: null -> {"text": "text"}\n'
        f"  where:    {folder.url}\n"
        "  fix:      use the same settings to continue, or another folder, or --overwrite"
    )


def test_a_finished_job_of_other_settings_is_refused_too(folder):
    finished(folder)
    assert "window: 8 -> 9" in refusal(folder, changed(window=9)).found


def test_inputs_that_differ_are_named(folder):
    started(folder)
    inputs = {"/b.jsonl": ["b", 20, "3.0"], "/c.jsonl": ["c", 1, "1.0"]}
    assert str(refusal(folder, State(settings=ONE.settings, inputs=inputs))) == (
        "inputs have changed since this folder was begun:\n"
        "    gone: /a.jsonl\n"
        "    new: /c.jsonl\n"
        "    changed: /b.jsonl\n"
        f"  where:    {folder.url}\n"
        "  fix:      write to another folder, or start again with --overwrite"
    )


def test_few_of_many_inputs_are_named(folder):
    started(folder, State(settings={}, inputs={}))
    many = State(settings={}, inputs={f"/{i}": i for i in range(9)})
    assert refusal(folder, many).found.splitlines()[1:] == [
        *(f"    new: /{i}" for i in range(5)),
        "    and 4 more",
    ]


def test_sources_in_another_order_would_be_other_parts(folder):
    """Parts are numbered in the order of the inputs."""
    started(folder)
    other = State(settings=ONE.settings, inputs=dict(reversed(ONE.inputs.items())))
    assert "sources in another order" in refusal(folder, other).found


def test_the_order_of_settings_does_not_matter(folder):
    started(folder)
    other = State(settings=dict(reversed(ONE.settings.items())), inputs=ONE.inputs)
    started(folder, other)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": None}, {}, []),
        ({"a": 1}, {"a": "1"}, ['a: 1 -> "1"']),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c: 1 -> 2"]),
        ({"a": {"b": 1}}, {"a": 1}, ['a: {"b": 1} -> 1']),
        ({"a": [1]}, {"a": [2]}, ["a: [1] -> [2]"]),
    ],
)
def test_differences(old, new, expected):
    assert differences(old, new) == expected


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
)


@given(st.dictionaries(st.text(), nested, max_size=4))
def test_nothing_differs_from_itself_and_states_survive_json(settings):
    assert differences(settings, settings) == []
    state, folder = State(settings=settings, inputs={}), Folder("memory://states")
    folder.write(STATE, state.to_json())
    assert State.read(folder, STATE) == state


# what is not ours


@pytest.mark.parametrize(
    "name", ["notes.txt", "parts/mine.arrow", "partsmine", "tokenizer.json", "deep/down/file"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_something_else_are_refused_and_kept(folder, name, overwrite):
    """Also under a name that the job would use."""
    folder.write(name, b"mine")
    error = refusal(folder, overwrite=overwrite)
    assert error.found == f"this folder holds other files: {name}"
    assert error.expected == "a new or empty folder"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": "another"}'])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_manifest_of_something_else_is_such_a_file(folder, content, overwrite):
    folder.write(MANIFEST, content)
    assert "holds other files: manifest.json" in refusal(folder, overwrite=overwrite).found


def test_finished_output_without_its_state_is_only_replaced_on_demand(folder):
    finished(folder)
    folder.remove(STATE)
    assert "holds finished output, but not the record of its settings" in refusal(folder).found
    assert begin(folder, ONE, OWNED, overwrite=True) is False
    assert folder.names() == [STATE]


# --overwrite


@pytest.mark.parametrize("state", [ONE, changed(window=9)])
def test_overwriting_starts_again(folder, state):
    finished(folder)
    folder.write(".job/plans/00000.json", b"{}")
    folder.write("parts/.half.tmp", b"")
    folder.write(".manifest.json.0123.tmp", b"")
    assert begin(folder, state, OWNED, overwrite=True) is False
    assert folder.names() == [STATE]
    assert State.read(folder, STATE) == state


def test_what_is_removed_stays_so_before_the_job_begins(tmp_path, monkeypatch):
    """Names that were not synced may come back after a power cut, and would count as new parts."""
    folder = Folder(str(tmp_path / "out"))
    finished(folder)
    synced: list[set[str]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path / "out":
            synced.append({path.name for path in (tmp_path / "out").iterdir()})
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    begin(folder, changed(window=9), OWNED, overwrite=True)
    unfinished, emptied = synced[:2]
    assert "parts" in unfinished
    assert MANIFEST not in unfinished
    assert emptied == {".job"}


@pytest.mark.parametrize("name", ["notes.txt", "train/shard-00000-of-00001.arrow"])
def test_overwriting_refuses_before_it_removes_anything(folder, name):
    finished(folder, SHARD_SET)
    folder.write(name, b"not the job's")
    assert name in refusal(folder, overwrite=True).found


def test_overwriting_keeps_the_lock(folder):
    finished(folder)
    with locked(folder):
        assert folder.exists(LOCK)
        begin(folder, ONE, OWNED, overwrite=True)
        assert folder.exists(LOCK)


class PowerCut(Exception):  # noqa: N818
    """Between any two changes of the disk."""


@pytest.mark.parametrize("after", range(7))
@pytest.mark.parametrize("next_overwrites", [False, True])
def test_a_power_cut_while_overwriting(folder, monkeypatch, after, next_overwrites):
    """Nothing half-removed counts: the manifest goes first, and the next job ends the removal."""
    finished(folder)
    whole, changes = folder.names(), []

    def counted(method):
        def change(self, *args):
            changes.append(args)
            if len(changes) > after:
                raise PowerCut
            return method(self, *args)

        return change

    with monkeypatch.context() as patch:
        for name in ("remove", "remove_tree", "write"):
            patch.setattr(Folder, name, counted(getattr(Folder, name)))
        try:
            begin(folder, changed(window=9), OWNED, overwrite=True)
        except PowerCut:
            pass
        else:
            pytest.fail("there were fewer changes")
    if folder.exists(MANIFEST):
        assert folder.names() == whole
        return
    if not next_overwrites and folder.exists(STATE) and not folder.exists(REMOVING):
        assert set(whole) - set(folder.names()) == {MANIFEST}
        assert "window: 8 -> 9" in refusal(folder, changed(window=9)).found
        return
    assert begin(folder, changed(window=9), OWNED, overwrite=next_overwrites) is False
    assert folder.names() == [STATE]


# locks


def test_one_job_at_a_time_in_a_process(tmp_path):
    folder = Folder(str(tmp_path / "out"))
    with locked(folder):
        with pytest.raises(ExactcptError) as error, locked(folder):
            pass
        assert str(error.value) == (
            "another job is at work in this folder\n"
            f"  where:    {folder.url}\n"
            "  fix:      wait for it to end, or write to another folder"
        )
    with locked(folder):
        started(folder)


def test_a_lock_is_released_after_an_error(folder):
    for _ in range(2):
        with pytest.raises(RuntimeError), locked(folder):
            raise RuntimeError


HOLD = """
import sys, time
from exactcpt.pipeline.job.folder import locked
from exactcpt.pipeline.files.storage import Folder

with locked(Folder(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_another_process_holds_the_folder_until_it_is_killed(tmp_path):
    folder = Folder(str(tmp_path / "out"))
    command = [sys.executable, "-c", HOLD, folder.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(ExactcptError, match="another job is at work"), locked(folder):
                pass
        finally:
            other.kill()
    with locked(folder):
        pass


@pytest.fixture
def remote(tmp_path) -> Folder:
    return Folder(f"memory:/{tmp_path}/out")


def hold(folder: Folder, by: str, seconds_ago: float) -> None:
    folder.write(LOCK, json.dumps({"by": by, "at": time.time() - seconds_ago}).encode())


def test_a_remote_folder_is_held_by_a_file(remote):
    hold(remote, "elsewhere:1", 10)
    with pytest.raises(ExactcptError, match="another job is at work"), locked(remote):
        pass
    assert json.loads(remote.read(LOCK))["by"] == "elsewhere:1"


def test_a_remote_lock_that_nobody_renews_is_stale(remote):
    hold(remote, "elsewhere:1", job.STALE_SECONDS + 1)
    with locked(remote):
        assert json.loads(remote.read(LOCK))["by"] != "elsewhere:1"
        assert begin(remote, ONE, OWNED, overwrite=False) is False
    assert not remote.exists(LOCK)


def test_a_remote_lock_is_renewed_while_the_job_lives(remote, monkeypatch):
    monkeypatch.setattr(job, "RENEW_SECONDS", 0.02)
    threads = threading.active_count()
    with locked(remote):
        first = remote.read(LOCK)
        until = time.monotonic() + 5
        while remote.read(LOCK) == first and time.monotonic() < until:
            time.sleep(0.01)
        assert json.loads(remote.read(LOCK))["at"] > json.loads(first)["at"]
    assert not remote.exists(LOCK)
    assert threading.active_count() == threads


def test_a_remote_lock_that_another_job_took_is_left_to_it(remote, monkeypatch):
    """As happens to a job that was suspended for more than two minutes."""
    monkeypatch.setattr(job, "RENEW_SECONDS", 0.01)
    looked, is_taken = [], job._is_taken
    monkeypatch.setattr(
        job, "_is_taken", lambda *names: looked.append(is_taken(*names)) or looked[-1]
    )
    with locked(remote):
        hold(remote, "elsewhere:1", 0)
        theirs, known = remote.read(LOCK), len(looked)
        until = time.monotonic() + 5
        while len(looked) < known + 3 and time.monotonic() < until:
            time.sleep(0.01)
        assert remote.read(LOCK) == theirs
    assert remote.read(LOCK) == theirs
    assert looked[-1]


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_a_renewal_that_fails_is_tried_again(remote, monkeypatch, error):
    monkeypatch.setattr(job, "RENEW_SECONDS", 0.01)
    tries, done = [], threading.Event()

    def fail(*_: object) -> None:
        tries.append(1)
        if len(tries) > 3:
            done.set()
        raise error("no network")

    with locked(remote):
        monkeypatch.setattr(job, "_write_lock", fail)
        assert done.wait(5)


# what a damaged file of a job is


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"7",
    b"null",
    b"\xff",
    b'{"settings": {}}',
    b'{"settings": {}, "inputs": {}, "settings": {"window": 9}}',
    b'{"settings": {"a": 1, "a": 2}, "inputs": {}}',
    b'{"settings": [], "inputs": {}}',
    b'{"settings": ' + b"[" * 100_000,
]


@pytest.mark.parametrize("data", DAMAGED)
@pytest.mark.parametrize("step", ["begin", "require_available"])
def test_a_damaged_state_is_a_plain_error_that_overwrite_gets_past(folder, data, step):
    started(folder)
    folder.write(STATE, data)
    with pytest.raises(FormatError, match="a file that a job keeps is damaged") as error:
        if step == "begin":
            begin(folder, ONE, OWNED, overwrite=False)
        else:
            job.require_available(folder, ONE.settings, OWNED, overwrite=False)
    assert error.value.where == folder.url_of(STATE)
    assert folder.read(STATE) == data
    assert begin(folder, ONE, OWNED, overwrite=True) is False


@pytest.mark.parametrize("data", [b"", b"[1]", b'{"by": "x"}', b'{"by": "x", "at": "now"}'])
def test_a_damaged_lock_of_an_object_store_is_a_plain_error(tmp_path, data):
    remote = Folder(f"memory:/{tmp_path}")
    remote.write(LOCK, data)
    with pytest.raises(FormatError, match="damaged") as error, locked(remote):
        pass
    assert error.value.where == remote.url_of(LOCK)


# file systems that cannot lock, and locks that cannot be given back


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_cannot_lock(tmp_path, monkeypatch, number):
    def refuse(_file: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ExactcptError) as error, locked(Folder(str(tmp_path / "out"))):
        pass
    assert error.value.where == str(tmp_path / "out" / LOCK)
    assert os.strerror(number) in error.value.found
    assert ("lock a file" in str(error.value)) == (number != errno.EIO)


def test_a_lock_that_cannot_be_removed_does_no_harm(folder, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with locked(folder):
        monkeypatch.setattr(Path, "unlink", refuse)
        monkeypatch.setattr(Folder, "remove", refuse)
