"""The shim sees every operation, and disturbs the one that it is told to."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import shim
from campaign.disk import Crash, History, State, tree
from campaign.journal import Kind, read_journal

if why := shim.why_not():
    pytest.skip(why, allow_module_level=True)

PROGRAM = """
import errno, os, shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from campaign import shim
root, journal = Path(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3] else None
at, action, error = map(int, sys.argv[4:])
shim.disturb(root, journal=journal, at=at, action=shim.Action(action), error=error)
(root / "made").mkdir()
with (root / "made" / "t").open("wb", buffering=0) as file:
    file.write(b"0123456789")
    os.pwrite(file.fileno(), b"ab", 4)
    os.fsync(file.fileno())
(root / "made" / "t").rename(root / "new")
os.link(root / "new", root / "linked")
with (root / "old").open("r+b") as file:
    file.truncate(3)
shutil.copyfile(root / "old", root / "copy")
shutil.rmtree(root / "made")
os.unlink(root / "linked")
with (root / "old").open("ab") as file:
    file.write(b"more")
(root.parent / "outside").write_bytes(b"not watched")
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shim.build(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def run(
    library: Path, root: Path, journal: Path | str = "", at: int = 0,
    action: shim.Action = shim.Action.WATCH, error: int = 0,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Runs the program in a new folder."""
    if not root.exists():
        root.mkdir()
        (root / "old").write_bytes(b"before")
    given = [Path(__file__).parent, root, journal, at, action.value, error]
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, given)],
        env=shim.environment(library), capture_output=True, text=True, check=False,
    )  # fmt: skip


def watched(library: Path, root: Path) -> History:
    """Runs it to its end."""
    root.mkdir()
    (root / "old").write_bytes(b"before")
    history = History(root)
    done = run(library, root, root.with_name("journal"))
    assert done.returncode == 0, done.stderr
    history.record(read_journal(root.with_name("journal")))
    return history


def test_every_operation_is_seen(library, root):
    history = watched(library, root)
    assert history.state(len(history.done), Crash.KILL) == tree(root) == {
        "new": b"0123ab6789", "old": b"befmore", "copy": b"bef",
    }  # fmt: skip
    assert history.done == [
        "mkdir made", "create made/t", "write made/t", "write made/t", "sync made/t",
        "rename made/t -> new", "link new -> linked", "truncate old", "create copy", "write copy",
        "rmdir made", "unlink linked", "write old",
    ]  # fmt: skip
    assert {operation.kind for operation in read_journal(root.with_name("journal"))} == set(Kind)


def states(library: Path, tmp_path: Path, action: shim.Action, count: int) -> list[State]:
    """What is there when the program is killed at each operation."""
    found = []
    for at in range(1, count + 1):
        killed = tmp_path / f"{action.name}-{at}"
        assert run(library, killed, at=at, action=action).returncode == -9
        found.append(tree(killed))
    return found


@pytest.mark.slow
def test_a_kill_leaves_what_the_model_says(library, root, tmp_path):
    """The campaign makes the states of a killed process; here, processes are killed."""
    history = watched(library, root)
    moments = range(len(history.done))
    killed = states(library, tmp_path, shim.Action.KILL, len(moments))
    assert killed == [history.state(at, Crash.KILL) for at in moments]
    torn = states(library, tmp_path, shim.Action.TEAR, len(moments))
    assert torn == [history.state(at, Crash.TORN) for at in moments]


def test_an_operation_fails(library, root):
    done = run(library, root, at=6, action=shim.Action.FAIL, error=errno.EIO)
    assert done.stderr.splitlines()[-1].startswith(f"OSError: [Errno {errno.EIO}]")
    assert "rename" in done.stderr
    assert tree(root) == {"old": b"before", "made": None, "made/t": b"0123ab6789"}


def test_a_disk_is_full(library, root):
    """Half of a write is there, and nothing that takes space succeeds afterwards."""
    done = run(library, root, at=3, action=shim.Action.FULL, error=errno.ENOSPC)
    assert os.strerror(errno.ENOSPC) in done.stderr
    assert tree(root) == {"old": b"before", "made": None, "made/t": b"01234"}
