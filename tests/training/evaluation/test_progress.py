"""What a person is told of an evaluation that runs."""

from types import SimpleNamespace

import pytest

from exactcpt.training.evaluation import job


@pytest.mark.parametrize(
    ("done", "seconds", "line"),
    [
        (6, 120.0, "m: 6 of 12 prompts  3.0 a minute, 2:00 left"),
        (6, 0.5, "m: 6 of 12 prompts  12.0 a second"),
        (6, 5000.0, "m: 6 of 12 prompts  0.1 a minute, 1:23:20 left"),
        (12, 3.0, "m: 12 of 12 prompts  4.0 a second"),
    ],
)
def test_how_long_it_takes_counts_what_was_done_before(monkeypatch, done, seconds, line):
    monkeypatch.setattr(job, "LINE_SECONDS", 0.0)
    said: list[str] = []
    suite, journal = SimpleNamespace(rows=12, noun="prompt"), SimpleNamespace(seconds=seconds)
    job._Progress(said.append, "m", suite, journal)(done)
    assert said == [line]
