"""Every fault of a command, then the same command again, and what is wrong afterwards.

A crash is not staged: its state is made from the journal of one run. A failing operation is: the
command runs, and its n-th operation fails. States from which the same command must end alike are
tried once (reruns.py).
"""

import errno
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from exactcpt.pipeline.job.folder import JOB
from exactcpt.schemas.disk import is_temporary

from .commands import Command
from .disk import POWER, Crash, History, State, materialize, tree
from .journal import read_journal
from .reruns import Problem, Reruns, digest
from .server import TEMPORARY, Ended, Request, Server
from .shim import Action
from .watch import Watch

__all__ = ["FAULTS", "Campaign", "Failure", "Finding", "Outcome"]


class Failure(StrEnum):
    """The ways in which an operation fails.

    FULL the disk is full from the operation on; ERROR the operation alone fails, with EIO.
    """

    FULL = "full"
    ERROR = "error"


FAULTS: tuple[Crash | Failure, ...] = (*Crash, *Failure)
DISTURBANCE = {Failure.FULL: (Action.FULL, errno.ENOSPC), Failure.ERROR: (Action.FAIL, errno.EIO)}

FIRST, AGAIN = 1, 2
"""Seeds of the names that the disturbed run draws, and the one after it: none comes up twice."""


@dataclass(frozen=True)
class Finding:
    """Something wrong: before which operation the fault came, what it was, and what was found."""

    at: int
    operation: str
    kind: str
    found: str


@dataclass
class Outcome:
    """What came of the faults of one kind in one command.

    Attributes:
        command, fault: their names.
        operations: that the command does without a fault.
        faults: how many there were.
        states: how many different states they left.
        reruns: how often the command was run again, once for all states that must end alike.
        findings: what was wrong: of the kind "litter", files that are left over at the end; of the
            kind "wrong", anything else.
    """

    command: str
    fault: str
    operations: int
    faults: int = 0
    states: int = 0
    reruns: int = 0
    findings: list[Finding] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """Faults with a finding of a kind."""
        return len({finding.at for finding in self.findings if finding.kind == kind})

    @property
    def survived(self) -> int:
        """Faults without a finding."""
        return self.faults - len({finding.at for finding in self.findings})


