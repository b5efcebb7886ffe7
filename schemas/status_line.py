"""One line that tells how far something is, with as much as there is room for.

tokenize   38 %  1.2 of about 3.1 billion tokens  12.3 M/s  2:41 left
"""

from collections.abc import Sequence
from math import floor, log10

__all__ = ["amount", "clock", "fitted", "percentage", "speed"]

GAP = "  "
NUMBERS = ((10**12, " trillion"), (10**9, " billion"), (10**6, " million"))
BYTES = ((10**12, " TB"), (10**9, " GB"), (10**6, " MB"), (10**3, " KB"))
SHORT = ((10**12, " T"), (10**9, " G"), (10**6, " M"), (10**3, " k"))


def amount(done: int, total: int | None, what: str, *, about: bool = False) -> str:
    """What is done of what there is: "1.2 of 3.1 billion tokens", "3 of 12 splits", "1.2 GB".

    Args:
        done: how much is done.
        total: how much there is; None for what nobody knows, and for what is all done.
        what: the noun for one; "byte" for an amount of data.
        about: whether the total is an estimate.
    """
    largest = done if total is None else total
    units = BYTES if what == "byte" else NUMBERS
    scale, unit = next((each for each in units if largest >= each[0]), (1, ""))
    shown = [_number(value, scale) for value in (done, total) if value is not None]
    if about and total is not None:
        shown[1] = f"about {_number(_rounded(total), scale)}"
    noun = "" if what == "byte" and unit else f" {what}{'' if largest == 1 else 's'}"
    return f"{' of '.join(shown)}{unit}{noun}"


def _number(value: int, scale: int) -> str:
    return f"{value:,}" if scale == 1 else f"{value / scale:,.1f}"


def _rounded(value: int) -> int:
    """A number to three digits."""
    return round(value, min(2 - floor(log10(value)), 0)) if value else 0


def percentage(done: int, total: int) -> str:
    """The part that is done, rounded down: "38 %"; 100 only where all is done."""
    return f"{min(100 * done // total, 100) if total else 100} %"


def speed(rate: float, what: str) -> str:
    """Units per second: "950 /s", "12.3 M/s", "530.1 MB/s".

    Args:
        rate: in units per second.
        what: the noun for one; "byte" for an amount of data.
    """
    scale, unit = next(
        (each for each in (BYTES if what == "byte" else SHORT) if rate >= each[0]), (1, " ")
    )
    return f"{rate:,.0f}{unit}/s" if scale == 1 else f"{rate / scale:,.1f}{unit}/s"


def clock(seconds: float) -> str:
    """A time in minutes and seconds, or hours: "0:07", "2:41", "3:02:41"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def fitted(pieces: Sequence[tuple[int, str]], width: int | None) -> str:
    """The pieces on one line. Where they do not fit, the least important are left out.

    Args:
        pieces: each with its rank, and in the order of the line. The lower the rank, the longer a
            piece stays; of one rank, the last goes first. Empty pieces count for nothing.
        width: characters of the line; None for no limit.
    """
    kept = [(rank, piece) for rank, piece in pieces if piece]
    while True:
        line = GAP.join(piece for _, piece in kept)
        if width is None or len(line) <= width:
            return line
        if len(kept) < 2:
            return line[:width]
        kept.pop(max(range(len(kept)), key=lambda i: (kept[i][0], i)))
