"""Signals that ask a run to stop, and whether there is time for a checkpoint."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from exactcpt.training.run.termination import (
    PATIENCE,
    UNDER_TORCHRUN,
    grace_caution,
    termination,
)


@pytest.fixture
def default_interrupt() -> Iterator[Any]:
    """Python's own handler of Ctrl-C; a shell that starts us in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("rank", "told"), [(None, 1), ("0", 1), ("3", 0)])
def test_the_first_ctrl_c_asks_and_the_second_interrupts(
    monkeypatch, default_interrupt, rank, told
):
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    monkeypatch.delenv(UNDER_TORCHRUN, raising=False)
    before = default_interrupt
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt), termination(said.append) as is_terminated:
        assert not is_terminated()
        os.kill(os.getpid(), signal.SIGINT)
        assert is_terminated()
        assert said == ["stops after a checkpoint; Ctrl-C again ends it at once"] * told
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_under_torchrun_there_is_no_second_ctrl_c(monkeypatch):
    monkeypatch.setenv(UNDER_TORCHRUN, "x")
    said: list[str] = []
    with termination(said.append):
        os.kill(os.getpid(), signal.SIGINT)
    assert said == ["stops after a checkpoint"]


def test_further_sigterms_interrupt_nothing():
    said: list[str] = []
    with termination(said.append) as is_terminated:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert is_terminated()
    os.kill(os.getpid(), signal.SIGTERM)
    assert not said


@pytest.mark.parametrize("error", [RuntimeError("reentrant call"), BrokenPipeError()])
def test_ctrl_c_while_nobody_can_be_told(error):
    """A line was just being written, or `tee` has ended by the same Ctrl-C."""

    def fail(_: str) -> None:
        raise error

    with termination(fail) as is_terminated:
        os.kill(os.getpid(), signal.SIGINT)
        assert is_terminated()


@pytest.mark.parametrize(
    ("seconds", "environment", "told"),
    [
        (1e6, {}, None),  # nobody kills a process that was started by itself
        (15, {"TORCHELASTIC_RUN_ID": "x"}, None),
        (16, {"TORCHELASTIC_RUN_ID": "x"}, "30 s after SIGTERM: start it with torchrun"),
        (16, {"TORCHELASTIC_RUN_ID": "x", PATIENCE: "600"}, None),
        (301, {"TORCHELASTIC_RUN_ID": "x", PATIENCE: "600"}, "--shutdown-timeout 1204, if you"),
        (16, {"TORCHELASTIC_RUN_ID": "x", PATIENCE: "soon"}, "--shutdown-timeout 600, if you"),
    ],
)
def test_a_checkpoint_that_takes_too_long(monkeypatch, seconds, environment, told):
    for name in ("TORCHELASTIC_RUN_ID", PATIENCE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = grace_caution(seconds)
    assert found is None if told is None else told in (found or "")
