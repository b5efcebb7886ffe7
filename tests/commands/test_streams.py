import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import SCRIPT, done, small

from exactcpt.pipeline.commands.streams import PatientFile


def test_what_nobody_reads_is_dropped():
    reads, writes = os.pipe()
    stream = io.TextIOWrapper(io.BufferedWriter(PatientFile(writes, "there")), line_buffering=True)
    stream.write("one\n")
    assert os.read(reads, 9) == b"one\n"
    os.close(reads)
    for _ in range(3):
        stream.write("nobody reads this\n" * 9000)
        stream.flush()
    os.close(writes)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_that_names_the_stream():
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left") as caught:
        PatientFile(full, "standard output").write(b"some")
    os.close(full)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "standard output")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set in which verify finds something."""
    folder = tmp_path_factory.mktemp("streams")
    flags = [*small(folder, ["some words"] * 9), "--window", 16]
    done("prepare", *flags, "--out", folder / "out", "--discard-store")
    shard = next((folder / "out/train").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    return folder / "out"


def ended(*arguments: Any, closed: int | None = None, **how: Any) -> tuple[int, str, str]:
    process = subprocess.run(
        [SCRIPT, *map(str, arguments)],
        preexec_fn=None if closed is None else lambda: os.close(closed),
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | how),
    )
    return process.returncode, process.stdout or "", process.stderr or ""


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_changes_no_exit_code(damaged, closed):
    code, out, err = ended("verify", damaged, "--json", closed=closed)
    assert code == 1
    assert "Traceback" not in err
    assert closed == 1 or json.loads(out)["ok"] is False


def test_a_reader_that_leaves_changes_no_exit_code(damaged):
    reads, writes = os.pipe()
    os.close(reads)
    code, _, err = ended("verify", damaged, "--json", stdout=writes)
    os.close(writes)
    assert code == 1
    assert "Traceback" not in err and "error" not in err


def test_help_that_nobody_reads_is_no_error():
    assert ended("--help", closed=1) == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_what_cannot_be_printed_is_a_plain_error():
    with Path("/dev/full").open("wb") as full:
        code, _, err = ended("--help", stdout=full)
    assert code == 1
    assert err.endswith(
        "error: reading or writing failed: No space left on device\n"
        "  where:    standard output\n"
        "  fix:      make room there, and run the same command again\n"
    )


def test_the_descriptor_of_a_closed_stream_is_not_given_to_a_file():
    code = (
        "import os; from exactcpt.pipeline.commands.streams import settle_streams;"
        "settle_streams(); print(1); file = os.open(__file__ if 0 else '/', 0);"
        "os._exit(0 if file > 2 else 7)"
    )
    for closed in (0, 1, 2):
        process = subprocess.run(
            [sys.executable, "-c", code],
            preexec_fn=lambda closed=closed: os.close(closed),
            capture_output=closed == 0,
        )
        assert process.returncode == 0
