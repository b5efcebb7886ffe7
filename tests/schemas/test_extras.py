"""The advice on what to install fits the way in which exactcpt was installed."""

import json
import shlex
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from exactcpt.schemas import extras
from exactcpt.schemas.extras import install_line

COMMIT = "5a0b1c"
CASES = [
    (None, "pip install 'exactcpt[train]'"),
    (
        {"url": "file:///src/exactcpt", "dir_info": {"editable": True}},
        "pip install -e '/src/exactcpt[train]'",
    ),
    ({"url": "file:///src/exactcpt", "dir_info": {}}, "pip install '/src/exactcpt[train]'"),
    (
        {"url": "file:///my%20src/it%27s", "dir_info": {}},
        """pip install '/my src/it'"'"'s[train]'""",
    ),
    (
        {"url": "file:///dist/exactcpt-1-py3-none-any.whl", "archive_info": {}},
        "pip install '/dist/exactcpt-1-py3-none-any.whl[train]'",
    ),
    (
        {"url": "https://example.org/exactcpt.whl", "archive_info": {}},
        "pip install 'exactcpt[train] @ https://example.org/exactcpt.whl'",
    ),
    (
        {
            "url": "https://example.org/exactcpt.git",
            "vcs_info": {"vcs": "git", "commit_id": COMMIT},
        },
        f"pip install 'exactcpt[train] @ git+https://example.org/exactcpt.git@{COMMIT}'",
    ),
]


@pytest.mark.parametrize(("origin", "line"), CASES)
def test_the_line(monkeypatch, tmp_path, origin, line):
    """What building leaves beside the code has no note, and stands before what is installed."""
    for name in ("built", "installed"):
        (tmp_path / name).mkdir()
    if origin is not None:
        (tmp_path / "installed" / "direct_url.json").write_text(json.dumps(origin))
    found = [PathDistribution(tmp_path / name) for name in ("built", "installed")]
    monkeypatch.setattr(extras, "distributions", lambda name: found)
    assert install_line("train") == line


def test_code_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(extras, "distributions", lambda name: [])
    assert install_line("train") == "pip install 'exactcpt[train]'"


def test_this_installation():
    """Whatever it is: a folder or a file that is named is there."""
    what = shlex.split(install_line("train"))[-1]
    name, _, source = what.partition("[train]")
    assert name == "exactcpt" or (Path(name).exists() and source == "")
