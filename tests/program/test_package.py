"""What is published: a whole wheel, a whole source archive, a README that stands alone."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from harness import DATA
from markdown_it import MarkdownIt

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("pipeline", "schemas", "training")
# For people in a checkout, not for the program.
LEFT_OUT = {"training/recipes"}

RELEASE = "https://example.org/owner/name"
absolute = runpy.run_path(str(REPOSITORY / ".github" / "absolute_links.py"))["absolute"]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, Path]:
    """The wheel and the source archive, by suffix, made as a release makes them."""
    at = tmp_path_factory.mktemp("published")
    for room in ROOMS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / room, at / room, ignore=ignore)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, at)
    page = at / "README.md"
    page.write_text(absolute(page.read_text("utf-8"), RELEASE, "v1"), "utf-8")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."],
        cwd=at, check=True, capture_output=True,
    )  # fmt: skip
    return {path.suffix: path for path in (at / "dist").iterdir()}


def files() -> set[str]:
    """The files of the rooms, by their place in the repository."""
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ROOMS
        for path in (REPOSITORY / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return {name for name in found if str(Path(name).parent) not in LEFT_OUT}


def test_the_source_archive_is_whole(published):
    with tarfile.open(published[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files() - names == set()
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_the_wheel_is_whole(published):
    with zipfile.ZipFile(published[".whl"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    own = {name.removeprefix("pipeline/") for name in files() if "pipeline/exactcpt/" in name}
    others = {f"exactcpt/{name}" for name in files() if "pipeline/exactcpt/" not in name}
    assert names == own | others


def test_an_index_takes_them(published):
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *published.values()],
        capture_output=True, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("PASSED") == 2


def test_the_wheel_works(published, tmp_path):
    with zipfile.ZipFile(published[".whl"]) as wheel:
        wheel.extractall(tmp_path / "site")
    program = (
        "import sys, exactcpt.pipeline.cli as program; print(program.__file__); program.main()"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    prepare = ["prepare", "--source", f"poems={DATA / 'poems.jsonl'}", "--window", "256"]
    for arguments in (
        [*prepare, "--tokenizer", DATA / "tokenizer.json", "--out", "shards"],
        ["verify", "shards"],
        ["inspect", "shards", "--html", "page.html"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(tmp_path / "site")), done.stdout
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_the_readme_stands_alone():
    """Every link and every picture has an address of its own, and those of the repository exist."""
    page = absolute((REPOSITORY / "README.md").read_text("utf-8"), RELEASE, "v1")
    html = MarkdownIt("commonmark").enable("table").render(page)
    targets = re.findall(r'(?:src|href)="([^"]+)"', html)
    kinds = {"raw": 0, "blob": 0}
    for target in targets:
        if target.startswith("#"):
            continue
        assert target.startswith("https://"), target
        if target.startswith(RELEASE):
            kind, tag, path = target.removeprefix(f"{RELEASE}/").split("/", 2)
            assert tag == "v1"
            assert (REPOSITORY / path.partition("#")[0]).exists(), target
            kinds[kind] += 1
    assert kinds["raw"] >= 3
    assert kinds["blob"] >= 15


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[a](docs/a.md#b)", f"[a]({RELEASE}/blob/v1/docs/a.md#b)"),
        ("![a, (b)](a.svg)", f"![a, (b)]({RELEASE}/raw/v1/a.svg)"),
        ("[a](#b) [c](https://d) [e](mailto:f)", "[a](#b) [c](https://d) [e](mailto:f)"),
        ("[![a](b.svg)](c.md)", f"[![a]({RELEASE}/raw/v1/b.svg)]({RELEASE}/blob/v1/c.md)"),
    ],
)
def test_links_become_absolute(before, after):
    assert absolute(before, RELEASE, "v1") == after
