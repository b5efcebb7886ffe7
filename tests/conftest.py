"""Fixtures and Hypothesis profiles for all tests."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from small_jobs import settle

from exactcpt.pipeline.job import halt
from exactcpt.schemas import remote

# Torch looks at it when it is imported. In operations as small as those of the tests, threads cost
# more than they do, and pytest itself runs on all cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: on a busy machine an example may be slow without being wrong. Under CI the examples
# are the same in every run, so that a change is never blamed for an example it did not cause.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

REPOSITORY = Path(__file__).parents[1]


def pytest_configure() -> None:
    """What is imported and collected stays: looking for garbage in it takes a tenth of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What tests make is looked through less often than usual: that too takes a tenth."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


def pytest_unconfigure() -> None:
    """Libraries that count what is left of them as the interpreter ends complain otherwise."""
    gc.unfreeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """In the fast lane a module that is slow as a whole is not imported: that takes seconds."""
    if config.getoption("markexpr") != "not slow" or collection_path.suffix != ".py":
        return None
    return "\npytestmark = pytest.mark.slow\n" in collection_path.read_text("utf-8") or None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: else one core would work on the last of them alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before the fixtures of a test, which run jobs too."""
    settle()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to servers, and units whose requests have failed, are tried again at once."""
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(halt, "PAUSES", (0.0, 0.0))


@pytest.fixture(scope="session")
def data() -> Path:
    """The bundled corpus and its tokenizer; see tests/data/README.md."""
    return REPOSITORY / "tests" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Larger corpora and tokenizers: the folder `shared` beside the repository.

    Nobody needs it. Tests that use it are skipped where it is absent, and what they check on
    real text in bulk is checked on the bundled corpus too.
    """
    folder = REPOSITORY.parent / "shared"
    if not (folder / "corpora").is_dir():
        pytest.skip("no folder `shared` beside the repository")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Playwright `Browser`: a Chromium that is installed; without one the tests are skipped."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(autouse=True)
def sigterm_as_before():
    """A training run that was stopped leaves its process deaf to SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
