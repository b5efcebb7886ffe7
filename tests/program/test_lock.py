"""constraints.txt pins what an installation for development takes, and nothing else."""

import re

from distributions import BASE, DEV, REPOSITORY, installed
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = (REPOSITORY / "constraints.txt").read_text("utf-8")


def pins() -> list[Requirement]:
    return [Requirement(line) for line in LOCK.splitlines() if not line.startswith("#")]


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
    assert installed(BASE).keys().isdisjoint({"torch", "transformers", "tensorboard"})
