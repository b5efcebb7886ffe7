"""What an installation of the project takes, worked out from what every package asks for."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]

BASE = PROJECT["name"]
DEV = f"{PROJECT['name']}[dev]"
UNPINNED = re.compile(r"cuda|nvidia|triton")
"""What PyTorch pins itself, in the builds that need it."""


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


def modules_beyond(what: str) -> Iterator[str]:
    """Yields the top-level modules that development has, and an installation of `what` lacks."""
    lacking = installed(DEV).keys() - installed(what).keys()
    for module, packages in importlib.metadata.packages_distributions().items():
        if {canonicalize_name(package) for package in packages} <= lacking:
            yield module
