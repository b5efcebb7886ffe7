"""Why a command failed, from what it printed."""

from functools import partial
from pathlib import Path

import filelock
import pytest
from forked import forked

from exactcpt.training.study import workers
from exactcpt.training.study.workers import BUSY, LONGEST, reason_of


@pytest.mark.parametrize(
    ("code", "printed", "reason"),
    [
        (1, "error: first\nstep 2\nerror: last\n  where:    x\n", "last"),
        (2, "Usage: exactcpt\n\nError: no such option\n\n", "exit code 2: Error: no such option"),
        (-9, "step 3 of 5\n", "signal 9: step 3 of 5"),
        (-9, "", "signal 9"),
        (75, " \n", "exit code 75"),
        (1, f"error: {'x' * 1000}\n", "x" * LONGEST),
        (1, "error: caf\udce9", "caf\ufffd"),
    ],
)
def test_the_reason(tmp_path, code, printed, reason):
    log = tmp_path / "step.log"
    before = b"error: of an earlier try\n"
    log.write_bytes(before + printed.encode(errors="surrogateescape"))
    assert reason_of(code, log, len(before)) == reason


def test_a_step_that_another_process_runs(tmp_path, monkeypatch):
    """It writes nothing into the other's log."""
    log = tmp_path / "step.log"
    log.write_text("of the other\n")
    monkeypatch.setattr(workers, "PATIENCE", 0)
    monkeypatch.setattr(workers, "_end_with_parent", lambda: None)
    work = partial(workers._perform, ("inspect", "none"), str(tmp_path), str(log))
    with filelock.FileLock(f"{log}.lock"):
        assert forked({"work": work}, memory=1 << 34) == {"work": f"RAISED SystemExit: {BUSY}"}
        assert Path(f"{log}.lock").exists()
    assert log.read_text() == "of the other\n"
