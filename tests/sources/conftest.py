from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For Hypothesis, whose examples share it."""
    return tmp_path_factory.mktemp("sources")


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://corpus"
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm("/corpus", recursive=True)
