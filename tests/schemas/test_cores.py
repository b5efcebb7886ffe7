"""How many cores a process may use: bound to some, in a container, on a system that binds none."""

import os

import pytest

from exactcpt.schemas import cores
from exactcpt.schemas.cores import usable_cores


@pytest.fixture
def quota(tmp_path, monkeypatch):
    """Eight cores, and a file with what the container may use, which is not there at first."""
    path = tmp_path / "cpu.max"
    monkeypatch.setattr(cores, "CGROUP_QUOTA", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, 8),
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("20000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("damaged", 8),
    ],
)
def test_a_container_may_use_fewer(quota, text, found):
    if text is not None:
        quota.write_text(text)
    assert usable_cores() == found


def test_a_system_that_binds_no_process_to_cores(quota, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_this_process():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
