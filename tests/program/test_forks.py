"""A forked command is what the program is to its user, and no test waits for one forever."""

import signal
from threading import Event, Thread

import pytest
from commands import fork
from forks import refuse_threads
from harness import finish, run, small

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("arguments", [["--help"], ["tran"], ["verify", "nothing"]])
def test_it_prints_and_ends_as_in_this_process(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert finish(fork(*arguments)) == run(*arguments)


def test_one_that_takes_too_long_is_killed(tmp_path):
    process = fork("prepare", *small(tmp_path, ["some words"]), "--out", tmp_path / "out")
    assert process.poll() is None
    with pytest.raises(TimeoutError):
        process.communicate(0)
    assert process.returncode == -signal.SIGKILL


def test_beside_a_thread_nothing_is_forked():
    end = Event()
    thread = Thread(target=end.wait)
    thread.start()
    try:
        with pytest.raises(AssertionError, match="a fork would lack threads"):
            refuse_threads()
    finally:
        end.set()
        thread.join()
