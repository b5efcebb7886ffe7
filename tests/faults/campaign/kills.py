"""Signals at random moments: to a command, or to one of its worker processes.

A job is a command that is killed up to MOST_KILLS times, each time where the one before has left
it, and then runs to its end.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .faults import Campaign, Problem
from .server import Ended

__all__ = ["Kills", "kill_at_random"]

MOST_KILLS = 6
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass
class Kills:
    """What came of the signals.

    Attributes:
        name: of the command.
        jobs: commands that ran to their end.
        signals: signals that came while a command ran, by name; "worker" for those to its workers.
        orphans: processes that outlived their command.
        findings: what was wrong, after which signals.
        seconds: of wall time.
    """

    name: str
    jobs: int = 0
    signals: dict[str, int] = field(default_factory=dict)
    orphans: int = 0
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """All signals that came."""
        return sum(self.signals.values())


def kill_at_random(
    campaign: Campaign, count: int, *, seed: int = 0, flags: Sequence[object] = (), workers: bool
) -> Kills:
    """Sends signals until so many have come.

    Args:
        campaign: of the command.
        count: how many.
        seed: of the moments and the signals.
        flags: more flags of the command.
        workers: whether some of the signals, SIGKILL, go to its worker processes.
    """
    draw = random.Random(f"{campaign.name} {flags} {seed}")
    found = Kills(" ".join(map(str, (campaign.name, *flags))))
    began = time.monotonic()
    campaign.fresh()
    campaign.run(*flags)
    whole = time.monotonic() - began
    while found.count < count:
        campaign.fresh()
        sent: list[str] = []
        for _ in range(draw.randint(1, MOST_KILLS)):
            to_worker = workers and draw.random() < 0.4
            number = signal.SIGKILL if to_worker else draw.choice(SIGNALS)
            ended = campaign.run(
                *flags, kill=draw.random() * whole, signal=number, worker=to_worker
            )
            if not ended.killed:
                break
            sent.append("worker" if to_worker else number.name)
            found.orphans += ended.orphans
            problems = [*_told(ended), *campaign.accepted(campaign.disk(), unknown=True)]
            found.findings += [f"{' '.join(sent)}: {problem}" for _, problem in problems]
        found.signals = dict(Counter(found.signals) + Counter(sent))
        found.jobs += 1
        problems = campaign.run_again(campaign.disk())
        found.findings += [f"{' '.join(sent)}: {problem}" for _, problem in problems]
    found.seconds = time.monotonic() - began
    return found


def _told(ended: Ended) -> Iterator[Problem]:
    if ended.code is None:
        yield "wrong", "it does not end"
    if "Traceback" in ended.text or "internal error" in ended.text:
        yield "wrong", ended.text[-400:]
    if ended.orphans:
        yield "wrong", f"{ended.orphans} of its processes outlived it"
