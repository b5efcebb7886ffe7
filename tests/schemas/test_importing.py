"""Modules are imported without garbage collection, and can be hidden from a thread's imports."""

import gc
import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from exactcpt.schemas.importing import import_to_stay, unseen


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that says whether garbage was collected while it was imported."""
    (tmp_path / "made_here.py").write_text("import gc\ncollects = gc.isenabled()\n")
    (tmp_path / "breaks.py").write_text("raise ImportError('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "made_here"
    for name in ("made_here", "breaks"):
        sys.modules.pop(name, None)
    gc.unfreeze()


def test_nothing_is_collected_while_a_module_is_imported(module: str) -> None:
    import_to_stay(module)
    assert not sys.modules[module].collects
    assert gc.isenabled()
    assert gc.get_freeze_count()


def test_what_is_imported_already_freezes_nothing(module: str) -> None:
    import_to_stay(module)
    gc.unfreeze()
    import_to_stay(module)
    assert not gc.get_freeze_count()


@pytest.mark.usefixtures("module")
def test_garbage_is_collected_again_after_an_import_that_fails() -> None:
    with pytest.raises(ImportError, match="broken"):
        import_to_stay("breaks")
    assert gc.isenabled()


def test_a_hidden_module_is_as_if_it_were_not_installed(module: str) -> None:
    with unseen([module]), pytest.raises(ModuleNotFoundError, match=f"No module named '{module}'"):
        importlib.import_module(module)
    assert importlib.import_module(module)
    with unseen([module]):
        assert importlib.import_module(module)


def test_other_threads_see_what_is_hidden_from_one(module: str) -> None:
    seen: list[object] = []
    with unseen([module]):
        thread = threading.Thread(target=lambda: seen.append(importlib.import_module(module)))
        thread.start()
        thread.join()
    assert seen


CONVERTS = """
import sys
{}
import pyarrow as pa
print(pa.array([1, None]).to_pylist(), pa.array([1.5]).to_numpy(), "pandas" in sys.modules)
import pandas
print(pa.array([2]).to_pandas().sum(), pa.array(pandas.Series([3])).to_pylist())
"""
KEEPS_OUT = """
from exactcpt.schemas.importing import keep_pandas_out_of_pyarrow
keep_pandas_out_of_pyarrow()
"""


@pytest.mark.parametrize(("before", "loaded"), [(KEEPS_OUT, False), ("", True)])
def test_pyarrow_converts_without_pandas_if_it_is_told_to(before: str, loaded: bool) -> None:
    program = [sys.executable, "-c", CONVERTS.format(before)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"[1, None] [1.5] {loaded}", "2 [3]"]
