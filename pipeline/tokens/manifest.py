"""The manifest of a token store, from the summaries of its parts."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ...schemas.errors import ExactcptError, FormatError
from ...schemas.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    SUPERVISED_VERSION,
    TOKEN_STORE,
    TOKENIZER,
    Input,
    Manifest,
    Part,
    Read,
    dump,
)
from ...schemas.sizes import plural
from ..config import TokenizeConfig
from ..core.choices import Backend
from ..files.json_files import read_json
from ..files.storage import Folder
from ..job.folder import JOB, forget_progress
from .builder import read_summary
from .fidelity import fidelity_warnings, total
from .plan import TokenizePlan, has_answers
from .store import damaged

__all__ = [
    "OWNED",
    "bad_files",
    "equal_inputs",
    "inputs_of",
    "refuse_contradiction",
    "refuse_left_out",
    "write_manifest",
]

OWNED = (TOKENIZER, "parts", "rejected")
"""What a job writes into its folder besides the manifest."""


def bad_files(store: Folder) -> dict[str, str]:
    """The input files that could not be read, by URL, and why."""
    names = store.names(f"{JOB}/bad")
    bad = store.for_all(names, lambda name: read_json(store, name, ("url", "reason")))
    return {each["url"]: each["reason"] for each in bad}


def write_manifest(
    plan: TokenizePlan, store: Folder, backend: Backend, fallback: str | None
) -> Manifest:
    """Writes the manifest, last of all files, and clears the job's folder; returns the manifest.

    Args:
        plan: what was tokenized.
        store: the token store, with all its parts.
        backend: the backend that encoded the documents.
        fallback: why it is not gigatoken, if that was preferred.

    Raises:
        ExactcptError: too many records were rejected.
    """
    summaries = _summaries(store)
    _refuse_too_many_rejected(plan, summaries, store)
    inputs = inputs_of(plan, store)
    by_source = {name: [s for s in summaries if s["source"] == name] for name in plan.files}
    manifest: Manifest = {
        "format": TOKEN_STORE,
        "format_version": SUPERVISED_VERSION if has_answers(plan.fields) else FORMAT_VERSION,
        "versions": _versions(),
        "settings": plan.settings,
        "tokenizer": plan.tokenizer_manifest(backend, fallback),
        "inputs": inputs,
        "sources": [{"name": name, "read": _read_of(mine)} for name, mine in by_source.items()],
        "parts": [_part(s) for s in summaries if s["documents"]],
        "warnings": [
            *plan.warnings,
            *([f"{fallback}; tokenizers encoded all documents"] if fallback else []),
            *(f"left out: {i['path']}: {i['skipped']}" for i in inputs if i["skipped"]),
            *_without_id(plan, summaries),
            *equal_inputs(plan, inputs),
            *(w for name, mine in by_source.items() for w in _of_tokens(plan, name, mine)),
        ],
    }
    store.write(MANIFEST, dump(manifest))
    forget_progress(store)
    return manifest


def _summaries(store: Folder) -> list[dict[str, Any]]:
    names = [name for name in store.names("parts") if name.endswith(".json")]
    return store.for_all(names, lambda name: read_summary(store, name))


def refuse_contradiction(manifest: Manifest, store: Folder) -> None:
    """Compares the manifest of a store with the summaries of its parts, as far as they are there.

    Raises:
        FormatError: they differ, or a summary is damaged: one of the files has changed.
    """
    summaries = _summaries(store)
    listed = {part["part"]: part for part in manifest["parts"]}
    told = {one["part"]: _part(one) for one in summaries if one["documents"]}
    for name, part in told.items():
        if _contradicts(listed.get(name, {}), part):
            raise _contradiction(f"part {name}", store)
    if listed.keys() <= told.keys():
        for source in manifest["sources"]:
            mine = [one for one in summaries if one["source"] == source["name"]]
            if _contradicts(source["read"], _read_of(mine)):
                raise _contradiction(f"source {source['name']!r}", store)


def _contradicts(claimed: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether a manifest's entry is missing or has another value; an old one may have fewer."""
    return not claimed or any(found.get(key) != value for key, value in claimed.items())


def _contradiction(what: str, store: Folder) -> FormatError:
    return damaged(
        store.url_of(MANIFEST), f"what the summaries of the parts (parts/*.json) say of {what}"
    )


def _refuse_too_many_rejected(
    plan: TokenizePlan, summaries: Sequence[Mapping[str, Any]], store: Folder
) -> None:
    rejected, records = _rejected_of(summaries)
    if rejected <= plan.config.max_rejected * records:
        return
    first = [r for s in summaries for r in s["first_rejected"]][:3]
    examples = "\n".join(f"    {r['file']}, {r['unit']} {r['at']}: {r['reason']}" for r in first)
    raise ExactcptError(
        f"too many records were rejected: {rejected:,} of {records:,}\n{examples}",
        where=f"all of them are listed in {store.url_of('rejected')}",
        expected=f"at most {plan.config.max_rejected:.2%}",
        fix="correct these records (the reasons may also show that the source names another format "
        "or field) and run the command again; with a larger --max-rejected they are left out for "
        "good",
    )


