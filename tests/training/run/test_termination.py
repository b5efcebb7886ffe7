"""Signals that ask a run to stop, and whether there is time for a checkpoint."""

import os
import signal

import pytest

from exactcpt.training.run.termination import PATIENCE, grace_caution, termination


@pytest.mark.parametrize(("rank", "told"), [(None, 1), ("0", 1), ("3", 0)])
def test_the_first_ctrl_c_asks_and_the_second_interrupts(monkeypatch, rank, told):
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    before = signal.getsignal(signal.SIGINT)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt), termination(said.append) as is_terminated:
        assert not is_terminated()
        os.kill(os.getpid(), signal.SIGINT)
        assert is_terminated()
        assert said == ["stops after a checkpoint; Ctrl-C again ends it at once"] * told
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_further_sigterms_interrupt_nothing():
    said: list[str] = []
    with termination(said.append) as is_terminated:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert is_terminated()
    os.kill(os.getpid(), signal.SIGTERM)
    assert not said


def test_ctrl_c_while_a_line_is_written():
    def reentrant(_: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    with termination(reentrant) as is_terminated:
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
