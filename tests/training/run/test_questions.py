"""How many micro-batches a rank proposes to take between two questions."""

from types import SimpleNamespace

import pytest

from exactcpt.training.run import questions as module
from exactcpt.training.run.questions import Questions


@pytest.mark.parametrize(
    ("seconds", "micro_batches", "proposed"),
    [
        (0.5, 4, 4),  # as many as there are: no question inside the step
        (1.0, 4, 4),
        (2.0, 4, 2),
        (3.0, 4, 1),
        (60.0, 4, 1),
        (0.0, 4, 4),  # by a clock that did not move
        (60.0, 1, 1),
        (8.0, 64, 8),
    ],
)
def test_about_one_question_a_second(monkeypatch, seconds, micro_batches, proposed):
    """By the time of the step before; in the first step, after every micro-batch."""
    times = iter([100.0, 100.0 + seconds])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(times)))
    asked = Questions(micro_batches)
    assert asked.proposed() == 1
    assert asked.proposed() == proposed
