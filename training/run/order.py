"""Which windows the steps of a run take, from its record and its log; the shards stay closed.

The order of windows is a function of the seed, and each step takes the next `global_batch` of it.
`exactcpt show` finds this by its entry point, for pipeline and training import nothing of each
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...schemas.errors import FormatError, UsageError
from ..windows.order import windows_at
from .log import LOG, RUN, Fields, read_log, read_run, require, stretches

__all__ = ["RunOrder", "read_order"]

SETTINGS_FIELDS: Fields = {"shards": str}
IDENTITY_FIELDS: Fields = {"shards": str, "seed": int}
START_FIELDS: Fields = {"settings": dict}
LAST_FIELDS: Fields = {"steps": int}
STRETCH_FIELDS: Fields = {"global_batch": int}


@dataclass(frozen=True, kw_only=True)
class RunOrder:
    """The order in which a run takes its windows.

    Attributes:
        shards: the folder of its shard set, as the run was given it.
        fingerprint: xxh3-128 of the manifest of that set.
        seed: of the order.
        batches: the steps after which a batch size held, rising, and that size in windows.
        steps: number of steps of the whole run.
        taken: the last step in the log.
    """

    shards: str
    fingerprint: str
    seed: int
    batches: Sequence[tuple[int, int]]
    steps: int
    taken: int

    def windows_of(self, step: int, n: int) -> list[int]:
        """The windows of a step, in the order of the run: over all ranks, first to last.

        Args:
            step: from 1 to `steps`; those that are not taken yet are known, too.
            n: number of training windows of the shard set.

        Raises:
            UsageError: the run has no such step.
        """
        if not 1 <= step <= self.steps:
            raise UsageError(f"the run has no step {step:,}", expected=f"1 to {self.steps:,}")
        before, size = 0, 0
        ends = [after for after, _ in self.batches[1:]]
        for (after, batch), end in zip(self.batches, [*ends, step], strict=True):
            if after < step:
                before, size = before + (min(end, step - 1) - after) * batch, batch
        return windows_at(np.arange(before, before + size), n, self.seed).tolist()


def read_order(run: Path) -> RunOrder:
    """Reads the order of a run from its folder.

    Raises:
        UsageError: there is no such folder, the run has not begun, or it trains on a mix of sets.
        FormatError: the folder is not a run, or its record or log is damaged.
    """
    recorded, log = read_run(run), read_log(run)
    starts = [record for record in log if record["kind"] == "start"]
    if not starts:
        raise UsageError("the run has not begun: its log has no start", where=str(run / LOG))
    try:
        require(recorded["settings"], SETTINGS_FIELDS)
        require(recorded["identity"], IDENTITY_FIELDS)
    except ValueError as error:
        raise FormatError(f"{RUN} is damaged: {error}", where=str(run / RUN)) from None
    if "mix" in recorded["identity"]:
        raise UsageError(
            "the run trains on a mix of shard sets, so its windows are not those of one set",
            where=str(run / RUN),
            fix="name a set and a window instead",
        )
    try:
        for start in starts:
            require(start, START_FIELDS)
        require(starts[-1], LAST_FIELDS)  # one that was lost is written again without it
        found = stretches(log)
        for stretch in found:
            require(stretch["settings"], STRETCH_FIELDS)
    except ValueError as error:
        raise FormatError(
            f"a start in the log is damaged: {error}", where=str(run / LOG), fix="restore the file"
        ) from None
    return RunOrder(
        shards=recorded["settings"]["shards"],
        fingerprint=recorded["identity"]["shards"],
        seed=recorded["identity"]["seed"],
        batches=[(stretch["after"], stretch["settings"]["global_batch"]) for stretch in found],
        steps=starts[-1]["steps"],
        taken=max((record["step"] for record in log if record["kind"] == "step"), default=0),
    )
