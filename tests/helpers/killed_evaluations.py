"""Evaluations that are killed over and over again, until they are finished."""

import pytest

from exactcpt.pipeline.cli import run_command
from exactcpt.training.evaluation.results import Journal

__all__ = ["kills_until_finished"]


class Killed(BaseException):
    """As if the process were killed."""


def kills_until_finished(command: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs a command until it succeeds; kills it before each batch is on the disk, and after.

    No batch that is on the disk may be scored again.

    Returns:
        How often it was killed.
    """
    plain = Journal.add
    kept: set[frozenset[str]] = set()
    lost: set[frozenset[str]] = set()

    def add(self, scores, seconds):
        batch = frozenset(scores)
        assert batch not in kept
        if batch not in lost:
            lost.add(batch)
            raise Killed
        kept.add(batch)
        plain(self, scores, seconds)
        raise Killed

    monkeypatch.setattr(Journal, "add", add)
    kills = 0
    while True:
        try:
            assert run_command(command) == 0
            break
        except Killed:
            kills += 1
    assert kills == len(kept) + len(lost)
    return kills
