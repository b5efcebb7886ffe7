"""Progress: a line that changes on a terminal and never fills it, plain lines elsewhere."""

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness import until

from exactcpt.pipeline.job import progress
from exactcpt.pipeline.job.progress import Count, Progress
from exactcpt.pipeline.terminal import Console
from exactcpt.schemas.terminal import console as plain_console

TOTAL = 3_100_000_000
STEP = 31_000_000


@dataclass
class Clock:
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def console(*, width: int = 200, terminal: bool = False) -> tuple[Console, io.StringIO]:
    printed, console = io.StringIO(), Console()
    console.rich = plain_console(file=printed, width=width, soft_wrap=True)
    console.rich._force_terminal = terminal
    return console, printed


def test_what_is_done_is_said_on_a_terminal_while_it_lasts(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    to, printed = console(terminal=True)
    to.rich.is_interactive = True
    with to.doing("reading the tokenizer"):
        assert "reading the tokenizer" in printed.getvalue()
        to.say("a line that stays")
    *_, last = printed.getvalue().rpartition("a line that stays")[2].split("reading the tokenizer")
    assert last.endswith("\x1b[1A\x1b[2K")  # one line up, and that line erased


def test_what_is_done_is_said_nowhere_else():
    to, printed = console()
    with to.doing("reading the tokenizer"):
        pass
    assert printed.getvalue() == ""


def test_plain_lines_now_and_then(clock):
    """100 steps of two seconds: nothing is left to guess, and the end says how long it took."""
    to, printed = console()
    done = 0
    with Progress(to, "tokenize", lambda: Count(done, TOTAL, about=True)) as shown:
        for _ in range(100):
            shown.poll()
            clock.now += 2
            done += STEP
    lines = printed.getvalue().splitlines()
    assert lines[0] == ("tokenize    8 %  0.2 of about 3.1 billion tokens  15.5 M/s  3:04 left")
    assert lines[-1] == "tokenize  100 %  3.1 billion tokens  15.5 M/s  in 3:20"
    assert len(lines) == 1 + 200 // 16


def test_a_total_that_nobody_knows(clock):
    to, printed = console()
    done = 0
    with Progress(to, "tokenize", lambda: Count(done, None)) as shown:
        for _ in range(9):
            shown.poll()
            clock.now += 2
            done += STEP
    assert printed.getvalue().splitlines() == [
        "tokenize  248.0 million tokens  15.5 M/s",
        "tokenize  100 %  279.0 million tokens  15.5 M/s  in 18.0 s",
    ]


def test_what_an_earlier_run_did_has_no_speed(clock):
    to, printed = console()
    done = TOTAL - 2 * STEP
    with Progress(to, "pack", lambda: Count(done, TOTAL)) as shown:
        for _ in range(2):
            shown.poll()
            clock.now += 2
            done += STEP
    assert printed.getvalue() == "pack      100 %  3.1 billion tokens  15.5 M/s  in 4.0 s\n"


def test_another_unit_is_measured_anew(clock):
    """`weigh` counts splits, and then tokens."""
    to, printed = console()
    at = Count(0, 2, "split")
    with Progress(to, "weigh", lambda: at) as shown:
        for count in (at, Count(1, 2, "split"), Count(0, 800), Count(800, 800)):
            at = count
            clock.now += 20
            shown.poll()
    assert printed.getvalue().splitlines() == [
        "weigh       0 %  0 of 2 splits",
        "weigh      50 %  1 of 2 splits",
        "weigh       0 %  0 of 800 tokens",
        "weigh     100 %  800 of 800 tokens",
        "weigh     100 %  800 tokens  10 /s  in 1:20",
    ]


def test_a_count_that_takes_long_is_not_waited_for(clock, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.01)
    to, _ = console()
    there, calls = threading.Event(), []

    def count() -> Count:
        calls.append(1)
        there.wait(10)
        return Count(7, 8)

    with Progress(to, "pack", count) as shown:
        for _ in range(5):
            shown.poll()
            clock.now += 2
        assert len(calls) == 1  # by one thread at a time
        assert shown._renderable().plain.strip() == "pack"
        there.set()
        until(lambda: shown.poll() or "7 of 8" in shown._renderable().plain)
        clock.now += 300
        shown.poll()
        assert len(calls) == 2


def test_an_error_of_counting_is_raised_by_who_waits(clock):
    def count() -> Count:
        raise OSError("damaged")

    to, _ = console()
    with pytest.raises(OSError, match="damaged"), Progress(to, "pack", count) as shown:
        shown.poll()


def test_an_error_ends_the_line_without_a_claim(clock):
    to, printed = console()
    with pytest.raises(OSError, match="full"), Progress(to, "pack", lambda: Count(1, 2)):
        raise OSError("full")
    assert printed.getvalue() == ""


def test_quiet_prints_nothing(clock, capsys):
    with Progress(Console(quiet=True), "pack", lambda: Count(1, 2)) as shown:
        clock.now += 100
        shown.poll()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("width", [1, 20, 40, 80, 100, 120, 300])
def test_a_terminal_is_never_filled(clock, width):
    """At any width, the line leaves a column free: a full one would wrap and leave its rests."""
    to, printed = console(width=width, terminal=True)
    done = 0
    shown = Progress(to, "tokenize", lambda: Count(done, TOTAL, about=True))
    with shown:
        for _ in range(50):
            shown.poll()
            clock.now += 2
            done += STEP
            line = shown._renderable().plain
            assert len(line) <= width - 1
        assert ("left" in line) == (width >= 40)
        assert ("about" in line) == (width >= 80)
        assert ("█" in line) == (width >= 100)
    assert printed.getvalue()