class Campaign:
    """A command and its faults.

    Args:
        name: of the command.
        command: what runs.
        server: where it runs.
        work: an empty folder to work in.
        share: whether states are tried once from which the command must end alike.
        tell: is told after every fault what came of them so far.

    Attributes:
        history: of the command without a fault.
    """

    def __init__(
        self, name: str, command: Command, server: Server, work: Path, *, share: bool = True,
        tell: Callable[[Outcome], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.name, self._command, self._server = name, command, server
        work = work.resolve()
        self._work, self._inputs, self._disk = work, work / "inputs", work / "disk"
        self._inputs.mkdir(parents=True)
        self._before: State = {}
        self.fresh()
        self._command.make_inputs(self._inputs, self._run_undisturbed)
        if (earlier := self._command.earlier(self._inputs, self._disk)) is not None:
            self._run_undisturbed(*earlier)
        self._before = tree(self._disk)
        self.history = self._record()
        self._wanted = tree(self._disk)
        self._finished = self._all_finished()
        self._share, self._tell, self._reruns = share, tell, Reruns()

    @property
    def operations(self) -> int:
        """How many the command does without a fault."""
        return len(self.history.done)

    def crash(self, crash: Crash, sample: int | None = None) -> Outcome:
        """Crashes at every operation, or a sample of them, and after the last one."""
        outcome = Outcome(self.name, crash, self.operations)
        seen = set[str]()
        for at in self._moments(crash, sample):
            state = self.history.state(at, crash)
            if crash in POWER:  # a machine that starts again empties its temporary folder
                state = {n: c for n, c in state.items() if not n.startswith(f"{TEMPORARY}/")}
            lost = self._lost(state) if at == self.operations else ()
            self._add(outcome, at, state, seen, lost)
        return outcome

    def fail(self, failure: Failure, sample: int | None = None) -> Outcome:
        """Lets every operation fail, or a sample of them."""
        outcome = Outcome(self.name, failure, self.operations)
        seen = set[str]()
        for at in self._moments(failure, sample):
            if at == self.operations:
                continue
            self.fresh()
            action, error = DISTURBANCE[failure]
            ended = self.run(names=FIRST, at=at + 1, action=action, error=error)
            state = tree(self._disk)
            self._add(outcome, at, state, seen, self._told(ended, state))
        return outcome

    def _add(
        self, outcome: Outcome, at: int, state: State, seen: set[str], problems: Iterable[Problem]
    ) -> None:
        """Adds a fault, with what is wrong already and what is wrong with the state it left."""
        problems = [*problems, *self._look_at(state, outcome)]
        operation = "the end" if at == self.operations else self.history.done[at]
        seen.add(digest(self._command.unmeasured(state)))
        outcome.faults += 1
        outcome.states = len(seen)
        outcome.findings += [Finding(at, operation, kind, found) for kind, found in problems]
        self._tell(outcome)

    def _moments(self, fault: str, sample: int | None) -> Sequence[int]:
        """Numbers of operations before which the fault comes; one more is the end."""
        everything = range(self.operations + 1)
        if sample is None or sample >= len(everything):
            return everything
        drawn = random.Random(f"{self.name} {fault}").sample(everything[:-1], sample - 1)
        return [*sorted(drawn), self.operations]

    def _record(self) -> History:
        """Runs the command and follows it; the journal has to explain everything that is there."""
        history = History(self._disk)
        journal = self._work / "journal"
        ended = self.run(names=FIRST, journal=str(journal))
        if ended.code != 0:
            raise RuntimeError(f"{self.name} fails without a fault: {ended}")
        history.record(read_journal(journal))
        explained = history.state(len(history.done), Crash.KILL)
        if differences := _differences(explained, tree(self._disk)):
            raise RuntimeError(f"{self.name} has operations that the shim missed: {differences}")
        return history

    def _all_finished(self) -> dict[str, list[State]]:
        """The contents with which a folder may count as finished: at the beginning, and at last."""
        found: dict[str, list[State]] = {}
        for folder in self._command.finished(self._before):
            found[folder] = [_below(folder, self._before)]
        last: dict[str, State] = {}
        for at in range(self.operations + 1):
            state = self.history.state(at, Crash.KILL)
            last |= {f: _below(f, state) for f in self._command.finished(state)}
        for folder, content in last.items():
            found.setdefault(folder, []).append(content)
        return found

    def disk(self) -> State:
        """What is on the disk now."""
        return tree(self._disk)

    def _look_at(self, state: State, outcome: Outcome) -> list[Problem]:
        """What is wrong with a state, and with what the same command makes of it."""
        known = self._command.unmeasured(state)
        problems = self._reruns.find(known) if self._share else None
        if problems is None:
            outcome.reruns += 1
            problems, unread = self._run_watched(state)
            self._reruns.add(known, unread, problems)
        return [*self.accepted(state), *problems]

    def _run_watched(self, state: State) -> tuple[list[Problem], frozenset[str]]:
        """Runs the command again; also returns the files that it removed without opening them."""
        self.fresh(state)
        watch = Watch(self._disk, (name for name, content in state.items() if content is not None))
        try:
            problems = [*self.run_again(state)]
        finally:
            unread = watch.close()
        return problems, unread

    def accepted(self, state: State, *, unknown: bool = False) -> Iterator[Problem]:
        """What a reader takes for finished has to be right.

        Args:
            state: the disk.
            unknown: whether folders that an undisturbed run never makes are let pass, such as the
                checkpoint with which SIGTERM ends a run.
        """
        for folder in sorted(self._command.finished(state)):
            if unknown and folder not in self._finished:
                continue
            content = self._command.result(_below(folder, state))
            known = map(self._command.result, self._finished.get(folder, []))
            found = [_differences(content, wanted) for wanted in known]
            if all(found):
                yield "wrong", f"{folder} counts as finished, but {found[-1] if found else 'never'}"

    def run_again(self, state: State) -> Iterator[Problem]:
        """What is wrong with what the same command makes of the state that is on the disk."""
        done = self._is_done(state)
        ended = self.run(names=AGAIN)
        if ended.code != 0 and not (done and self._command.refuses_to_run_again()):
            last = " | ".join(ended.text.strip().splitlines()[-4:])
            yield "wrong", f"the same command ends with {ended.code}: {last}"
            return
        now = tree(self._disk)
        left = sorted(now.keys() - self._wanted.keys())
        if litter := [name for name in left if not _is_unowned(name, state, now)]:
            yield "litter", f"left over: {', '.join(litter[:4])}"
        kept = {name: content for name, content in now.items() if name not in left}
        result, wanted = self._command.result(kept), self._command.result(self._wanted)
        if differences := _differences(result, wanted):
            yield "wrong", f"after the same command {differences}"

    def _told(self, ended: Ended, state: State) -> Iterator[Problem]:
        """What is wrong with how a command ends that cannot write."""
        if ended.code not in (0, 1):
            yield "wrong", f"it ends with {ended.code}"
        if ended.code == 0 and not self._is_done(state, but=JOB):
            yield "wrong", "it ends with 0, but something is missing or differs"
        for word in ("Traceback", "internal error"):
            if word in ended.text:
                yield "wrong", ended.text[ended.text.index(word) :][:400]
        if temporaries := [name for name in state if is_temporary(name)]:
            yield "litter", f"temporaries after an error: {', '.join(temporaries[:4])}"

    def _lost(self, state: State) -> Iterator[Problem]:
        """What was said to be complete has to outlast a power cut."""
        if not self._is_done(state):
            found = _differences(self._command.result(state), self._command.result(self._wanted))
            yield "wrong", f"it was complete, and now {found}"

    def _is_done(self, state: State, but: str | None = None) -> bool:
        """Whether all that an undisturbed run leaves is there, but for folders of one name.

        In `.job` is what spares the next command some work.
        """
        wanted = {n: c for n, c in self._wanted.items() if but not in n.split("/")}
        found = {n: c for n, c in state.items() if n in wanted}
        return self._command.result(found) == self._command.result(wanted)

    def fresh(self, state: State | None = None) -> None:
        """Makes the disk what a state says; if none is given, what it is before the command."""
        state = self._before if state is None else state
        shutil.rmtree(self._disk, ignore_errors=True)
        self._disk.mkdir()
        materialize(state, self._disk)
        (self._disk / TEMPORARY).mkdir(exist_ok=True)

    def run(self, *flags: object, **disturbance: Any) -> Ended:
        """Runs the command where it was left; the disturbance is a part of a `Request`."""
        arguments = self._command.arguments(self._inputs, self._disk)
        return self._run_arguments([*arguments, *flags], **disturbance)

    def _run_arguments(self, arguments: Sequence[object], **disturbance: Any) -> Ended:
        request = Request(
            arguments=[str(argument) for argument in arguments],
            disk=str(self._disk),
            log=str(self._work / "log"),
            **disturbance,
        )
        return self._server.run(request)

    def _run_undisturbed(self, *arguments: object) -> None:
        ended = self._run_arguments(arguments)
        if ended.code != 0:
            raise RuntimeError(f"{arguments} fails: {ended.text}")


def _is_unowned(name: str, before: State, now: State) -> bool:
    """Whether it is an empty folder of a killed process among the system's temporary files.

    Nobody can tell whose it is. Beam makes one, and removes it before it runs anything.
    """
    empty = now[name] is None and not any(other.startswith(f"{name}/") for other in now)
    return empty and name in before and name.startswith(f"{TEMPORARY}/")


def _below(folder: str, state: State) -> State:
    """The files of a folder, without those that readers leave alone."""
    inside = {
        n.removeprefix(f"{folder}/"): c for n, c in state.items() if n.startswith(f"{folder}/")
    }
    return {
        name: content
        for name, content in inside.items()
        if content is not None and not name.startswith(".job/") and not is_temporary(name)
    }


def _differences(found: Any, wanted: Any) -> str:
    """How two states differ; "" if they do not."""
    missing = sorted(wanted.keys() - found.keys())
    more = sorted(found.keys() - wanted.keys())
    other = sorted(name for name in found.keys() & wanted.keys() if found[name] != wanted[name])
    named = (("missing", missing), ("more", more), ("different", other))
    return "; ".join(f"{word}: {', '.join(names[:4])}" for word, names in named if names)
