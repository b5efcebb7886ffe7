"""The job `pack`: a token store in, a shard set out."""

from ...schemas.manifest import SHARD_SET, TOKENIZER
from ...schemas.shard import SPLITS
from ..beam.runner import RunSettings, run
from ..config import PackConfig
from ..core.selection import Epochs
from ..files.json_files import read_json
from ..files.storage import Folder
from ..job.folder import JOB, Finished, State, begin
from ..job.places import require_space
from ..job.progress import Count, Progress
from ..terminal import Console
from ..tokens.estimate import SHARD_BYTES_PER_TOKEN
from .manifest import OWNED, read_summaries, write_manifest
from .settings import shard_set_settings
from .store_files import refuse_replaced
from .task import PackTask, pack_task, read_store, store_parts
from .tokenizer_copy import read_tokenizer
from .units import GROUPS, number_shards

__all__ = ["pack"]


def pack(
    config: PackConfig,
    store: Folder,
    out: Folder,
    settings: RunSettings,
    console: Console,
    *,
    overwrite: bool,
) -> Finished:
    """Runs the job.

    Args:
        config: the settings.
        store: a finished token store.
        out: where the shard set is written; must be locked.
        settings: where the graph runs.
        console: for messages and progress.
        overwrite: whether a shard set of other settings is replaced.

    Returns:
        The shard set.

    Raises:
        IncompleteError: the store is not finished.
        FormatError: a file of the store is damaged.
        ExactcptError: the store has been replaced meanwhile, or a work unit failed.
    """
    manifest, digest = read_store(store)
    sources = [source["name"] for source in manifest["sources"]]
    state = State(
        settings=shard_set_settings(config, sources, manifest["settings"]),
        inputs={"token store": digest},
    )
    if begin(out, state, OWNED, overwrite=overwrite):
        return Finished.found_in(out, SHARD_SET)
    with refuse_replaced(store, digest):
        parts = store_parts(manifest, store)
        task = pack_task(config, manifest, parts, store, out)
        require_space({out: int(_packed_tokens(task) * SHARD_BYTES_PER_TOKEN)})
        out.write(TOKENIZER, read_tokenizer(store, manifest, "token store"))
        _run(task, settings, console)
    return Finished(manifest=write_manifest(task, state, manifest, digest, out), before=False)


def _packed_tokens(task: PackTask) -> int:
    """Estimates how many tokens the shards will have."""
    if task.token_budget is not None:
        return task.token_budget
    epochs = {name: m.epochs for name, m in task.mixing.items() if isinstance(m, Epochs)}
    return int(sum(part.tokens * epochs.get(part.source, 1) for part in task.parts))


def _run(task: PackTask, settings: RunSettings, console: Console) -> None:
    from .graph import pack_graph

    out = Folder(task.out)
    with Progress(console, "pack", _ShardsDone(out, task)) as progress:
        run(lambda p, lanes: pack_graph(p, task, lanes), settings, out, progress.poll)


class _ShardsDone:
    """Counts finished shards; the total is known once all groups are planned."""

    def __init__(self, out: Folder, task: PackTask) -> None:
        self._out, self._task = out, task
        self._total: int | None = None
        self._windows: dict[str, int] = {}

    def __call__(self) -> Count:
        if self._total is None and self._out.exists(GROUPS):
            planned = read_summaries(self._out, "plans")
            if len(planned) == read_json(self._out, GROUPS, ("groups",))["groups"]:
                self._total = len(number_shards(planned, self._task, None))
        for split in SPLITS:
            names = self._out.names(f"{JOB}/{split}")
            new = [name for name in names if name not in self._windows and "/.shard" not in name]
            found = self._out.for_all(new, lambda name: read_json(self._out, name, ("windows",)))
            self._windows |= {name: each["windows"] for name, each in zip(new, found, strict=True)}
        tokens = sum(self._windows.values()) * self._task.settings.window
        return Count("shard", len(self._windows), self._total, tokens)