def inputs_of(plan: TokenizePlan, store: Folder) -> list[Input]:
    """The input files of a job with their checksums, as the manifest has them.

    Args:
        plan: names the files.
        store: the folder that the job writes, where their checksums were noted.
    """
    facts: dict[str, Any] = {}
    for each in store.for_all(store.names(f"{JOB}/files"), lambda name: read_json(store, name)):
        facts |= each
    bad = bad_files(store)
    return [
        {
            "source": source,
            "path": file.path,
            "bytes": file.bytes,
            "xxh3_128": facts.get(file.url, {}).get("xxh3_128"),
            "skipped": bad.get(file.url),
        }
        for source, files in plan.input_files.items()
        for file in files
    ]


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("exactcpt", "pyarrow", "tokenizers", "gigatoken")}


def _read_of(summaries: Sequence[Mapping[str, Any]]) -> Read:
    def by_reason(key: str) -> dict[str, int]:
        reasons = sorted({reason for s in summaries for reason in s[key]})
        return {reason: sum(s[key].get(reason, 0) for s in summaries) for reason in reasons}

    found: Read = {
        "documents": sum(s["documents"] for s in summaries),
        "tokens": sum(s["tokens"] for s in summaries),
        "text_bytes": sum(s["text_bytes"] for s in summaries),
        "rejected": by_reason("rejected"),
        "dropped": by_reason("dropped"),
    }
    counted = [summary["encoding"] for summary in summaries if "encoding" in summary]
    if len(counted) == len(summaries):  # older versions did not count it
        found["encoding"] = total(counted).to_manifest()
    return found


def _of_tokens(
    plan: TokenizePlan, source: str, summaries: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Warnings about what a source's tokens do not say of its text."""
    found = total(summary["encoding"] for summary in summaries)
    tokens = sum(summary["tokens"] for summary in summaries)
    return fidelity_warnings(source, found, tokens, plan.eos_token)


def _part(summary: Mapping[str, Any]) -> Part:
    return {
        "part": summary["part"],
        "source": summary["source"],
        "documents": summary["documents"],
        "tokens": summary["tokens"],
        "file": summary["file"],
        "index": summary["index"],
    }


def _without_id(plan: TokenizePlan, summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning for each source whose records lack the id that was asked for."""
    warnings = []
    for name, fields in plan.fields.items():
        mine = [s for s in summaries if s["source"] == name]
        # Parts that an earlier version wrote before the job was stopped do not say.
        missing = sum(s.get("without_id", 0) for s in mine)
        if fields.names_id and missing:
            read = sum(s["documents"] + sum(s["dropped"].values()) for s in mine)
            warnings.append(
                f"source {name!r}: {missing:,} of {plural(read, 'document')} have no field "
                f"{fields.id!r}; their ids are the file with the line or row"
            )
    return warnings


def equal_inputs(plan: TokenizePlan, inputs: Sequence[Input]) -> list[str]:
    """A warning about files of equal content, most likely one corpus given twice.

    The indexes of two corpora may well be equal.
    """
    documents = {(name, file.path) for name, files in plan.files.items() for file in files}
    first: dict[str, str] = {}
    pairs: list[str] = []
    for file in inputs:
        is_of_documents = (file["source"], file["path"]) in documents
        if is_of_documents and file["xxh3_128"] is not None and file["bytes"]:
            name = f"{file['source']}: {file['path']}"
            original = first.setdefault(file["xxh3_128"], name)
            pairs += [f"{original} = {name}"] if original != name else []
    if not pairs:
        return []
    more = f" and {len(pairs) - 3:,} more" if len(pairs) > 3 else ""
    return [f"input files with the same content: {', '.join(pairs[:3])}{more}"]


def refuse_left_out(manifest: Manifest, config: TokenizeConfig, folder: Folder) -> None:
    """Refuses finished output that leaves out more than is allowed now.

    Args:
        manifest: of a token store, or of a shard set made from one.
        config: what is allowed now.
        folder: the output.

    Raises:
        ExactcptError: bad files are left out, or too many records.
    """
    skipped = [i for i in manifest["inputs"] if i["skipped"]]
    if skipped and config.on_bad_file == "fail":
        raise ExactcptError(
            f"{folder.url} is finished, but leaves out {plural(len(skipped), 'bad file')}, such as "
            f"{skipped[0]['path']} ({skipped[0]['skipped']})",
            fix="correct the input and use --overwrite; --on-bad-file skip accepts that none of "
            "their records are in it",
        )
    rejected, records = _rejected_of([source["read"] for source in manifest["sources"]])
    if rejected > config.max_rejected * records:
        raise ExactcptError(
            f"{folder.url} is finished, but too many records were rejected: {rejected:,} of "
            f"{records:,}",
            expected=f"at most {config.max_rejected:.2%}",
            fix="correct the input and use --overwrite; a larger --max-rejected accepts that these "
            "records are left out",
        )


def _rejected_of(read: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """How many records were rejected, and how many there were, in some parts or sources."""
    rejected = sum(sum(one["rejected"].values()) for one in read)
    return rejected, rejected + sum(one["documents"] + sum(one["dropped"].values()) for one in read)
