"""constraints.txt pins what an installation for development takes, and nothing else."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
LOCK = (REPOSITORY / "constraints.txt").read_text("utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]

DEV = f"{PROJECT['name']}[dev]"
UNPINNED = re.compile(r"cuda|nvidia|triton")
"""What PyTorch pins itself, in the builds that need it."""


def pins() -> list[Requirement]:
    return [Requirement(line) for line in LOCK.splitlines() if not line.startswith("#")]


def requirements(name: str, extras: frozenset[str]) -> list[Requirement]:
    """What a package and its extras ask for in this environment."""
    if name == PROJECT["name"]:
        optional = PROJECT["optional-dependencies"]
        lines = [*PROJECT["dependencies"], *(line for e in extras for line in optional[e])]
    else:
        lines = importlib.metadata.requires(name) or []
    asked = map(Requirement, lines)
    return [
        one
        for one in asked
        if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in {"", *extras})
    ]


def installed(what: str) -> dict[str, list[Requirement]]:
    """Every package that an installation takes here, and how it is asked for."""
    found: dict[str, list[Requirement]] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    left = [Requirement(what)]
    while left:
        asked = left.pop()
        name = canonicalize_name(asked.name)
        key = name, frozenset(asked.extras)
        if UNPINNED.match(name) or key in seen:
            continue
        seen.add(key)
        left += requirements(*key)
        for one in requirements(*key):
            found.setdefault(canonicalize_name(one.name), []).append(one)
    return {n: r for n, r in found.items() if n != PROJECT["name"] and not UNPINNED.match(n)}


def test_what_is_installed_is_pinned_and_nothing_else():
    here = {canonicalize_name(p.name) for p in pins() if p.marker is None or p.marker.evaluate()}
    needed = installed(DEV).keys()
    assert needed - here == set(), "make lock"
    assert here - needed == set(), "make lock"


def test_pins_are_what_was_asked_for():
    for name, asked in installed(DEV).items():
        (version,) = (
            next(iter(p.specifier)).version
            for p in pins()
            if canonicalize_name(p.name) == name and (p.marker is None or p.marker.evaluate())
        )
        for one in asked:
            assert one.specifier.contains(version, prereleases=True), f"{name} {version}: {one}"


def test_pins_are_versions_of_an_index():
    """No host, no path, no local build."""
    pin = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; [\w '<>=!.]+)?")
    assert [line for line in LOCK.splitlines()[2:] if not pin.fullmatch(line)] == []


def test_the_program_needs_no_torch():
    assert installed(PROJECT["name"]).keys().isdisjoint({"torch", "transformers", "tensorboard"})
