"""Runs the steps of a study, several at a time, until nothing is left that can be run."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import filelock

from ...schemas.disk import make_folder
from ...schemas.disk_errors import disk_error
from ...schemas.errors import ExactcptError, UsageError
from ...schemas.settings import suggestion
from ...schemas.terminal import echo
from .asked import asked_evaluations
from .config import Study
from .durations import Durations, in_words
from .gate import gain_of
from .graph import BASE, Step
from .places import LOCK, LOGS
from .plan import Plan, RecordOf, lacking_bases, make_plan
from .records import Record, read_record, write_record
from .workers import BUSY, Worker, prepare_workers, reason_of

__all__ = ["PATIENCE", "held", "run_one", "run_steps"]

PATIENCE = 60.0
"""Seconds that a single step waits for another one to be registered."""

Say = Callable[[str], None]


@contextmanager
def held(folder: Path, patience: float = 0) -> Iterator[None]:
    """Keeps other studies out of a folder, which is made.

    Args:
        folder: of the study.
        patience: seconds to wait for the end of another one.

    Raises:
        ExactcptError: another study is at work in it, or it cannot be made or written to.
    """
    try:
        make_folder(folder)
        with filelock.FileLock(folder / LOCK, timeout=patience):
            yield
    except filelock.Timeout:
        raise ExactcptError(
            "another study is at work in this folder",
            where=str(folder),
            fix="wait for it to end, or name another --out",
        ) from None
    except OSError as error:
        raise disk_error(error, folder) from None


def run_steps(study: Study, folder: Path, jobs: int, say: Say) -> tuple[Plan, RecordOf]:
    """Runs all steps that are not done; what needs a step that fails is left out.

    Args:
        study: the study.
        folder: of the study; the caller holds it.
        jobs: how many commands run at once.
        say: takes a line for a person; failures are printed in any case.

    Returns:
        The plan when nothing more can be run, and what finds the record of a step.
    """
    runner = _Runner(study, folder, jobs, say)
    return runner.run(), runner.record_of


def run_one(study: Study, folder: Path, name: str, say: Say) -> bool:
    """Runs one step, if it is not done; returns whether it is done now.

    Raises:
        UsageError: there is no such step, or it needs another one first.
    """
    runner = _Runner(study, folder, 1, say)
    steps = {step.name: step for step in make_plan(study, runner.record_of, hoped=True).steps}
    if name not in steps:
        raise UsageError(
            f"there is no step {name!r}",
            expected="ARM:SEED:STAGE or another name that --dry-run prints",
            fix=suggestion(name, steps),
        )
    for each in steps[name].needs:
        if not runner.is_done(steps[each]):
            raise UsageError(f"{name} needs {each} first", fix=f"run --only {each}")
    return runner.run_only(steps[name])


@dataclass
class _Running:
    """A step that is being run.

    Attributes:
        step: which.
        command: the number of its command that runs.
        worker: that runs it.
        began: when the step did.
    """

    step: Step
    command: int
    worker: Worker
    began: float

    @property
    def is_last(self) -> bool:
        """Whether the step has no command after this one."""
        return self.command + 1 == len(self.step.commands)


class _Runner:
    def __init__(self, study: Study, folder: Path, jobs: int, say: Say) -> None:
        self._study = study
        self._folder = folder
        self._jobs = jobs
        self._say = say
        self._found: dict[str, Record | None] = {}
        self._running: dict[int, _Running] = {}
        before = make_plan(study, partial(read_record, folder))
        self._has_bases = not lacking_bases(study, before.candidates)
        prepare_workers(jobs)

    def record_of(self, step: Step) -> Record | None:
        """The record of a step, unless it failed before and is tried again.

        A candidate for a base is not tried again once there are enough bases: which ones they are
        must not change when arms have started from them.
        """
        if step.name not in self._found:
            found = read_record(self._folder, step)
            is_final = found is not None and (
                found.is_done or (step.kind == BASE and self._has_bases)
            )
            self._found[step.name] = found if is_final else None
        return self._found[step.name]

    def is_done(self, step: Step) -> bool:
        """Whether a step is done."""
        record = self.record_of(step)
        return record is not None and record.is_done

    def run(self) -> Plan:
        """Runs all steps that are not done."""
        try:
            while True:
                plan = make_plan(self._study, self.record_of)
                for step in self._ready(plan):
                    if len(self._running) < self._jobs:
                        self._begin(step)
                if not self._running:
                    return plan
                self._wait()
        except BaseException:
            self._stop()
            raise

    def run_only(self, step: Step) -> bool:
        """Runs one step; returns whether it is done."""
        try:
            if not self.is_done(step):
                self._begin(step)
            while self._running:
                self._wait()
        except BaseException:
            self._stop()
            raise
        return self.is_done(step)

    def _ready(self, plan: Plan) -> list[Step]:
        """The steps that can begin now."""
        done = {step.name for step in plan.steps if self.is_done(step)}
        running = {each.step.name for each in self._running.values()}
        return [
            step
            for step in plan.steps
            if step.name not in running
            and self.record_of(step) is None
            and done.issuperset(step.needs)
        ]

    def _begin(self, step: Step) -> None:
        self._start(step, 0, time.monotonic())

    def _start(self, step: Step, number: int, began: float) -> None:
        log = self._folder / LOGS / f"{step.place}.log"
        worker = Worker(step.commands[number], self._folder, log)
        self._running[worker.sentinel] = _Running(step, number, worker, began)

    def _wait(self) -> None:
        """Waits for the end of a command; then its step goes on, or ends."""
        for sentinel in wait([*self._running]):
            assert isinstance(sentinel, int)
            ended = self._running.pop(sentinel)
            code = ended.worker.end()
            if code == 0 and not ended.is_last:
                self._start(ended.step, ended.command + 1, ended.began)
            else:
                self._end(ended, code)

    def _end(self, ended: _Running, code: int) -> None:
        step, seconds = ended.step, round(time.monotonic() - ended.began, 3)
        if code == BUSY:
            self._wait_for_other(step)
            return
        reason = None if code == 0 else reason_of(code, ended.worker.log, ended.worker.began)
        if reason is None and not (self._folder / step.makes).exists():
            reason = f"it has not made {step.makes}"
        gain = evaluations = None
        if reason is None and step.is_evaluated:
            try:
                evaluations = asked_evaluations(self._study, self._folder / step.makes)
                gain = self._gain(step, evaluations)
            except ExactcptError as error:
                reason = error.found
        record = Record(
            status="done" if reason is None else "failed",
            reason=reason,
            seconds=seconds,
            gain=gain,
            evaluations=evaluations,
        )
        write_record(self._folder, step, record)
        self._found[step.name] = record
        self._tell(step, record)

    def _wait_for_other(self, step: Step) -> None:
        """Another process runs the step: its record is looked for again."""
        self._found.pop(step.name, None)
        log = self._folder / LOGS / f"{step.place}.log"
        echo(f"{step.name}  is run by another process, see {log}", err=True)

    def _gain(self, step: Step, evaluations: Collection[str]) -> float | None:
        """What the gate looks at; None for a step that goes through none."""
        base = self._study.base
        if step.kind != BASE or base is None or base.gate is None:
            return None
        return gain_of(self._study, self._folder / step.makes, base.gate, evaluations)

    def _tell(self, step: Step, record: Record) -> None:
        if record.reason is not None:
            log = self._folder / LOGS / f"{step.place}.log"
            echo(f"{step.name}  failed: {record.reason} (see {log})", err=True)
            return
        plan = make_plan(self._study, self.record_of, hoped=True)
        durations = Durations.of(plan.steps, self.record_of)
        gate = "" if record.gain is None else f", gain {record.gain:.3f} nats at the gate"
        left = durations.left(self._jobs)
        more = "" if left is None or not left else f", about {in_words(left)} left"
        self._say(
            f"{step.name}  done in {in_words(record.seconds)}{gate}"
            f"  ({durations.ended} of {durations.steps} steps{more})"
        )

    def _stop(self) -> None:
        """Lets all commands end, and waits for them; their steps go on when the study does.

        A command that was done before it was told to stop is not run again: some refuse to.
        """
        for each in self._running.values():
            each.worker.stop()
        ended = [(each, each.worker.end()) for each in self._running.values()]
        for each, code in ended:
            if code == 0 and each.is_last:
                self._end(each, code)
