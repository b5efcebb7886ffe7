"""The model of a disk: what each crash leaves, operation by operation."""

from pathlib import Path

import pytest
from campaign.disk import POWER, Crash, History, materialize, tree
from campaign.journal import Kind, Operation


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one file, which counts as synced."""
    (tmp_path / "old").write_bytes(b"before")
    return tmp_path


def history(root: Path, *operations: Operation) -> History:
    found = History(root)
    found.record(operations)
    return found


def operation(kind: Kind, root: Path, path: str, **fields: object) -> Operation:
    """An operation on a path below the root; "target" is below it too."""
    target = f"{root}/{fields.pop('target')}" if "target" in fields else ""
    return Operation(kind, path=f"{root}/{path}".rstrip("/"), target=target, **fields)


def whole_write(root: Path, *, synced: bool) -> History:
    """A file written under a temporary name and renamed, as `schemas/disk.py` says."""
    node = root.stat().st_ino
    sync = [operation(Kind.SYNC, root, "t", node=7)] if synced else []
    return history(
        root,
        operation(Kind.CREATE, root, "t", node=7),
        operation(Kind.WRITE, root, "t", node=7, data=b"12345678"),
        *sync,
        operation(Kind.RENAME, root, "t", target="new"),
        operation(Kind.SYNC, root, "", node=node),
    )


def test_a_kill_leaves_what_was_done(root):
    found = whole_write(root, synced=True)
    states = [found.state(at, Crash.KILL) for at in range(6)]
    old = {"old": b"before"}
    assert states == [
        old, old | {"t": b""}, old | {"t": b"12345678"}, old | {"t": b"12345678"},
        old | {"new": b"12345678"}, old | {"new": b"12345678"},
    ]  # fmt: skip
    assert found.state(1, Crash.TORN) == old | {"t": b"1234"}


@pytest.mark.parametrize("crash", POWER)
def test_a_file_that_is_synced_before_it_is_named_is_whole_or_absent(root, crash):
    found = whole_write(root, synced=True)
    for at in range(6):
        assert found.state(at, crash).get("new", b"12345678") == b"12345678"
    assert found.state(5, crash) == {"old": b"before", "new": b"12345678"}


@pytest.mark.parametrize(
    ("crash", "left"),
    [
        (Crash.ORDERED, b""),
        (Crash.STRICT, b""),
        (Crash.CUT, b"1234"),
        (Crash.ZEROS, bytes(8)),
    ],
)
def test_a_file_that_is_not_synced_is_damaged(root, crash, left):
    """Its name outlasts the power cut, its data does not."""
    assert whole_write(root, synced=False).state(4, crash)["new"] == left


def test_when_a_name_is_on_the_disk(root):
    """Strictly when its folder is synced; with an ordered journal when anything is."""
    found = history(
        root,
        operation(Kind.CREATE, root, "a", node=7),
        operation(Kind.CREATE, root, "b", node=8),
        operation(Kind.SYNC, root, "b", node=8),
        operation(Kind.UNLINK, root, "old"),
        operation(Kind.SYNC, root, "", node=root.stat().st_ino),
    )
    assert found.state(2, Crash.ORDERED) == {"old": b"before"}
    assert found.state(3, Crash.ORDERED) == {"old": b"before", "a": b"", "b": b""}
    assert found.state(3, Crash.STRICT) == {"old": b"before"}
    assert found.state(4, Crash.STRICT) == {"old": b"before"}
    assert found.state(4, Crash.CUT) == {"a": b"", "b": b""}
    assert found.state(5, Crash.STRICT) == {"a": b"", "b": b""}


def test_data_that_was_not_synced_is_lost_and_the_rest_stays(root):
    """A log that grows: what was synced once is there for ever."""
    node = (root / "old").stat().st_ino
    found = history(
        root,
        operation(Kind.WRITE, root, "old", node=node, offset=6, data=b" then"),
        operation(Kind.SYNC, root, "old", node=node),
        operation(Kind.WRITE, root, "old", node=node, offset=11, data=b" now!!"),
        operation(Kind.TRUNCATE, root, "old", node=node, offset=0),
    )
    left = {crash: found.state(3, crash)["old"] for crash in Crash}
    assert left == {
        Crash.KILL: b"before then now!!",
        Crash.TORN: b"before then now!!",
        Crash.ORDERED: b"before then",
        Crash.STRICT: b"before then",
        Crash.CUT: b"before then no",
        Crash.ZEROS: b"before then" + bytes(6),
    }
    assert found.state(4, Crash.CUT)["old"] == b""
    assert found.state(4, Crash.ORDERED)["old"] == b"before then"


def test_a_folder_takes_what_is_in_it_along(root):
    found = history(
        root,
        operation(Kind.MKDIR, root, "one", node=7),
        operation(Kind.CREATE, root, "one/a", node=8),
        operation(Kind.SYNC, root, "one/a", node=8),
        operation(Kind.SYNC, root, "one", node=7),
        operation(Kind.RENAME, root, "one", target="two"),
    )
    old = {"old": b"before"}
    assert found.state(4, Crash.STRICT) == old
    assert found.state(5, Crash.KILL) == old | {"two": None, "two/a": b""}
    assert found.state(5, Crash.ORDERED) == old | {"one": None, "one/a": b""}


def test_an_inode_that_is_used_again_is_another_file(root):
    found = history(
        root,
        operation(Kind.CREATE, root, "a", node=7),
        operation(Kind.WRITE, root, "a", node=7, data=b"first"),
        operation(Kind.UNLINK, root, "a"),
        operation(Kind.CREATE, root, "b", node=7),
    )
    assert found.state(4, Crash.KILL) == {"old": b"before", "b": b""}


def test_a_rename_that_was_not_seen_is_noticed(root):
    """A library may call the system itself; the next call that is seen tells the new name."""
    found = history(
        root,
        operation(Kind.CREATE, root, "a", node=7),
        operation(Kind.SYNC, root, "b", node=7),
    )
    assert found.state(1, Crash.KILL) == {"old": b"before", "a": b""}
    assert found.state(2, Crash.KILL) == {"old": b"before", "b": b""}


def test_a_state_can_be_made(root, tmp_path_factory):
    state = {"a": None, "a/b": None, "a/b/c": b"x", "d": b""}
    made = tmp_path_factory.mktemp("made")
    materialize(state, made)
    assert tree(made) == state
