"""Commands load what they use: Beam comes without what the graphs do not need."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from exactcpt.pipeline.beam.loading import UNUSED

LOADED = """
import sys
from exactcpt.pipeline.beam.loading import load_beam
load_beam({})
print(*sorted(name for name in {} if name in sys.modules))
import pandas
"""


def loaded(arguments: str) -> list[str]:
    program = LOADED.format(arguments, UNUSED)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_embedded_runner_needs_none_of_the_libraries_that_beam_would_import() -> None:
    assert loaded("") == []


def test_other_runners_get_all_of_beam() -> None:
    assert {"apache_beam.io.gcp.bigquery", "bson", "pandas", "pymongo"} <= {*loaded("whole=True")}


def test_a_job_on_the_command_line_does_without_pandas(tmp_path: Path, data: Path) -> None:
    program = [Path(sysconfig.get_path("scripts")) / "exactcpt", "prepare"]
    inputs = ["--source", f"poems={data / 'poems.jsonl'}", "--tokenizer", data / "tokenizer.json"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *program, *inputs, "--window", "256", "--out", "out"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not any(module.startswith("pandas.") for module in modules)
    assert any(module.startswith("pyarrow.") for module in modules)
