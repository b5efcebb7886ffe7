"""The job `tokenize`: corpora in, a token store out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...schemas import store as store_format
from ...schemas.errors import BackendDifferenceError, ExactcptError
from ...schemas.manifest import TOKEN_STORE, TOKENIZER
from ..beam.runner import RunSettings, run
from ..core.choices import Backend
from ..files.storage import Folder
from ..job.folder import JOB, Finished, begin, locked
from ..job.progress import Progress
from ..sources.splits import Split, make_splits
from ..terminal import Console
from .backend import choose_backend, keep_choice, kept_choice
from .builder import read_summary
from .inputs import state_as_begun
from .manifest import OWNED, bad_files, refuse_left_out, write_manifest
from .plan import TokenizePlan
from .probe import Probe
from .progress import TokensDone
from .task import tokenize_task
from .units import scan_tasks

__all__ = ["tokenize"]


def tokenize(
    plan: TokenizePlan,
    store: Folder,
    settings: RunSettings,
    console: Console,
    *,
    overwrite: bool,
    probes: Mapping[str, Probe],
    expected: int | None,
) -> Finished:
    """Runs the job.

    Args:
        plan: what to tokenize.
        store: where the token store is written.
        settings: where the graph runs.
        console: for messages and progress.
        overwrite: whether a store of other settings is replaced.
        probes: the beginning of every source.
        expected: how many tokens the store will have, roughly; None if nobody knows.

    Returns:
        The token store.

    Raises:
        ExactcptError: that job left out more than is allowed now, or this one cannot finish.
    """
    with locked(store):
        state = plan.state if overwrite else state_as_begun(plan, store, console.say)
        if begin(store, state, OWNED, overwrite=overwrite):
            finished = Finished.found_in(store, TOKEN_STORE)
            refuse_left_out(finished.manifest, plan.config, store)
            return finished
        if plan.config.on_bad_file == "fail":
            store.remove_tree(f"{JOB}/bad")  # from a run that left bad files out
        store.write(TOKENIZER, plan.tokenizer.json)
        backend, fallback = _decide_backend(store, plan, probes, console)
        try:
            _run_to_end(plan, store, settings, console, backend, expected)
        except BackendDifferenceError as error:
            if plan.config.tokenizer_backend == "gigatoken":
                raise ExactcptError(
                    f"gigatoken and tokenizers encode a text differently: {error}",
                    fix="use --tokenizer-backend auto or tokenizers",
                ) from None
            fallback = "gigatoken and tokenizers encoded a document differently"
            console.warn(f"{fallback} ({error}); starting again with tokenizers")
            _start_again(store, fallback)
            _run_to_end(plan, store, settings, console, "tokenizers", expected)
            backend = "tokenizers"
        manifest = write_manifest(plan, store, backend, fallback)
        return Finished(manifest=manifest, before=False)


def _decide_backend(
    store: Folder, plan: TokenizePlan, probes: Mapping[str, Probe], console: Console
) -> tuple[Backend, str | None]:
    """The choice that the store has kept, or else a new one, which it then keeps."""
    kept = kept_choice(store)
    if kept is not None:
        return kept
    backend, fallback = choose_backend(plan, probes)
    if fallback:
        console.warn(f"{fallback}; using tokenizers")
    keep_choice(store, backend, fallback)
    return backend, fallback


def _start_again(store: Folder, fallback: str) -> None:
    """Removes all parts. The new choice is kept first: the old parts must never count again."""
    keep_choice(store, "tokenizers", fallback)
    store.remove_tree("parts")
    store.remove_tree("rejected")


def _run_to_end(
    plan: TokenizePlan,
    store: Folder,
    settings: RunSettings,
    console: Console,
    backend: Backend,
    expected: int | None,
) -> None:
    """Runs the graph until the store has every file that can be read."""
    from .graph import tokenize_graph

    task = tokenize_task(plan, store, backend)
    everything = make_splits(
        [file for files in plan.files.values() for file in files], plan.config.split_bytes
    )
    scans = scan_tasks(everything)
    known: dict[str, str] | None = None
    while (bad := bad_files(store)) != known:
        for url in sorted(set(bad) - set(known or ())):
            console.warn(f"left out: {url}: {bad[url]}")
        known = bad
        splits = _without(everything, bad)
        _forget_outdated(store, splits)
        with Progress(console, "tokenize", TokensDone(store, splits, expected)) as progress:

            def build(p: Any, crew: Any, splits: Sequence[Split] = splits) -> None:
                tokenize_graph(p, task, scans, splits, crew)

            run(build, settings, store, progress.poll)


def _without(splits: Sequence[Split], bad: Mapping[str, str]) -> list[Split]:
    """The splits without the bad files; ordinals stay."""
    kept = [
        replace(s, members=tuple(m for m in s.members if m.file.url not in bad)) for s in splits
    ]
    return [split for split in kept if split.members]


def _forget_outdated(store: Folder, splits: Sequence[Split]) -> None:
    """Removes the parts of splits that have since lost a bad file, summaries first."""
    members = {f"{split.ordinal:06d}": len(split.members) for split in splits}
    names = [name for name in store.names("parts") if name.endswith(".json")]
    summaries = store.for_all(names, lambda name: read_summary(store, name))
    for name, summary in zip(names, summaries, strict=True):
        ordinal = name.rpartition("/")[2].removesuffix(".json")
        if summary["members"] != members.get(ordinal.partition("-")[0], 0):
            store.remove(name)
            for of in (store_format.part_name, store_format.index_name, store_format.rejected_name):
                store.remove(of(ordinal))
