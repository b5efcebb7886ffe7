"""Chooses the files that belong to a source among those that its pattern matches.

Each step leaves some out, and a warning names them:

    hidden files               never read, and not named
    what is no file            pipes, sockets and devices
    leftovers                  leftovers.py: of engines, downloads and editors
    other formats              formats.py
    twins                      twins.py: the same file, compressed and not
    other configurations       cards.py: what the README.md of a data set does not list as default
    other splits               named_splits.py: training data is read, or the split asked for

Tables of Delta, Iceberg and Hudi are refused, see tables.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ...schemas.errors import ExactcptError, UsageError
from ...schemas.manifest import MANIFEST, TOKENIZER
from ...schemas.sizes import plural
from ..core.choices import Format
from .cards import NOT_LISTED, Declared, read_card
from .formats import Choice, choose
from .leftovers import is_hidden, is_leftover
from .matching import Matches, first_names
from .named_splits import ALL, HELD_OUT, TRAIN, SplitChoice, choose_split, split_by_name
from .tables import refuse_tables
from .twins import twins

__all__ = ["Found", "Sifted", "check_split", "sift"]

CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a source's pattern matches.

    Attributes:
        source: the source's name.
        where: its pattern.
        wild: the part of the pattern from its first wildcard on; empty for a folder.
        files: by name, relative to the rest of the pattern, in order.
        read: reads a file, given its name.
    """

    source: str
    where: str
    wild: str
    files: Matches
    read: Callable[[str], bytes]


@dataclass(kw_only=True)
class Sifted:
    """The files that are still to be read, and what there is to say about the others."""

    source: str
    names: list[str]
    format: Format | None = None
    warnings: list[str] = field(default_factory=list)

    def leave_out(self, names: Iterable[str], why: str) -> None:
        """Leaves files out, with a warning."""
        left = set(names)
        if left:
            out = [name for name in self.names if name in left]
            self.names = [name for name in self.names if name not in left]
            self.warn(f"{_are(len(out))} left out, {why}: {first_names(out)}")

    def warn(self, text: str) -> None:
        """Adds a warning about the source."""
        self.warnings.append(f"source {self.source!r}: {text}")


def sift(found: Found, wanted: Format | None, split: str | None) -> Sifted:
    """Chooses the files that are read.

    Args:
        found: the files to choose from.
        wanted: the format asked for, or None to go by names.
        split: the split asked for, or None for training data.

    Returns:
        Their names and format; no names if nothing is left.

    Raises:
        UsageError: there are several splits, and it is not clear which one to read, or there is
            no split of the name.
        ExactcptError: there are several formats, or the files are those of a table.
    """
    refuse_tables(found.source, found.where, found.files)
    sifted = Sifted(
        source=found.source, names=[n for n in found.files if not is_hidden(n, found.wild)]
    )
    others = [n for n in sifted.names if (found.files[n] or {}).get("type") == "other"]
    sifted.leave_out(others, "as pipes, sockets or devices")
    leftovers = [n for n in sifted.names if is_leftover(n, found.wild)]
    sifted.leave_out(leftovers, "named like what other programs leave behind")
    _keep_one_format(sifted, found, wanted)
    if sifted.names:
        _keep_one_of_twins(sifted, found)
        _keep_one_split(sifted, found, split)
    return sifted


def _keep_one_format(sifted: Sifted, found: Found, wanted: Format | None) -> None:
    choice = choose(sifted.names, wanted)
    if len(choice.formats) > 1:
        raise _several_formats(found, choice)
    if not choice.formats:
        sifted.names = []
        return
    [(sifted.format, names)] = choice.formats.items()
    sifted.names = sorted(names)
    if choice.left_out:
        sifted.warnings.append(
            f"source {found.source!r} is read as {sifted.format}; {_are(len(choice.left_out))} "
            f"left out: {first_names(choice.left_out)}"
        )


