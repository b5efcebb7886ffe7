"""What is forked: a process with everything imported, and without threads."""

import os
from pathlib import Path

__all__ = ["refuse_threads"]

FORKED_ALONG = {"jemalloc_bg_thd"}
"""Threads of libraries that look after them in forks: the allocator that Arrow brings does."""


def refuse_threads() -> None:
    """Checks that a fork of this process would lack nothing: threads do not come along."""
    tasks = Path("/proc/self/task")
    others = [task for task in tasks.iterdir() if task.name != str(os.getpid())]
    lost = {(task / "comm").read_text().strip() for task in others} - FORKED_ALONG
    assert not lost, f"a fork would lack threads: {lost}"
