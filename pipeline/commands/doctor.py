"""The command `doctor`: what the program finds on this machine, for people who report a problem."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...schemas.cores import usable_cores
from ...schemas.errors import BackendDifferenceError, UsageError
from ...schemas.extras import install_line
from ...schemas.terminal import echo, echo_json
from ..terminal import size
from ..tokens.encoders import UnencodableTextError, UnsupportedTokenizerError, shared_encoder
from ..tokens.parity import compare_backends, torture_set
from ..tokens.tokenizer import TokenizerSpec, load_tokenizer

__all__ = ["run_doctor"]

PACKAGES = (
    "exactcpt", "pyarrow", "apache-beam", "datasets", "tokenizers", "gigatoken", "numpy",
    "torch", "transformers",
)  # fmt: skip
WIDTH = 14


def run_doctor(flags: Mapping[str, Any]) -> None:
    """Prints versions, resources, and what would be used of them."""
    found = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
        "cores": usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disks": [_disk("folder", flags["folder"]), _disk("TMPDIR", tempfile.gettempdir())],
        "training": _training(),
        "tokenizer": None if flags["tokenizer"] is None else _tokenizer(flags["tokenizer"]),
    }
    if flags["as_json"]:
        echo_json(json.dumps(found))
        return
    for name, text in _lines(found):
        echo(f"{name:<{WIDTH}}  {text}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _disk(what: str, path: str) -> dict[str, Any]:
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        raise UsageError(f"cannot look at the folder: {error.strerror}", where=path) from None
    return {"what": what, "path": str(Path(path).resolve()), "free_bytes": free}


def _training() -> dict[str, Any]:
    """What training finds, or under `problem` why it cannot run."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        return {"problem": f"{missing[0]} is not installed: {install_line('train')}"}
    (entry,) = entry_points(group="exactcpt.answers", name="machine")
    try:
        return entry.load()()
    except (ImportError, OSError, RuntimeError) as error:
        return {"problem": f"torch or transformers cannot be used: {error}"}


def _tokenizer(path: str) -> dict[str, Any]:
    """The backend that `prepare` would take for a tokenizer, and why not gigatoken.

    Raises:
        ExactcptError: there is no tokenizer.
    """
    file = load_tokenizer(path)
    spec = TokenizerSpec(
        url=file.where,
        sha256=file.sha256,
        backend="gigatoken",
        special_tokens_in_text=False,
        bos_id=None,
        eos_id=0,
        pad_id=0,
        largest_id=file.largest_id,
    )
    problem = None
    try:
        one, other = shared_encoder(spec), shared_encoder(spec, "tokenizers")
        compare_backends(one, other, torture_set(file.facts.special_tokens))
    except UnsupportedTokenizerError as error:
        problem = f"gigatoken does not support it: {error}"
    except BackendDifferenceError as error:
        problem = f"gigatoken and tokenizers differ: {error}"
    except UnencodableTextError:
        problem = "it cannot encode every text, and those that were tried are among them"
    return {
        "path": file.where,
        "backend": "gigatoken" if problem is None else "tokenizers",
        "why_not_gigatoken": problem,
    }


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Python", f"{found['python']} on {found['system']}"
    for name, number in found["versions"].items():
        yield name, number or "not installed"
    yield "cores", f"{found['cores']:,}"
    yield "memory", size(found["memory_bytes"])
    for disk in found["disks"]:
        yield disk["what"], f"{disk['path']}, {size(disk['free_bytes'])} free"
    training = found["training"]
    if "problem" in training:
        yield "training", training["problem"]
    else:
        devices = ", ".join(training["devices"]) or "no device that torch can use"
        yield "CUDA", f"{training['cuda'] or 'not in this build of torch'}; {devices}"
        kernel = training["attention_kernel"]
        yield "attention", training["attention"] + (f", {kernel}" if kernel else "")
        for name, reason in training["not_attention"].items():
            yield "", f"not {name}: {reason}"
    tokenizer = found["tokenizer"]
    if tokenizer is not None:
        why = tokenizer["why_not_gigatoken"]
        agrees = "as tokenizers on the texts that were tried"
        yield "tokenizer", tokenizer["path"]
        yield "", f"{tokenizer['backend']}: {why or f'it gives the same tokens {agrees}'}"
