"""What several files say about the project is the same everywhere."""

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
DOCKERFILES = sorted((REPOSITORY / "docker").glob("*.Dockerfile"))


def text(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def cited(key: str) -> list[str]:
    """The values of a key at the top of CITATION.cff."""
    return re.findall(rf"^{key}: (.*)$", text("CITATION.cff"), re.MULTILINE)


def test_the_citation_is_of_this_version():
    assert cited("version") == [PROJECT["version"]]
    assert cited("license") == [PROJECT["license"]]
    assert cited("title") == [PROJECT["name"]]


def test_the_changelog_has_this_version():
    headings = re.findall(r"^## (.*)$", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    released = [re.fullmatch(r"(\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d", h) for h in headings[1:]]
    assert all(released), headings
    assert PROJECT["version"] in [match[1] for match in released if match]


def test_the_paper_is_the_same_everywhere():
    paper = PROJECT["urls"]["Paper"]
    assert paper in text("README.md")
    assert f"    url: {paper}\n" in text("CITATION.cff")


def copied(dockerfile: Path) -> list[str]:
    """What a Dockerfile copies from the repository."""
    lines = dockerfile.read_text("utf-8").splitlines()
    words = [shlex.split(line)[1:] for line in lines if line.startswith("COPY ")]
    return [name for line in words if not line[0].startswith("--from") for name in line[:-1]]


def sent(name: str, ignored: str) -> bool:
    """Whether Docker gets a file or folder at the top: the last pattern that fits it decides."""
    found = True
    for line in ignored.splitlines():
        if line and not line.startswith("#") and fnmatch(name, line.removeprefix("!")):
            found = line.startswith("!")
    return found


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_docker_gets_what_it_copies(dockerfile):
    names = copied(dockerfile)
    assert {"pyproject.toml", "pipeline", "training", "schemas"} <= set(names)
    for name in names:
        assert (REPOSITORY / name).exists(), name
        assert sent(name, text(".dockerignore")), name


def test_docker_gets_nothing_else():
    needed = {name for dockerfile in DOCKERFILES for name in copied(dockerfile)}
    others = {path.name for path in REPOSITORY.iterdir()} - needed
    assert "tests" in others
    assert [name for name in sorted(others) if sent(name, text(".dockerignore"))] == []


def test_changed_import_paths_are_right():
    """The new names can be imported from; the old ones are gone."""
    table = text("CHANGELOG.md").partition("### Changed import paths")[2].partition("\n## ")[0]
    pairs = re.findall(r"^\| `exactcpt\.([\w.]+)` \| `exactcpt\.([\w.]+)` \|$", table, re.MULTILINE)
    assert len(pairs) > 10
    for before, now in pairs:
        assert not (REPOSITORY / before.replace(".", "/")).with_suffix(".py").exists(), before
        assert (REPOSITORY / now.replace(".", "/")).with_suffix(".py").exists(), now
