"""The job `pack`: a token store in, a shard set out."""

from ...schemas.manifest import SHARD_SET, TOKENIZER
from ..beam.runner import RunSettings, run
from ..config import PackConfig
from ..files.storage import Folder
from ..job.folder import Finished, State, begin
from ..job.places import require_space
from ..job.progress import Progress
from ..terminal import Console
from ..tokens.estimate import SHARD_BYTES_PER_TOKEN
from .manifest import OWNED, write_manifest
from .progress import TokensDone, packed_tokens
from .settings import shard_set_settings
from .store_files import refuse_replaced
from .task import PackTask, pack_task, read_store, store_parts
from .tokenizer_copy import read_tokenizer

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
        require_space({out: int(packed_tokens(task) * SHARD_BYTES_PER_TOKEN)})
        out.write(TOKENIZER, read_tokenizer(store, manifest, "token store"))
        _run(task, settings, console)
    return Finished(manifest=write_manifest(task, state, manifest, digest, out), before=False)


def _run(task: PackTask, settings: RunSettings, console: Console) -> None:
    from .graph import pack_graph

    out = Folder(task.out)
    with Progress(console, "pack", TokensDone(out, task)) as progress:
        run(lambda p, crew: pack_graph(p, task, crew), settings, out, progress.poll)
