import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from exactcpt.pipeline.files import scratch
from exactcpt.pipeline.files.scratch import scratch_folder

KILLED = """
import os, signal
from exactcpt.pipeline.files.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "copy").write_bytes(b"of a part")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TMPDIR, and a process that has not looked there yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch._remove_abandoned.cache_clear()
    return tmp_path


def test_a_folder_is_there_for_the_block(temporary):
    with scratch_folder() as one, scratch_folder() as other:
        (one / "file").write_bytes(b"some")
        assert one.parent == other.parent == temporary and one != other
    assert list(temporary.iterdir()) == []
    with pytest.raises(ValueError, match="inside"), scratch_folder():
        raise ValueError("inside")
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_by_the_next_one(temporary):
    environment = {**os.environ, "TMPDIR": str(temporary)}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    left = Path(killed.stdout.decode().strip())
    assert (left / "copy").exists()
    with scratch_folder() as mine:
        assert list(temporary.iterdir()) == [mine]


def test_folders_at_work_and_of_others_stay(temporary):
    (temporary / f"{scratch.PREFIX}abcdefgh").write_bytes(b"")
    (temporary / f"{scratch.PREFIX}12345678").symlink_to(temporary / "exactcpt-demo")
    for name in ("exactcpt-demo", "exactcpt-12345678", f"{scratch.PREFIX}of-novels"):
        (temporary / name).mkdir()
        (temporary / name / "shard.arrow").write_bytes(b"whose loss would hurt")
    before = sorted(temporary.rglob("*"))
    with scratch_folder() as mine:
        scratch._remove_abandoned.cache_clear()
        scratch._remove_abandoned()
        assert mine.exists()
    assert sorted(temporary.rglob("*")) == before
