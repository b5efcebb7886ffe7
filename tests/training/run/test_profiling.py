"""The trace of a run's steps."""

import json
from pathlib import Path

import pytest
from tiny import config, shards_and_model, steps_of, stop_after

from exactcpt.training.run import log
from exactcpt.training.train import train

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def every_line(monkeypatch):
    monkeypatch.setattr(log, "LINE_SECONDS", 0.0)


def names_in(trace: Path) -> list[str]:
    return [event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"]]


def test_steps_from_the_third_on(tmp_path):
    """Only these, after each start, and nothing about the run changes."""
    made = shards_and_model(tmp_path)
    told: list[str] = []
    out = tmp_path / "run"

    def say(line: str) -> None:
        told.append(line)
        stop_after(4)(line)

    train(config(made, out, profile=2), say)
    assert [path.name for path in (out / "profile").iterdir()] == ["step-00000003.json"]
    assert f"the trace is complete: {out / 'profile' / 'step-00000003.json'}" in told
    names = names_in(out / "profile" / "step-00000003.json")
    assert {name for name in names if name.startswith("ProfilerStep")} == {
        "ProfilerStep#2", "ProfilerStep#3"
    }  # fmt: skip
    assert any("adamw" in name.lower() for name in names)
    train(config(made, out, profile=9), told.append)  # step 5 and 6 are before; there is no more
    assert [path.name for path in (out / "profile").iterdir()] == ["step-00000003.json"]
    train(config(made, tmp_path / "plain"), lambda _: None)
    assert steps_of(out) == steps_of(tmp_path / "plain")
    assert not (tmp_path / "plain" / "profile").exists()


def test_a_run_that_ends_before(tmp_path):
    """The trace has the steps that there were."""
    made = shards_and_model(tmp_path)
    train(config(made, tmp_path / "run", profile=50, steps=4), lambda _: None)
    (trace,) = (tmp_path / "run" / "profile").iterdir()
    assert "ProfilerStep#3" in names_in(trace)
