"""Whether there is time for a checkpoint after SIGTERM."""

import pytest

from exactcpt.training.run.termination import PATIENCE, grace_caution


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
