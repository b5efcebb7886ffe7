"""`make gpu` works before it meets a GPU: no minute of one is lost to a slip of the pen."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "gpu"
SCRIPT = FOLDER / "run.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_script", SCRIPT)
    assert spec and spec.loader
    module = sys.modules["gpu_script"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_script"]


def test_every_file_of_tests_is_a_part(script):
    named = {part.command[-1] for part in script.parts() if part.is_tests}
    assert named == {f"tests/gpu/{path.name}" for path in FOLDER.glob("test_*.py")}


def test_what_is_worth_most_fits_into_the_time(script):
    """The tests and the first figure, even if each takes all that it may."""
    (first, *_) = (n for n, part in enumerate(script.parts()) if part.name.startswith("0.5B"))
    assert sum(part.seconds for part in script.parts()[: first + 1]) <= 9 * 60


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("print('a'); print('{\"torch\": \"9\"}')", "done", "no GPU, torch 9"),
        ("import os; os.abort()", "failed", "FAILED: see log.txt"),
        ("import time; time.sleep(60)", "out of time", "OUT OF TIME: see log.txt"),
        ("print('no JSON')", "failed", "FAILED: see log.txt"),
    ],
)
def test_a_part_takes_nothing_down(script, tmp_path, code, status, said):
    part = script.Part(name="one", command=("-c", code), seconds=9)
    row = script.run(part, 3, tmp_path / "log.txt", on_cpu=True)
    assert row["status"] == status
    assert script.described(row) == said
    assert (tmp_path / "log.txt").read_text().startswith(f"===== one: {status}\n")


def test_a_file_of_tests(script, tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 0\n"
        "def test_none(): pytest.skip('no CUDA device')\n"
    )
    command = (*script.PYTEST, "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path))
    row = script.run(script.Part(name="t", command=command, seconds=60), 60, tmp_path / "log",
                     on_cpu=True)  # fmt: skip
    assert (row["passed"], row["failed"]) == (1, ["test_bad"])
    assert row["skipped"] == {"test_none": "no CUDA device"}
    assert script.described(row) == "FAILED: test_bad; 1 passed"
    row["status"] = "done"
    assert script.described(row) == "1 passed, 1 skipped (no CUDA device)"


def test_the_speed_of_a_row(script):
    row = {"tokens_per_second": 1e5, "mfu": 0.331, "peak_bytes": 3 << 29, "seconds": 0.5}
    row["profile"] = {"products": 0.6, "loss": 0.4}
    found = script.speed_of(row)
    assert found == "100,000 tokens/s, MFU 33.1%, 1.5 GiB, products 300 ms, loss 200 ms"
    assert script.speed_of({"out_of_memory": True}) == "does not fit"


@pytest.mark.slow
def test_a_quick_run(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, (tmp_path / "log.txt").read_text()[-4000:]
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["done"] * 3
    assert json.loads((tmp_path / "gpu.json").read_text()) == {"parts": rows}
    assert rows[1]["passed"] > 20 and not rows[1]["failed"]
    assert "tokens/s" in done.stdout.splitlines()[-1]
