"""Which steps a study has, as far as that is known: bases are chosen by what was found of them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .config import Base, Study
from .graph import Cell, Step, base_step, cells_of, prepare_steps
from .records import Record

__all__ = ["Candidate", "Plan", "RecordOf", "candidate_steps", "lacking_bases", "make_plan"]

RecordOf = Callable[[Step], Record | None]
"""Finds the record of a step that has ended."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A training that may become a base.

    Attributes:
        seed: of the training.
        times: how many times its plan it was trained, or is being trained.
        passed: whether it is a base; None as long as that is not known.
        gain: what its gate looks at, in nats; None if it was not evaluated.
        reason: why its training failed; None if it did not.
    """

    seed: int
    times: int
    passed: bool | None
    gain: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of a study.

    Attributes:
        candidates: for bases, in the order in which they are tried; None without a base.
        steps: each after those that it needs.
        cells: trainings of arms on the bases that are known, or hoped for.
    """

    candidates: tuple[Candidate, ...] | None
    steps: tuple[Step, ...]
    cells: tuple[Cell, ...]


def make_plan(study: Study, record_of: RecordOf, *, hoped: bool = False) -> Plan:
    """The steps as far as they are known.

    Args:
        study: the study.
        record_of: finds the record of a step.
        hoped: whether candidates that are not finished count as bases.
    """
    candidates = None if study.base is None else tuple(_candidates(study, study.base, record_of))
    bases = None if candidates is None else _bases(candidates, hoped=hoped)
    cells = tuple(cells_of(study, bases))
    trained = candidate_steps(study, candidates)
    return Plan(
        candidates=candidates,
        steps=(*prepare_steps(study), *trained, *(cell.step for cell in cells)),
        cells=cells,
    )


def candidate_steps(study: Study, candidates: Iterable[Candidate] | None) -> list[Step]:
    """The steps that train the candidates for bases; none without a base."""
    return [
        base_step(study, each.seed, times)
        for each in candidates or ()
        for times in range(1, each.times + 1)
    ]


def lacking_bases(study: Study, candidates: Iterable[Candidate] | None) -> int:
    """How many bases fewer have passed than the study wants."""
    if study.base is None or candidates is None:
        return 0
    return study.base.wanted - sum(each.passed is True for each in candidates)


def _bases(candidates: Iterable[Candidate], *, hoped: bool) -> dict[int, int]:
    """Seed of each base -> how many times its plan it was trained."""
    return {
        each.seed: each.times
        for each in candidates
        if each.passed or (hoped and each.passed is None)
    }


def _candidates(study: Study, base: Base, record_of: RecordOf) -> Iterator[Candidate]:
    """Yields those that have been tried, and so many more that there may be enough bases.

    A candidate is tried only if too many of those before it have failed, so which ones become bases
    does not depend on how many are trained at once.
    """
    hopeful = 0
    for seed in base.seeds:
        if hopeful == base.wanted:
            return
        found = _candidate(study, base, seed, record_of)
        hopeful += found.passed is not False
        yield found


def _candidate(study: Study, base: Base, seed: int, record_of: RecordOf) -> Candidate:
    gate = base.gate
    most = 1 if gate is None else gate.extend
    gain = None
    for times in range(1, most + 1):
        record = record_of(base_step(study, seed, times))
        if record is None:
            return Candidate(seed=seed, times=times, passed=None, gain=gain)
        if not record.is_done:
            return Candidate(seed=seed, times=times, passed=False, gain=gain, reason=record.reason)
        gain = record.gain
        if gate is None or (gain is not None and gain >= gate.gain):
            return Candidate(seed=seed, times=times, passed=True, gain=gain)
    return Candidate(seed=seed, times=most, passed=False, gain=gain)
