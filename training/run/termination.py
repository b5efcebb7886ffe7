"""SIGTERM and Ctrl-C: they ask a run to stop in good order instead of ending the process.

torchrun hands a signal on and kills its workers after a while, whatever they do. A checkpoint that
takes longer than that is lost.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["grace_caution", "termination"]

UNDER_TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Environment variable of the processes that torchrun has started."""

PATIENCE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
"""Environment variable for the seconds that torchrun waits after SIGTERM, unless its option
--shutdown-timeout says it. The workers do not learn that option."""

DEFAULT_PATIENCE = 30.0
MARGIN = 0.5
"""Share of these seconds that a checkpoint may take. Before it, a micro-batch is finished and maybe
an earlier checkpoint, and disks are slower at times."""


@contextmanager
def termination(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether SIGTERM or SIGINT has come.

    Once one has come, SIGTERM is ignored for the rest of the process: it must not interrupt what is
    still to be done. A second SIGINT does what it would do without this. Under torchrun there is
    none: it turns the second one into SIGTERM.

    Args:
        say: takes a line for the person who pressed Ctrl-C; called on the first rank only.
    """
    received: list[int] = []
    terminate, interrupt = (signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT))
    again = "" if UNDER_TORCHRUN in os.environ else "; Ctrl-C again ends it at once"

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)
        if number != signal.SIGINT:
            return
        signal.signal(signal.SIGINT, interrupt)
        if os.environ.get("RANK", "0") == "0":
            # The stream was just being written to, or whoever read it has met the same Ctrl-C.
            with suppress(RuntimeError, OSError):
                say(f"stops after a checkpoint{again}")

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if received else terminate)
        signal.signal(signal.SIGINT, interrupt)


def grace_caution(seconds: float) -> str | None:
    """A line for a person if torchrun may kill the ranks before a checkpoint is complete.

    Args:
        seconds: what a checkpoint takes.
    """
    if UNDER_TORCHRUN not in os.environ:
        return None
    try:
        patience = float(os.environ[PATIENCE])
    except (KeyError, ValueError):
        patience = DEFAULT_PATIENCE
    if seconds <= MARGIN * patience:
        return None
    return (
        f"a checkpoint takes {seconds:,.0f} s, and torchrun kills its ranks {patience:,.0f} s "
        "after SIGTERM: start it with torchrun --shutdown-timeout "
        f"{max(600, round(4 * seconds))}, if you did not"
    )
