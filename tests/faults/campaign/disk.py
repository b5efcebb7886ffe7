"""Every state in which a crash can leave a folder, from the journal of a run that did not crash.

Two things are on a disk: the data of files, and the entries of folders, which give files their
names. A process that is killed leaves both as they are. A machine that loses power keeps what was
synced; of the rest it keeps as much as its file system likes. The model has the extremes:

    KILL      the process is killed: everything that it did is there
    TORN      killed in the middle of a write: half of it is there
    ORDERED   power is lost. A sync of anything commits all entries made before it, as the journals
              of ext4 and XFS do; the entries made after it are lost, and so is unsynced data
    STRICT    power is lost. An entry is there once its own folder was synced, which is all that
              POSIX promises; unsynced data is lost
    CUT       power is lost. All entries are there, but of the data of a file only half of what was
              not synced: names are committed early, data late
    ZEROS     the same, with zeros in the place of the data that was not synced

Mixtures of the extremes are not tried.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from .journal import Kind, Operation

__all__ = ["POWER", "Crash", "History", "State", "materialize", "tree"]

State = Mapping[str, bytes | None]
"""Path below the folder, with forward slashes -> content; None for a folder."""


class Crash(StrEnum):
    """The ways to crash; see the module."""

    KILL = "kill"
    TORN = "torn"
    ORDERED = "ordered"
    STRICT = "strict"
    CUT = "cut"
    ZEROS = "zeros"


POWER = (Crash.ORDERED, Crash.STRICT, Crash.CUT, Crash.ZEROS)
"""The ways in which power is lost."""
KEPT_VERSIONS = 4


class _File:
    """The data of a file, version by version; version k is what k changes have made of it."""

    def __init__(self, content: bytes = b"") -> None:
        self._versions = {0: content}
        self._changes: list[Operation] = []
        self._moments: list[int] = []
        self.syncs: list[int] = []

    def change(self, moment: int, operation: Operation) -> None:
        """Adds a change."""
        self._moments.append(moment)
        self._changes.append(operation)

    def after(self, moment: int, crash: Crash) -> bytes:
        """The data that a crash leaves when the operations before a moment were done."""
        now, synced = self._version(moment), self._synced_version(moment)
        if crash is Crash.TORN and moment in self._moments[now : now + 1]:
            return self._torn(now)
        if crash in (Crash.KILL, Crash.TORN) or now == synced:
            return self._content(now)
        kept = self._content(synced)
        if crash in (Crash.ORDERED, Crash.STRICT):
            return kept
        data = self._content(now)
        same = len(kept) if data.startswith(kept) else 0
        lost = len(data) - same
        return data[: same + lost // 2] if crash is Crash.CUT else data[:same] + bytes(lost)

    def _version(self, moment: int) -> int:
        return bisect_left(self._moments, moment)

    def _synced_version(self, moment: int) -> int:
        syncs = bisect_left(self.syncs, moment)
        return self._version(self.syncs[syncs - 1]) if syncs else 0

    def _content(self, version: int) -> bytes:
        """Continues from a version that is remembered: states are asked for in order."""
        nearest = max(known for known in self._versions if known <= version)
        if nearest == version:
            return self._versions[version]
        content = bytearray(self._versions[nearest])
        for change in self._changes[nearest:version]:
            _apply(change, change.data, content)
        for known in sorted(self._versions)[1:-KEPT_VERSIONS]:
            del self._versions[known]
        self._versions[version] = bytes(content)
        return self._versions[version]

    def _torn(self, version: int) -> bytes:
        """A version, and half of the write that would make the next one."""
        content, change = bytearray(self._content(version)), self._changes[version]
        if change.kind is Kind.WRITE:
            _apply(change, change.data[: len(change.data) // 2], content)
        return bytes(content)


def _apply(change: Operation, data: bytes, content: bytearray) -> None:
    end = change.offset + len(data)
    content.extend(bytes(max(0, end - len(content))))
    if change.kind is Kind.TRUNCATE:
        del content[end:]
    content[change.offset : end] = data


class _Folder:
    """A folder: its entries now, and the moments at which it was synced."""

    def __init__(self) -> None:
        self.entries: dict[str, _File | _Folder] = {}
        self.syncs: list[int] = []


@dataclass(frozen=True)
class _Edit:
    """A change of entries at a moment; a node of None removes an entry.

    It is in the journal of the disk when anything is synced after it, and strictly when the folder
    of its last entry is.
    """

    moment: int
    entries: tuple[tuple[_Folder, str, _File | _Folder | None], ...]


class History:
    """What becomes of a folder while a process works in it.

    Args:
        root: the folder as it is before the process begins; all of it counts as synced.

    Attributes:
        done: what the process did, in words.
    """

    def __init__(self, root: Path) -> None:
        self._path = root
        self._nodes: dict[int, _File | _Folder] = {}
        self._root = self._scan(root)
        folders = [node for node in self._nodes.values() if isinstance(node, _Folder)]
        self._before = {folder: dict(folder.entries) for folder in folders}
        self._edits: list[_Edit] = []
        self._syncs: list[int] = []
        self.done: list[str] = []

    def record(self, operations: Iterable[Operation]) -> None:
        """Adds what the process did, in order."""
        for operation in operations:
            self.done.append(self._describe(operation))
            self._follow(len(self.done) - 1, operation)

    def state(self, moment: int, crash: Crash) -> State:
        """What a crash leaves when so many operations were done."""
        entries = {folder: dict(names) for folder, names in self._before.items()}
        for edit in self._edits:
            if edit.moment >= moment:
                break
            if self._is_kept(edit, moment, crash):
                for folder, name, node in edit.entries:
                    names = entries.setdefault(folder, {})
                    names.pop(name, None)
                    if node is not None:
                        names[name] = node
        return dict(_walk(self._root, "", entries, moment, crash))

    def _is_kept(self, edit: _Edit, moment: int, crash: Crash) -> bool:
        if crash not in (Crash.ORDERED, Crash.STRICT):
            return True
        syncs = self._syncs if crash is Crash.ORDERED else edit.entries[-1][0].syncs
        following = bisect_right(syncs, edit.moment)
        return following < len(syncs) and syncs[following] < moment

    def _scan(self, path: Path) -> _File | _Folder:
        node = _Folder() if path.is_dir() else _File(path.read_bytes())
        self._nodes[path.stat().st_ino] = node
        if isinstance(node, _Folder):
            node.entries = {each.name: self._scan(each) for each in path.iterdir()}
        return node

    def _follow(self, moment: int, operation: Operation) -> None:
        node = self._nodes.get(operation.node)
        if node is not None and operation.kind in (Kind.WRITE, Kind.TRUNCATE, Kind.SYNC):
            self._notice_move(moment, node, operation.path)
        match operation.kind:
            case Kind.CREATE | Kind.MKDIR:
                made = _File() if operation.kind is Kind.CREATE else _Folder()
                self._nodes[operation.node] = made
                if operation.path:
                    self._edit(moment, (operation.path, made))
            case Kind.WRITE | Kind.TRUNCATE:
                assert isinstance(node, _File)
                node.change(moment, operation)
            case Kind.SYNC:
                assert node is not None
                node.syncs.append(moment)
                self._syncs.append(moment)
            case Kind.RENAME:
                moved = self._find(operation.path)
                self._edit(moment, (operation.path, None), (operation.target, moved))
            case Kind.LINK:
                self._edit(moment, (operation.target, self._find(operation.path)))
            case Kind.UNLINK | Kind.RMDIR:
                self._edit(moment, (operation.path, None))

    def _notice_move(self, moment: int, node: _File | _Folder, path: str) -> None:
        """A rename that the shim did not see came before an operation on the file."""
        if not path.endswith(" (deleted)") and self._find(path) is not node:
            self._edit(moment, (f"{self._path}/{self._name_of(node)}", None), (path, node))

    def _edit(self, moment: int, *names: tuple[str, _File | _Folder | None]) -> None:
        entries: list[tuple[_Folder, str, _File | _Folder | None]] = []
        for name, node in names:
            parent, _, base = name.rpartition("/")
            folder = self._find(parent)
            assert isinstance(folder, _Folder)
            entries.append((folder, base, node))
            folder.entries.pop(base, None)
            if node is not None:
                folder.entries[base] = node
        self._edits.append(_Edit(moment, tuple(entries)))

    def _find(self, path: str) -> _File | _Folder | None:
        node: _File | _Folder | None = self._root
        for name in PurePosixPath(path).relative_to(self._path).parts:
            assert isinstance(node, _Folder)
            node = node.entries.get(name)
        return node

    def _describe(self, operation: Operation) -> str:
        paths = [path for path in (operation.path, operation.target) if path]
        names = [str(PurePosixPath(path).relative_to(self._path)) for path in paths]
        return f"{operation.kind.name.lower()} {' -> '.join(names) or 'a file without a name'}"

    def _name_of(self, wanted: _File | _Folder | None) -> str:
        pending: list[tuple[str, _File | _Folder]] = [(".", self._root)]
        while pending:
            path, node = pending.pop()
            if node is wanted:
                return path
            if isinstance(node, _Folder):
                pending += [(f"{path}/{n}".removeprefix("./"), e) for n, e in node.entries.items()]
        return ""


def _walk(
    node: _File | _Folder,
    path: str,
    entries: Mapping[_Folder, Mapping[str, _File | _Folder]],
    moment: int,
    crash: Crash,
) -> Iterator[tuple[str, bytes | None]]:
    """Yields what is below a node."""
    if isinstance(node, _File):
        yield path, node.after(moment, crash)
        return
    if path:
        yield path, None
    for name, each in entries.get(node, {}).items():
        yield from _walk(each, f"{path}/{name}" if path else name, entries, moment, crash)


def tree(root: Path) -> State:
    """What a folder has now."""
    found = (path for path in sorted(root.rglob("*")))
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in found
    }


def materialize(state: State, root: Path) -> None:
    """Makes an empty folder what a state says."""
    for name, content in sorted(state.items()):
        path = root / name
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
