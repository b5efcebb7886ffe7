"""The job `tokenize`: corpora in, a token store out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from ...schemas import store as names
from ...schemas.errors import BackendDifferenceError, ExactcptError
from ...schemas.manifest import TOKEN_STORE
from ..beam.runner import RunSettings, run
from ..config import PackConfig
from ..core.choices import Backend
from ..files.storage import Folder
from ..job.folder import JOB, Finished, begin, locked
from ..job.halt import clear_halt
from ..job.progress import Count, Progress
from ..sources.splits import Split, make_splits
from ..terminal import Console
from .encoders import Encoder, UnsupportedTokenizerError, borrow_encoder
from .manifest import bad_files, refuse_left_out, write_manifest
from .parity import compare_backends, torture_set
from .parts import BACKEND, TokenizeTask
from .plan import TokenizePlan
from .probe import Estimate, Probe, estimate, look_at
from .units import scan_tasks

__all__ = ["OWNED", "estimate_job", "tokenize"]

OWNED = ("tokenizer.json", "parts", "rejected")
TOKENIZER = "tokenizer.json"


def estimate_job(
    plan: TokenizePlan, packing: PackConfig | None
) -> tuple[Estimate, dict[str, Probe]]:
    """Looks at every source and extrapolates to the token store, and to shards packed so."""
    probes = probe_sources(plan)
    with _fast_encoder(plan) as (encoder, _):
        found = estimate(
            probes,
            plan.files,
            encoder,
            plan.fields,
            {s.name: s.epochs for s in plan.config.sources if s.epochs is not None},
            packing.window if packing else None,
            packing.token_budget if packing else None,
        )
    return found, probes


def probe_sources(plan: TokenizePlan) -> dict[str, Probe]:
    """A look at the beginning of every source.

    Raises:
        ExactcptError: a source has no documents with the field that is to be read.
    """
    skip = plan.config.on_bad_file == "skip"
    return {
        name: look_at(name, files, plan.fields[name], skip_bad_files=skip)
        for name, files in plan.files.items()
    }


@contextmanager
def _fast_encoder(plan: TokenizePlan) -> Iterator[tuple[Encoder, str | None]]:
    """gigatoken if it takes the tokenizer; else the reference, and why."""
    where = plan.tokenizer.where
    with ExitStack() as stack:
        try:
            yield stack.enter_context(borrow_encoder(plan.spec(where, "gigatoken"))), None
        except UnsupportedTokenizerError as error:
            problem = f"gigatoken does not support this tokenizer: {error}"
            yield stack.enter_context(borrow_encoder(plan.spec(where, "tokenizers"))), problem


def choose_backend(plan: TokenizePlan, probes: Mapping[str, Probe]) -> tuple[Backend, str | None]:
    """The backend that all documents are encoded with, and why it is not gigatoken.

    Raises:
        ExactcptError: gigatoken was asked for and differs or does not support the tokenizer.
    """
    wanted = plan.config.tokenizer_backend
    if wanted == "tokenizers":
        return "tokenizers", None
    texts = [torture_set(plan.tokenizer.special_tokens())]
    texts += [p.documents for name, p in probes.items() if plan.fields[name].tokens is None]
    reference = plan.spec(plan.tokenizer.where, "tokenizers")
    with _fast_encoder(plan) as (encoder, problem), borrow_encoder(reference) as other:
        try:
            for some in texts if problem is None else ():
                compare_backends(encoder, other, some)
        except BackendDifferenceError as error:
            problem = f"gigatoken and tokenizers encode a text differently: {error}"
    if problem is not None and wanted == "gigatoken":
        raise ExactcptError(problem, fix="use --tokenizer-backend auto or tokenizers")
    return ("gigatoken", None) if problem is None else ("tokenizers", problem)


def tokenize(
    plan: TokenizePlan,
    store: Folder,
    settings: RunSettings,
    console: Console,
    *,
    overwrite: bool,
    probes: Mapping[str, Probe],
) -> Finished:
    """Runs the job.

    Args:
        plan: what to do.
        store: where the token store is written.
        settings: where the graph runs.
        console: for messages and progress.
        overwrite: whether a store of other settings is replaced.
        probes: the beginnings of the sources.

    Returns:
        The token store.

    Raises:
        ExactcptError: that job has left out more than is allowed now.
    """
    with locked(store):
        if begin(store, plan.state, OWNED, overwrite=overwrite):
            finished = Finished.found_in(store, TOKEN_STORE)
            refuse_left_out(finished.manifest, plan.config, store)
            return finished
        if plan.config.on_bad_file == "fail":
            store.remove_tree(f"{JOB}/bad")  # of a run that was to leave such files out
        store.write(TOKENIZER, plan.tokenizer.json)
        backend, fallback = _decide_backend(store, plan, probes, console)
        try:
            _run_to_end(plan, store, settings, console, backend)
        except BackendDifferenceError as error:
            if plan.config.tokenizer_backend == "gigatoken":
                raise ExactcptError(
                    f"gigatoken and tokenizers encode a text differently: {error}",
                    fix="use --tokenizer-backend auto or tokenizers",
                ) from None
            fallback = "gigatoken and tokenizers encoded a document differently"
            console.warn(f"{fallback} ({error}); starting again with tokenizers")
            _start_again(store, fallback)
            _run_to_end(plan, store, settings, console, "tokenizers")
            backend = "tokenizers"
        manifest = write_manifest(plan, store, backend, fallback)
        return Finished(manifest=manifest, before=False)


def _decide_backend(
    store: Folder, plan: TokenizePlan, probes: Mapping[str, Probe], console: Console
) -> tuple[Backend, str | None]:
    """The decision is kept: a store has documents of one backend only."""
    if store.exists(BACKEND):
        kept = json.loads(store.read(BACKEND))
        return kept["used"], kept["fallback"]
    backend, fallback = choose_backend(plan, probes)
    if fallback:
        console.warn(f"{fallback}; using tokenizers")
    store.write(BACKEND, json.dumps({"used": backend, "fallback": fallback}).encode())
    return backend, fallback


def _start_again(store: Folder, fallback: str) -> None:
    """The decision goes first: parts of the other backend must never count again."""
    store.write(BACKEND, json.dumps({"used": "tokenizers", "fallback": fallback}).encode())
    store.remove_tree("parts")
    store.remove_tree("rejected")
    clear_halt(store)


def _run_to_end(
    plan: TokenizePlan, store: Folder, settings: RunSettings, console: Console, backend: Backend
) -> None:
    """Runs the graph until every file that can be read is in the store."""
    from .graph import tokenize_graph

    task = TokenizeTask(
        store=store.url,
        tokenizer=plan.spec(store.url_of(TOKENIZER), backend),
        check=backend == "gigatoken",
        fields=plan.fields,
        min_tokens=plan.config.min_tokens,
        split_bytes=plan.config.split_bytes,
        skip_bad_files=plan.config.on_bad_file == "skip",
    )
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
        with Progress(console, "tokenize", _Look(store, len(splits))) as progress:

            def build(p: Any, lanes: int | None, splits: Sequence[Split] = splits) -> None:
                tokenize_graph(p, task, scans, splits, lanes)

            run(build, settings, store, progress.poll)


def _without(splits: Sequence[Split], bad: Mapping[str, str]) -> list[Split]:
    """The splits less the bad files; ordinals stay."""
    kept = [
        replace(s, members=tuple(m for m in s.members if m.file.url not in bad)) for s in splits
    ]
    return [split for split in kept if split.members]


def _forget_outdated(store: Folder, splits: Sequence[Split]) -> None:
    """Removes what was written of splits that have lost a file since, summaries first."""
    members = {f"{split.ordinal:06d}": len(split.members) for split in splits}
    for name in store.names("parts"):
        ordinal = name.rpartition("/")[2].removesuffix(".json")
        if not name.endswith(".json"):
            continue
        if json.loads(store.read(name))["members"] != members.get(ordinal.partition("-")[0], 0):
            store.remove(name)
            for of in (names.part_name, names.index_name, names.rejected_name):
                store.remove(of(ordinal))


class _Look:
    """Counts the splits that are done; each summary is read once."""

    def __init__(self, store: Folder, total: int) -> None:
        self._store, self._total = store, total
        self._seen: dict[str, tuple[bool, int]] = {}

    def __call__(self) -> Count:
        for name in self._store.names("parts"):
            if name.endswith(".json") and name not in self._seen and "/." not in name:
                summary = json.loads(self._store.read(name))
                self._seen[name] = (summary["last"], summary["tokens"])
        done = sum(last for last, _ in self._seen.values())
        return Count("split", done, self._total, sum(tokens for _, tokens in self._seen.values()))
