"""The job `tokenize`: corpora in, a token store out."""

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, cast

from ..schemas import store as names
from ..schemas.errors import ExactcptError
from ..schemas.manifest import MANIFEST, TOKEN_STORE, Input, Manifest, Part, Read, dump, parse
from .config import PackConfig, SourceConfig, TokenizeConfig
from .halt import clear_halt
from .job import JOB, State, begin, locked
from .jsonl import Fields
from .probe import Estimate, Probe, estimate, look_at
from .progress import Console, Count, Progress
from .runner import RunSettings, run
from .sources import InputFile, Source, Split, find_files, identity, make_splits
from .storage import Folder
from .store import BACKEND, TokenizeTask
from .tokenization import (
    Backend,
    BackendDifferenceError,
    Encoder,
    TokenizerFile,
    TokenizerSpec,
    UnsupportedTokenizerError,
    borrow_encoder,
    compare_backends,
    load_tokenizer,
    torture_set,
)
from .tokenize_units import scan_tasks

__all__ = [
    "OWNED",
    "TokenizePlan",
    "estimate_job",
    "plan_tokenize",
    "refuse_left_out",
    "tokenize",
]

OWNED = ("tokenizer.json", "parts", "rejected")
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class TokenizePlan:
    """Everything that is known before any work is done.

    Attributes:
        config: the configuration.
        tokenizer: the tokenizer's files.
        bos_id, eos_id, pad_id, largest_id: its special ids, and the largest one.
        eos_token: what ends a document, as text.
        files: by source.
        fields: by source.
        warnings: what a person should know.
    """

    config: TokenizeConfig
    tokenizer: TokenizerFile
    bos_id: int | None
    eos_id: int
    eos_token: str
    pad_id: int
    largest_id: int
    files: Mapping[str, Sequence[InputFile]]
    fields: Mapping[str, Fields]
    warnings: tuple[str, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting that changes what the store contains."""
        config = self.config
        return {
            "tokenizer_sha256": self.tokenizer.sha256,
            "eos_token": self.eos_token,
            "bos": self.bos_id is not None,
            "special_tokens_in_text": config.special_tokens_in_text,
            "tokenizer_backend": config.tokenizer_backend,
            "min_tokens": config.min_tokens,
            "split_bytes": config.split_bytes,
            "sources": {s.name: _read_settings(s) for s in config.sources},
        }

    @property
    def state(self) -> State:
        """What the store follows from."""
        inputs = {
            file.url: [source, file.bytes, file.stamp]
            for source, files in self.files.items()
            for file in files
        }
        return State(settings=self.settings, inputs=inputs)

    def tokenizer_manifest(self, used: Backend, fallback: str | None) -> dict[str, Any]:
        """What manifests say of the tokenizer.

        Args:
            used: the backend that encoded.
            fallback: why it is not the one that was preferred.
        """
        return {
            "sha256": self.tokenizer.sha256,
            "largest_id": self.largest_id,
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "pad_id": self.pad_id,
            "eos_token": self.eos_token,
            "backend": {
                "requested": self.config.tokenizer_backend,
                "used": used,
                "fallback": fallback,
            },
        }

    def spec(self, url: str, backend: Backend) -> TokenizerSpec:
        """The tokenizer as workers get it."""
        return TokenizerSpec(
            url=url,
            sha256=self.tokenizer.sha256,
            backend=backend,
            special_tokens_in_text=self.config.special_tokens_in_text == "allow",
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            pad_id=self.pad_id,
            largest_id=self.largest_id,
        )


def _read_settings(source: SourceConfig) -> dict[str, str]:
    kind = {"tokens": source.tokens} if source.tokens is not None else {"text": source.text}
    return {**kind, "id": source.id, "format": source.format or "by name"}


def plan_tokenize(config: TokenizeConfig) -> TokenizePlan:
    """Reads the tokenizer and lists the inputs.

    Raises:
        ExactcptError: no tokenizer, no EOS, a source that matches nothing, a file in two sources.
    """
    tokenizer = load_tokenizer(config.tokenizer)
    eos_token, warning = tokenizer.choose_eos(config.eos_token)
    eos_id = cast(int, tokenizer.id_of(eos_token))
    largest_id = tokenizer.largest_id
    fields = {
        s.name: Fields(text=s.text, id=s.id, tokens=s.tokens, largest_id=largest_id)
        for s in config.sources
    }
    listings = {
        s.name: find_files(
            Source(
                name=s.name,
                pattern=s.pattern,
                fields=fields[s.name],
                format=s.format,
            )
        )
        for s in config.sources
    }
    files = {name: listing.files for name, listing in listings.items()}
    _refuse_shared_files(files)
    return TokenizePlan(
        config=config,
        tokenizer=tokenizer,
        bos_id=tokenizer.choose_bos(config.bos),
        eos_id=eos_id,
        eos_token=eos_token,
        pad_id=tokenizer.choose_pad(eos_id),
        largest_id=largest_id,
        files=files,
        fields=fields,
        warnings=tuple(w for w in (warning, *(each.warning for each in listings.values())) if w),
    )


def _refuse_shared_files(files: Mapping[str, Sequence[InputFile]]) -> None:
    """Links and other spellings of a path lead to the same file; empty ones do no harm."""
    seen: dict[Hashable, InputFile] = {}
    for file in (file for listed in files.values() for file in listed if file.bytes != 0):
        first = seen.setdefault(identity(file), file)
        if first is file:
            continue
        where = (
            f"in two sources: {first.source!r} and {file.source!r}"
            if first.source != file.source
            else f"twice in source {file.source!r}"
        )
        raise ExactcptError(
            f"one file is {where}",
            where=file.url if file.url == first.url else f"{first.url} and {file.url}",
            fix="narrow one of the patterns; use epochs to see a source more often",
        )


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
) -> tuple[Manifest, bool]:
    """Runs the job.

    Args:
        plan: what to do.
        store: where the token store is written.
        settings: where the graph runs.
        console: for messages and progress.
        overwrite: whether a store of other settings is replaced.
        probes: the beginnings of the sources.

    Returns:
        The store's manifest, and whether an equal job had finished before.

    Raises:
        ExactcptError: that job has left out more than is allowed now.
    """
    with locked(store):
        if begin(store, plan.state, OWNED, overwrite=overwrite):
            manifest = parse(store.read(MANIFEST), store.url_of(MANIFEST), TOKEN_STORE)
            refuse_left_out(manifest, plan.config, store)
            return manifest, True
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
        return _finish(plan, store, backend, fallback), False


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
    while (bad := _bad_files(store)) != known:
        for url in sorted(set(bad) - set(known or ())):
            console.warn(f"left out: {url}: {bad[url]}")
        known = bad
        splits = _without(everything, bad)
        _forget_outdated(store, splits)
        with Progress(console, "tokenize", _Look(store, len(splits))) as progress:

            def build(p: Any, lanes: int | None, splits: Sequence[Split] = splits) -> None:
                tokenize_graph(p, task, scans, splits, lanes)

            run(build, settings, store, progress.poll)


def _bad_files(store: Folder) -> dict[str, str]:
    """Files found unreadable, and why."""
    bad = [json.loads(store.read(name)) for name in store.names(f"{JOB}/bad")]
    return {each["url"]: each["reason"] for each in bad}


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
        return Count("splits", done, self._total, sum(tokens for _, tokens in self._seen.values()))


def _finish(plan: TokenizePlan, store: Folder, backend: Backend, fallback: str | None) -> Manifest:
    summaries = [
        json.loads(store.read(name)) for name in store.names("parts") if name.endswith(".json")
    ]
    _refuse_too_many_rejected(plan, summaries, store)
    inputs = _inputs(plan, store)
    manifest: Manifest = {
        "format": TOKEN_STORE,
        "format_version": 1,
        "versions": _versions(),
        "settings": plan.settings,
        "tokenizer": plan.tokenizer_manifest(backend, fallback),
        "inputs": inputs,
        "sources": [
            {"name": name, "read": _read_of([s for s in summaries if s["source"] == name])}
            for name in plan.files
        ],
        "parts": [_part(s) for s in summaries if s["documents"]],
        "warnings": [
            *plan.warnings,
            *([f"{fallback}; tokenizers encoded all documents"] if fallback else []),
            *(f"left out: {i['path']}: {i['skipped']}" for i in inputs if i["skipped"]),
            *_equal_inputs(inputs),
        ],
    }
    store.write(MANIFEST, dump(manifest))
    store.remove_tree(f"{JOB}/files")
    store.remove_tree(f"{JOB}/bad")
    return manifest


def _equal_inputs(inputs: Sequence[Input]) -> list[str]:
    """A warning where files have equal content: most likely one was given twice."""
    first: dict[str, str] = {}
    pairs: list[str] = []
    for file in inputs:
        if file["xxh3_128"] is not None and file["bytes"]:
            name = f"{file['source']}: {file['path']}"
            original = first.setdefault(file["xxh3_128"], name)
            pairs += [f"{original} = {name}"] if original != name else []
    if not pairs:
        return []
    more = f" and {len(pairs) - 3:,} more" if len(pairs) > 3 else ""
    return [f"input files with the same content: {', '.join(pairs[:3])}{more}"]


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("exactcpt", "pyarrow", "tokenizers", "gigatoken")}


def _part(summary: Mapping[str, Any]) -> Part:
    return {
        "part": summary["part"],
        "source": summary["source"],
        "documents": summary["documents"],
        "tokens": summary["tokens"],
        "file": summary["file"],
        "index": summary["index"],
    }


def _read_of(summaries: Sequence[Mapping[str, Any]]) -> Read:
    def total(key: str) -> dict[str, int]:
        reasons = sorted({reason for s in summaries for reason in s[key]})
        return {reason: sum(s[key].get(reason, 0) for s in summaries) for reason in reasons}

    return {
        "documents": sum(s["documents"] for s in summaries),
        "tokens": sum(s["tokens"] for s in summaries),
        "text_bytes": sum(s["text_bytes"] for s in summaries),
        "rejected": total("rejected"),
        "dropped": total("dropped"),
    }


def _inputs(plan: TokenizePlan, store: Folder) -> list[Input]:
    facts: dict[str, Any] = {}
    for name in store.names(f"{JOB}/files"):
        facts |= json.loads(store.read(name))
    bad = _bad_files(store)
    return [
        {
            "source": source,
            "path": file.path,
            "bytes": file.bytes,
            "xxh3_128": facts.get(file.url, {}).get("xxh3_128"),
            "skipped": bad.get(file.url),
        }
        for source, files in plan.files.items()
        for file in files
    ]


def _rejected_of(read: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Records that were rejected, and all records, of parts or of sources."""
    rejected = sum(sum(one["rejected"].values()) for one in read)
    return rejected, rejected + sum(one["documents"] + sum(one["dropped"].values()) for one in read)


def _refuse_too_many_rejected(
    plan: TokenizePlan, summaries: Sequence[Mapping[str, Any]], store: Folder
) -> None:
    rejected, records = _rejected_of(summaries)
    if rejected <= plan.config.max_rejected * records:
        return
    first = [r for s in summaries for r in s["first_rejected"]][:3]
    examples = "\n".join(f"    {r['file']}:{r['at']} ({r['unit']}): {r['reason']}" for r in first)
    raise ExactcptError(
        f"{rejected:,} of {records:,} records were rejected:\n{examples}",
        where=f"all of them are listed in {store.url_of('rejected')}",
        expected=f"at most {plan.config.max_rejected:.2%}",
        fix="mend the input, or allow more with --max-rejected and run again",
    )


def refuse_left_out(manifest: Manifest, config: TokenizeConfig, folder: Folder) -> None:
    """Refuses finished output that has left out more than is allowed now.

    Args:
        manifest: of a token store, or of shards made from one.
        config: what is allowed now.
        folder: where the output is.

    Raises:
        ExactcptError: it lacks bad files, or too many records.
    """
    skipped = [i for i in manifest["inputs"] if i["skipped"]]
    if skipped and config.on_bad_file == "fail":
        raise ExactcptError(
            f"{folder.url} is finished, but without {len(skipped):,} bad files, such as "
            f"{skipped[0]['path']} ({skipped[0]['skipped']})",
            fix="accept that with --on-bad-file skip, or mend them and use --overwrite",
        )
    rejected, records = _rejected_of([source["read"] for source in manifest["sources"]])
    if rejected > config.max_rejected * records:
        raise ExactcptError(
            f"{folder.url} is finished, but {rejected:,} of {records:,} records were rejected",
            expected=f"at most {config.max_rejected:.2%}",
            fix="mend the input and use --overwrite, or allow more with --max-rejected",
        )