def _several_formats(found: Found, choice: Choice) -> ExactcptError:
    formats = [
        f"{len(some):,} {kind} ({first_names(some)})"
        for kind, some in sorted(choice.formats.items())
    ]
    advice = (
        "add ,format=F to read the files of one format, or give each format its own source with a "
        "glob such as *.txt"
    )
    if {MANIFEST, TOKENIZER} <= {*found.files}:
        advice = (
            "if this is a token store or a shard set of exactcpt, give it to `exactcpt pack` or "
            f"`exactcpt reweigh`; otherwise {advice}"
        )
    return ExactcptError(
        f"source {found.source!r} has files of several formats: {', '.join(formats)}",
        where=found.where,
        expected="one format per source",
        fix=advice,
    )


def _keep_one_of_twins(sifted: Sifted, found: Found) -> None:
    same = twins(sifted.names, lambda name: not (found.files[name] or {}).get("size"))
    pairs = first_names([f"{other} ({best} is read)" for other, best in same.items()])
    if same:
        sifted.names = [name for name in sifted.names if name not in same]
        sifted.warn(f"{_are(len(same))} left out, the same but for the compression: {pairs}")


def _keep_one_split(sifted: Sifted, found: Found, wanted: str | None) -> None:
    declared = _declared(sifted, found) if wanted != ALL else None
    splits = {
        name: declared.split_of(name) if declared else split_by_name(name) for name in sifted.names
    }
    if declared:
        outside = [name for name, split in splits.items() if split is NOT_LISTED]
        sifted.leave_out(outside, f"not listed for {declared.default!r} in {CARD}")
    choice = choose_split({name: splits[name] for name in sifted.names}, wanted)
    if not choice.read:
        raise _no_split(found.source, found.where, choice, wanted)
    left_out = {split: names for split, names in choice.splits.items() if split not in choice.read}
    sifted.names = sorted(name for split in choice.read for name in choice.splits[split])
    if left_out:
        sifted.warn(_told(choice, left_out))
    elif wanted is None and choice.read[0] in HELD_OUT:
        sifted.warn(f"all its files are of the split {choice.read[0]}, which is not for training")


def _declared(sifted: Sifted, found: Found) -> Declared | None:
    """What the README.md of the folder says about its files, if it can be followed."""
    if found.wild or CARD not in found.files:
        return None
    try:
        declared = read_card(found.read(CARD).decode("utf-8", "replace"))
    except ValueError as error:
        sifted.warn(f"the configurations in {CARD} cannot be read: {str(error)[:200]}")
        return None
    if declared is None:
        return None
    if declared.default is None:
        sifted.warn(
            f"{CARD} declares several configurations, and none is the default; the files of all "
            f"are read: {first_names(declared.configs)}"
        )
        return None
    if all(declared.split_of(name) is NOT_LISTED for name in sifted.names):
        sifted.warn(f"{CARD} lists other files for {declared.default!r} than are here")
        return None
    return declared


def _told(choice: SplitChoice, left_out: Mapping[str | None, Sequence[str]]) -> str:
    kept = [f"the split {split}" for split in choice.read if split is not None]
    if None in choice.read:
        kept.append(f"{plural(len(choice.splits[None]), 'file')} of no split")
    out = [
        f"{plural(len(names), 'file')} of {split or 'no split'} ({first_names(names)})"
        for split, names in left_out.items()
    ]
    return (
        f"it has several splits. Read: {', '.join(kept)}. Left out: {', '.join(out)}. To read "
        f"another split add ,split=NAME; to read all files, ,split={ALL}"
    )


def check_split(source: str, where: str, name: str, wanted: str) -> None:
    """Checks that a file that is named itself may be of a split.

    Raises:
        UsageError: its name does not tell the split.
    """
    choice = choose_split({name: split_by_name(name)}, wanted)
    if not choice.read:
        raise _no_split(source, where, choice, wanted)


def _no_split(source: str, where: str, choice: SplitChoice, wanted: str | None) -> UsageError:
    names = sorted(split for split in choice.splits if split is not None)
    return UsageError(
        f"source {source!r} has several splits, and none is called {TRAIN}"
        if wanted is None
        else f"source {source!r} has no split {wanted!r}",
        where=where,
        expected=f"one of its splits: {first_names(names, 10)}"
        if names
        else "names of files or folders that tell a split, such as test or test-0.jsonl",
        fix=f"choose one with ,split=NAME, or read all files with ,split={ALL}",
    )


def _are(count: int) -> str:
    return f"{plural(count, 'file')} {'is' if count == 1 else 'are'}"
