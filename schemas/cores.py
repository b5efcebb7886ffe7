"""How many cores this process may use: fewer than the machine has if somebody has set a limit."""

import os
from contextlib import suppress
from math import ceil
from pathlib import Path

__all__ = ["usable_cores"]

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What a container may use: microseconds of processor time, or "max", in a period of so many."""


def usable_cores() -> int:
    """The cores that the process is bound to, up to what its container may use; at least one."""
    bound = getattr(os, "sched_getaffinity", None)  # on Linux
    cores = len(bound(0)) if bound is not None else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = CGROUP_QUOTA.read_text().split()
        cores = min(cores, ceil(int(quota) / int(period)))
    return max(1, cores)
