import errno
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

import pytest

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job import halt
from exactcpt.pipeline.job.attempt import Attempt, OverError, attempt_at
from exactcpt.pipeline.job.halt import Guard, HaltedError, HaltWatch, read_halt
from exactcpt.schemas.errors import BackendDifferenceError, ExactcptError, FormatError
from exactcpt.schemas.remote_errors import RemoteError

NO_SPACE = "No space left on device"


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path: Path) -> Folder:
    return Folder(str(tmp_path) if request.param == "local" else f"memory:/{tmp_path}")


@pytest.fixture
def attempt(folder: Folder) -> Iterator[Attempt]:
    with attempt_at(folder, engine=None) as begun:
        yield begun


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long units have waited; they do not really."""
    waited: list[float] = []
    monkeypatch.setattr(halt.time, "sleep", waited.append)
    monkeypatch.setattr(halt, "PAUSES", (5.0, 20.0))
    return waited


def raiser(*errors: BaseException | None):
    """A function that raises one error after the other, and the last one from then on."""
    left = list(errors)

    def fail(*_: object) -> None:
        error = left.pop(0) if len(left) > 1 else left[0]
        if error is not None:
            raise error

    return fail


def halt_with(attempt: Attempt, error: BaseException) -> None:
    with pytest.raises(type(error)):
        Guard(raiser(error), attempt, "tokenize split")()


def halted_by(attempt: Attempt) -> Exception:
    with pytest.raises(Exception, match=r".") as caught:
        read_halt(attempt)
    return caught.value


def test_a_guarded_function_gets_its_arguments_and_returns(folder):
    with attempt_at(folder, engine=None) as attempt:
        assert Guard(lambda *args: args, attempt)(1, "two") == (1, "two")
        read_halt(attempt)
    assert folder.names() == []


@pytest.mark.parametrize(
    "error",
    [
        ExactcptError("found"),
        ExactcptError("found", expected="expected", where="where: 漢", fix="fix"),
        FormatError("a damaged file", where="there"),
    ],
)
def test_an_error_is_told_as_it_was(attempt, error):
    halt_with(attempt, error)
    told = halted_by(attempt)
    assert isinstance(told, ExactcptError)
    assert str(told) == str(error)


def test_a_difference_of_the_backends_is_told_as_one(attempt):
    halt_with(attempt, BackendDifferenceError("'some text'"))
    told = halted_by(attempt)
    assert isinstance(told, BackendDifferenceError)
    assert str(told) == "'some text'"


def test_an_error_of_the_disk_names_the_file(attempt):
    halt_with(attempt, OSError(errno.ENOSPC, NO_SPACE, "/there/file"))
    assert str(halted_by(attempt)) == (
        "reading or writing failed: No space left on device\n"
        "  where:    /there/file\n"
        "  fix:      make room there, and run the same command again"
    )


def test_an_error_that_nobody_foresaw_ends_the_job_too(attempt):
    halt_with(attempt, KeyError("no such key"))
    assert str(halted_by(attempt)) == (
        "internal error: KeyError: 'no such key'\n"
        "  fix:      run it again with --debug, and report the traceback"
    )


def test_the_traceback_is_the_cause(attempt):
    halt_with(attempt, KeyError("no such key"))
    cause = str(halted_by(attempt).__cause__)
    assert cause.startswith("Traceback (most recent call last)")
    assert "in fail" in cause


class PanicException(BaseException):
    """A panic of a Rust library as pyo3 raises it."""


def test_what_is_no_exception_becomes_one(attempt):
    """Beam's workers do not catch anything else, and would wait forever."""
    with pytest.raises(HaltedError, match="PanicException: out of bounds"):
        Guard(raiser(PanicException("out of bounds")), attempt)()
    assert halted_by(attempt).found == "internal error: PanicException: out of bounds"


def test_other_units_do_nothing_from_then_on(folder):
    calls: list[int] = []
    with attempt_at(folder, engine=None) as attempt:
        halt_with(attempt, ExactcptError("found"))
        for _ in range(2):
            with pytest.raises(HaltedError, match="another work unit"):
                Guard(calls.append, attempt)(1)
        assert calls == []
        assert halted_by(attempt).found == "found"
    with attempt_at(folder, engine=None) as attempt:
        read_halt(attempt)
        Guard(calls.append, attempt)(1)
    assert calls == [1]


def test_a_disk_too_full_for_the_halt_leaves_the_unit_s_own_error(attempt, monkeypatch):
    full = OSError(errno.ENOSPC, NO_SPACE, "halt.json")
    monkeypatch.setattr(Folder, "write", raiser(full))
    with pytest.raises(ExactcptError, match="found"):
        Guard(raiser(ExactcptError("found")), attempt)()
    read_halt(attempt)


def test_a_watch_asks_an_object_store_only_now_and_then(folder, attempt, monkeypatch):
    asked: list[Attempt] = []
    monkeypatch.setattr(halt, "read_halt", asked.append)
    watch = HaltWatch(attempt)
    for _ in range(5):
        watch()
    assert len(asked) == (5 if folder.is_local else 1)
    monkeypatch.setattr(halt.time, "monotonic", lambda: float("inf"))
    watch()
    assert len(asked) == (6 if folder.is_local else 2)


# Errors that may pass

