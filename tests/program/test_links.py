"""Every link between the pages leads to a file or heading that is there; named paths exist."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        REPOSITORY / "schemas" / "README.md",
        *(REPOSITORY / "tests").rglob("README.md"),
    ]
)


def without_code(text: str) -> str:
    """The text without fenced, indented and inline code."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(?:(?<=\n\n)|\A)(?:    .*\n|\n)+", "\n", text)
    return re.sub(r"`[^`\n]*`", "``", text)


def links(text: str) -> list[str]:
    """The targets of links and pictures, in order."""
    return re.findall(r"\]\(([^()\s]+)\)", without_code(text))


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings."""
    fenced = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#{1,6} (.*)$", fenced, re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", h.strip().lower()).replace(" ", "-") for h in headings]
    seen: Counter[str] = Counter()
    found = set()
    for slug in slugs:
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def anchors_of(file: Path) -> set[str]:
    return anchors(file.read_text("utf-8")) if file.suffix == ".md" else set()


def broken(page: Path, root: Path) -> Iterator[str]:
    """The links of a page that lead nowhere, or out of the repository."""
    for target in links(page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page.resolve()
        inside = file.exists() and file.is_relative_to(root.resolve())
        if not inside or (anchor and anchor not in anchors_of(file)):
            yield target


def test_the_pages_are_found():
    names = {str(page.relative_to(REPOSITORY)) for page in PAGES}
    assert {
        "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/README.md",
        "docs/decisions/README.md", "schemas/README.md", "tests/data/README.md",
    } <= names  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_link_is_broken(page):
    assert list(broken(page, REPOSITORY)) == []


def named_paths(text: str) -> list[str]:
    """Files and folders of the repository that a page names as code."""
    return re.findall(r"`((?:docker|docs|pipeline|schemas|tests|training)/[\w./-]*)`", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_named_paths_exist(page):
    named = named_paths(page.read_text("utf-8"))
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def test_named_paths_are_found():
    text = "see `pipeline/core/` and `tests/gone.py`, `shards/train/`, `exactcpt pack`"
    assert named_paths(text) == ["pipeline/core/", "tests/gone.py"]


def test_the_map_has_every_room():
    folders = {
        f"{path.parent.relative_to(REPOSITORY)}/"
        for half in ("pipeline", "training")
        for path in (REPOSITORY / half).glob("*/__init__.py")
    }
    for page in ("README.md", "CONTRIBUTING.md"):
        assert folders <= set(named_paths((REPOSITORY / page).read_text("utf-8"))), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_page_is_led_to(page):
    """From the README, in any number of steps."""
    reached, waiting = set(), [REPOSITORY / "README.md"]
    while waiting:
        at = waiting.pop()
        if at in reached or at.suffix != ".md":
            continue
        reached.add(at)
        paths = [target.partition("#")[0] for target in links(at.read_text("utf-8"))]
        waiting += [(at.parent / p).resolve() for p in paths if not p.startswith("https://")]
    assert page in reached


def test_broken_links_are_found(tmp_path):
    (tmp_path / "other.md").write_text("# A heading, `twice`\n\n# A heading, `twice`\n\n## x_y-z\n")
    (tmp_path / "picture.svg").write_text("")
    page = tmp_path / "page.md"
    good = [
        "other.md", "other.md#a-heading-twice", "other.md#a-heading-twice-1", "other.md#x_y-z",
        "#here", "picture.svg", "https://example.org/x#y",
    ]  # fmt: skip
    bad = [
        "gone.md", "gone/", "other.md#a-heading", "other.md#a-heading-twice-2", "#there",
        "picture.svg#x", "../", "http://example.org",
    ]  # fmt: skip
    page.write_text("# Here\n\n" + "\n".join(f"[a `b` c]({target})" for target in [*good, *bad]))
    assert list(broken(page, tmp_path)) == bad
    code = "```sh\n[a](gone.md)\n```\n\n    [a](gone.md)\n\n`[a](gone.md)` and ![b](gone.svg)\n"
    page.write_text(code)
    assert list(broken(page, tmp_path)) == ["gone.svg"]
