"""How far packing is, read off the shards that are finished."""

from ...schemas.shard import SPLITS
from ..core.selection import Epochs
from ..files.json_files import read_json
from ..files.storage import Folder
from ..job.folder import JOB
from ..job.progress import Count
from .manifest import read_summaries
from .task import PackTask
from .units import GROUPS

__all__ = ["TokensDone", "WindowsDone", "packed_tokens"]


def packed_tokens(task: PackTask) -> int:
    """Estimates how many tokens the shards will have."""
    if task.token_budget is not None:
        return task.token_budget
    epochs = {name: m.epochs for name, m in task.mixing.items() if isinstance(m, Epochs)}
    return int(sum(part.tokens * epochs.get(part.source, 1) for part in task.parts))


class WindowsDone:
    """Counts the windows of finished shards; reads each summary once."""

    def __init__(self, out: Folder) -> None:
        self._out = out
        self._windows: dict[str, int] = {}

    def __call__(self) -> int:
        """Looks at the folder."""
        for split in SPLITS:
            names = self._out.names(f"{JOB}/{split}")
            new = [name for name in names if name not in self._windows and "/.shard" not in name]
            found = self._out.for_all(new, lambda name: read_json(self._out, name, ("windows",)))
            self._windows |= {name: each["windows"] for name, each in zip(new, found, strict=True)}
        return sum(self._windows.values())


class TokensDone:
    """Counts the tokens of finished shards; the total is exact once all groups are planned."""

    def __init__(self, out: Folder, task: PackTask) -> None:
        self._out, self._task = out, task
        self._planned: int | None = None
        self._windows = WindowsDone(out)

    def __call__(self) -> Count:
        """Looks at the folder."""
        if self._planned is None and self._out.exists(GROUPS):
            plans = read_summaries(self._out, "plans")
            if len(plans) == read_json(self._out, GROUPS, ("groups",))["groups"]:
                splits = [split for plan in plans for split in plan["splits"].values()]
                self._planned = sum(split["windows"] for split in splits)
        window = self._task.settings.window
        done = self._windows() * window
        if self._planned is None:
            return Count(done, max(packed_tokens(self._task), done), about=True)
        return Count(done, self._planned * window)