BUSY = RemoteError(errno.EIO, "a request to the server failed: SlowDown", "s3://a/b")
PASSING = [
    BUSY,
    RemoteError(errno.EHOSTUNREACH, "the server cannot be reached: no route", "s3://a/b"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    TimeoutError("timed out"),
    OSError(errno.ESTALE, "Stale file handle", "/mnt/a"),
]
FINAL = [
    RemoteError(errno.EACCES, "the server denies access: 403", "s3://a/b"),
    FileNotFoundError(errno.ENOENT, "No such file", "/a"),
    OSError(errno.ENOSPC, NO_SPACE, "/a"),
    FormatError("a damaged file"),
    ValueError("a bug"),
]
OF_THE_MACHINE = [OSError(errno.EIO, "Input/output error", "/a"), MemoryError("no more")]


def named(error: BaseException) -> str:
    return f"{type(error).__name__} {error}"[:40]


@pytest.mark.parametrize("error", PASSING, ids=named)
def test_a_unit_is_called_again_after_an_error_that_may_pass(attempt, pauses, error):
    assert Guard(raiser(error, error, None), attempt)() is None
    assert [5 <= pauses[0] <= 7.5, 20 <= pauses[1] <= 30] == [True, True]
    read_halt(attempt, RuntimeError("the engine was stopped"))


def test_the_last_try_ends_the_job(attempt, pauses):
    halt_with(attempt, BUSY)
    assert len(pauses) == 2
    assert str(halted_by(attempt)) == (
        "a request to the server failed: SlowDown\n"
        "  where:    s3://a/b\n"
        "  fix:      run the same command again; a job continues where it stopped"
    )


@pytest.mark.parametrize("error", [*FINAL, *OF_THE_MACHINE], ids=named)
def test_other_errors_end_the_job_at_once(attempt, pauses, error):
    halt_with(attempt, error)
    assert pauses == []
    assert isinstance(halted_by(attempt), ExactcptError)


@pytest.mark.parametrize("error", [*PASSING, *OF_THE_MACHINE], ids=named)
def test_an_engine_decides_about_errors_of_its_machines(folder, error):
    with attempt_at(folder, engine="AnEngine") as attempt:
        halt_with(attempt, error)
        read_halt(attempt)  # the engine runs the unit again
        assert Guard(lambda: 7, attempt)() == 7
        read_halt(attempt, RuntimeError("a worker was lost"))  # it got over the error
        told = "".join(traceback.format_exception_only(error))
        with pytest.raises(ExactcptError):  # it has given up
            read_halt(attempt, RuntimeError(f"the last try failed: {told}"))


@pytest.mark.parametrize("error", FINAL, ids=named)
def test_an_engine_is_not_asked_about_final_errors(folder, error):
    with attempt_at(folder, engine="AnEngine") as attempt:
        halt_with(attempt, error)
        assert isinstance(halted_by(attempt), ExactcptError)


def test_an_error_on_an_engine_names_machine_engine_and_work(folder, attempt):
    error = FormatError("a damaged file", where="s3://a/b")
    halt_with(attempt, error)
    assert "machine" not in str(halted_by(attempt))
    with attempt_at(folder, engine="AnEngine") as of_engine:
        halt_with(of_engine, error)
        assert str(halted_by(of_engine)) == (
            "a damaged file\n  where:    s3://a/b\n"
            f"  machine:  {socket.gethostname()}, a worker of AnEngine at 'tokenize split'"
        )


def test_a_final_error_counts_more_than_one_of_a_machine(folder):
    with attempt_at(folder, engine="AnEngine") as attempt:
        halt_with(attempt, FormatError("a damaged file"))
        attempt.note({"found": "busy", "traceback": "busy"}, ends=False)
        with pytest.raises(ExactcptError, match="a damaged file"):
            read_halt(attempt, RuntimeError("busy"))


# Attempts that are over


def test_a_unit_of_an_attempt_that_is_over_does_nothing(folder):
    calls: list[int] = []
    with attempt_at(folder, engine="AnEngine") as old:
        pass
    with pytest.raises(OverError):
        Guard(calls.append, old)(1)
    assert calls == []
    assert folder.names() == []


@contextmanager
def while_writing(folder: Folder, do: Callable[[], None]) -> Iterator[Attempt]:
    """A later attempt, which began while a unit of the one before was writing a file.

    `do` is what the later job does in the folder.
    """
    with ExitStack() as stack:
        old = stack.enter_context(attempt_at(folder, engine=None))
        later: list[Attempt] = []

        def begin() -> None:
            do()
            later.append(stack.enter_context(attempt_at(folder, engine=None)))

        def unit() -> None:
            with folder.create("shard") as scratch:
                scratch.write_bytes(b"of other settings")
                job = Thread(target=begin)
                job.start()
                job.join()

        with pytest.raises(OverError):
            Guard(unit, old)()
        yield later[0]


def test_a_unit_that_is_late_changes_nothing(folder):
    with while_writing(folder, lambda: None) as later:
        read_halt(later, RuntimeError("busy"))
        assert not folder.exists("shard")
        Guard(folder.write, later)("shard", b"new")
    assert folder.names() == ["shard"]
    assert folder.read("shard") == b"new"


def test_what_a_later_job_removes_is_no_error_of_either(folder):
    """A killed job's unit still writes, and the next job removes what seems to be left."""
    with while_writing(folder, folder.remove_temporaries) as later:
        read_halt(later, RuntimeError("busy"))
        assert [name for name in folder.names() if ".halt" in name] == []


def test_an_error_of_a_unit_that_is_late_is_told_to_nobody(folder):
    with ExitStack() as stack:
        old = stack.enter_context(attempt_at(folder, engine=None))

        def unit() -> None:
            begin = attempt_at(folder, engine=None)
            job = Thread(target=lambda: stack.enter_context(begin))
            job.start()
            job.join()
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/scratch")

        with pytest.raises(OverError):
            Guard(unit, old)()
        read_halt(old, RuntimeError("busy"))


def test_the_end_of_an_attempt_does_not_end_a_later_one(folder):
    with ExitStack() as later:
        with attempt_at(folder, engine=None):
            attempt = later.enter_context(attempt_at(folder, engine=None))
        assert Guard(lambda: 7, attempt)() == 7
