"""Beam is imported without what the graphs do not use, and afterwards all of it can be had."""

import subprocess
import sys

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
    assert {"pandas", "pymongo"} <= set(loaded("whole=True"))
