import errno
from pathlib import Path

import pytest

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job import halt
from exactcpt.pipeline.job.halt import (
    Guard,
    HaltedError,
    HaltWatch,
    clear_halt,
    read_halt,
)
from exactcpt.schemas.errors import BackendDifferenceError, ExactcptError, FormatError

NO_SPACE = "No space left on device"


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path: Path) -> Folder:
    return Folder(str(tmp_path) if request.param == "local" else f"memory:/{tmp_path}")


def raiser(error: BaseException):
    def fail(*_: object) -> None:
        raise error

    return fail


def halt_with(folder: Folder, error: BaseException) -> None:
    with pytest.raises(type(error)):
        Guard(raiser(error), folder.url)()


def halted_by(folder: Folder) -> Exception:
    with pytest.raises(Exception, match=r".") as caught:
        read_halt(folder)
    return caught.value


def test_a_guarded_function_gets_its_arguments_and_returns(folder):
    assert Guard(lambda *args: args, folder.url)(1, "two") == (1, "two")
    read_halt(folder)
    assert folder.names() == []


@pytest.mark.parametrize(
    "error",
    [
        ExactcptError("found"),
        ExactcptError("found", expected="expected", where="where: 漢", fix="fix"),
        FormatError("a damaged file", where="there"),
    ],
)
def test_an_error_is_told_as_it_was(folder, error):
    halt_with(folder, error)
    told = halted_by(folder)
    assert isinstance(told, ExactcptError)
    assert str(told) == str(error)


def test_a_difference_of_the_backends_is_told_as_one(folder):
    halt_with(folder, BackendDifferenceError("'some text'"))
    told = halted_by(folder)
    assert isinstance(told, BackendDifferenceError)
    assert str(told) == "'some text'"


def test_an_error_of_the_disk_names_the_file(folder):
    halt_with(folder, OSError(errno.ENOSPC, NO_SPACE, "/there/file"))
    assert str(halted_by(folder)) == (
        "reading or writing failed: No space left on device\n"
        "  where:    /there/file\n"
        "  fix:      make room there, and run the same command again"
    )


def test_an_error_that_nobody_foresaw_ends_the_job_too(folder):
    halt_with(folder, KeyError("no such key"))
    assert str(halted_by(folder)) == (
        "internal error: KeyError: 'no such key'\n"
        "  fix:      run it again with --debug, and report the traceback"
    )


def test_the_traceback_is_the_cause(folder):
    halt_with(folder, KeyError("no such key"))
    cause = str(halted_by(folder).__cause__)
    assert cause.startswith("Traceback (most recent call last)")
    assert "in fail" in cause


class PanicException(BaseException):
    """A panic of a Rust library as pyo3 raises it."""


def test_what_is_no_exception_becomes_one(folder):
    """Beam's workers do not catch anything else, and would wait forever."""
    with pytest.raises(HaltedError, match="PanicException: out of bounds"):
        Guard(raiser(PanicException("out of bounds")), folder.url)()
    assert halted_by(folder).found == "internal error: PanicException: out of bounds"


def test_other_units_do_nothing_until_the_halt_is_cleared(folder):
    halt_with(folder, ExactcptError("found"))
    calls: list[int] = []
    guard = Guard(calls.append, folder.url)
    for _ in range(2):
        with pytest.raises(HaltedError, match="another work unit"):
            guard(1)
    assert calls == []
    assert halted_by(folder).found == "found"
    clear_halt(folder)
    clear_halt(folder)
    read_halt(folder)
    guard(1)
    assert calls == [1]


def test_a_disk_too_full_for_the_halt_leaves_the_unit_s_own_error(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, NO_SPACE, "halt.json")
    monkeypatch.setattr(Folder, "write", raiser(full))
    with pytest.raises(ExactcptError, match="found"):
        Guard(raiser(ExactcptError("found")), str(tmp_path))()
    read_halt(Folder(str(tmp_path)))


def test_a_watch_asks_an_object_store_only_now_and_then(folder, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(halt, "read_halt", lambda folder: asked.append(folder.url))
    watch = HaltWatch(folder)
    for _ in range(5):
        watch()
    assert len(asked) == (5 if folder.is_local else 1)
    monkeypatch.setattr(halt.time, "monotonic", lambda: float("inf"))
    watch()
    assert len(asked) == (6 if folder.is_local else 2)
