"""What came of commands that were run again, for states of the disk from which one must end alike.

A command that removes a file without having opened it does the same whatever the file holds. So a
state needs no run of its own if it differs from one that had a run in such files alone: in most
states of a crash they are the temporaries that were being written. Sizes of files, which can be
seen without opening them, are taken not to matter either.
"""

import xxhash

from .disk import State

__all__ = ["Reruns", "digest"]

Problem = tuple[str, str]
"""Kind of a finding, and what was found."""


class Reruns:
    """Runs from states of one command's disk."""

    def __init__(self) -> None:
        self._unread: dict[str, set[frozenset[str]]] = {}
        self._found: dict[tuple[frozenset[str], str], list[Problem]] = {}

    def find(self, state: State) -> list[Problem] | None:
        """What came of a run that the state's run would repeat; None if there was none."""
        for unread in self._unread.get(_names(state), ()):
            found = self._found.get((unread, digest(state, unread)))
            if found is not None:
                return found
        return None

    def add(self, state: State, unread: frozenset[str], problems: list[Problem]) -> None:
        """Adds a run, and the files that it removed without having opened them."""
        self._unread.setdefault(_names(state), set()).add(unread)
        self._found[unread, digest(state, unread)] = problems

    def __len__(self) -> int:
        """How many runs there were."""
        return len(self._found)


def _names(state: State) -> str:
    return digest(state, frozenset(state))


def digest(state: State, but: frozenset[str] = frozenset()) -> str:
    """The names and the contents of a state, except for the contents of some files."""
    found = xxhash.xxh3_128()
    for name, content in sorted(state.items()):
        kept = b"" if content is not None and name in but else content
        found.update(f"{name}\0{-1 if kept is None else len(kept)}\0".encode())
        found.update(kept or b"")
    return found.hexdigest()
