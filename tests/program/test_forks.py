"""A forked command is what the program is to its user, and no test waits for one forever."""

import signal
from threading import Event, Thread

import pytest
import vl_convert
from commands import fork
from forks import refuse_threads
from harness import finish, run, small
from remembered import remember_pictures

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


def test_a_picture_is_drawn_once(tmp_path, monkeypatch):
    """What is kept is what is drawn, for what it was drawn from."""
    draw = vl_convert.vegalite_to_svg
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", draw)
    shown = {"data": {"values": [{"n": 1}]}, "encoding": {"x": {"field": "n"}}}
    bars, lines = ({**shown, "mark": mark} for mark in ("bar", "line"))
    remember_pictures(tmp_path)
    for spec in (bars, lines, bars):
        assert vl_convert.vegalite_to_svg(spec, theme="dark") == draw(spec, theme="dark")
    assert vl_convert.vegalite_to_svg(bars) == draw(bars)
    kept = [*tmp_path.iterdir()]
    assert len(kept) == 3
    for path in kept:
        path.write_text("kept")
    assert vl_convert.vegalite_to_svg(lines, theme="dark") == "kept"
