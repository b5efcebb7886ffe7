"""The commands of a study, as they can be pasted into a shell."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from shlex import quote

from ...schemas.sizes import plural
from .commands import shown
from .config import Study
from .durations import Durations, in_words
from .graph import Step
from .plan import Candidate, Plan, RecordOf
from .tokens import tokens_of
from .workers import environment_of

__all__ = ["listing"]


def listing(
    study: Study,
    plan: Plan,
    record_of: RecordOf,
    folder: Path,
    jobs: int,
    foretold: Mapping[str, str | None],
    notes: Iterable[str],
) -> Iterator[str]:
    """Yields the lines of `--dry-run`: each step's name as a comment, then its commands.

    Args:
        study: the study.
        plan: its steps, with the bases that are hoped for.
        record_of: finds the record of a step.
        folder: of the study.
        jobs: how many commands will run at once.
        foretold: name of a step -> what it will take, in words, if that is known.
        notes: lines about all steps.
    """
    yield f"mkdir -p {quote(str(folder))} && cd {quote(str(folder))}"
    for name, value in environment_of(jobs).items():
        yield f"export {name}={value}"
    for step in plan.steps:
        record = record_of(step)
        if record is None:
            yield f"# {step.name}" + _about(step, folder, foretold)
        elif record.is_done:
            yield f"# {step.name}: done in {in_words(record.seconds)}"
            continue
        else:
            yield f"# {step.name}: failed before: {record.reason}"
        yield from map(shown, step.commands)
    for candidate in plan.candidates or ():
        yield from _gate(study, candidate)
    yield from (f"# {line}".rstrip() for line in notes)
    yield f"# {_summary(plan, record_of, jobs)}"


def _about(step: Step, folder: Path, foretold: Mapping[str, str | None]) -> str:
    told = foretold.get(step.name)
    if told is not None:
        return f": {told}"
    tokens = tokens_of(step, folder)
    return f": {tokens:,} tokens" if tokens else ""


def _gate(study: Study, candidate: Candidate) -> Iterator[str]:
    """Yields what happens to a candidate for a base that is not finished."""
    base = study.base
    if base is None or base.gate is None or candidate.passed is not None:
        return
    gate = base.gate
    longer = (
        f"is trained on, to at most {gate.extend} times its plan; then " if gate.extend > 1 else ""
    )
    yield (
        f"# base {candidate.seed} must gain {gate.gain:g} nats at distances up to {gate.up_to:,}; "
        f"else it {longer}the next seed takes its place"
    )


def _summary(plan: Plan, record_of: RecordOf, jobs: int) -> str:
    durations = Durations.of(plan.steps, record_of)
    left = durations.left(jobs)
    about = (
        "time unknown until a step of each kind is done"
        if left is None
        else (f"about {in_words(left)} left")
    )
    return (
        f"{plural(durations.steps, 'step')}, {durations.ended} done; {about}, "
        f"with {plural(jobs, 'command')} at a time"
    )
