"""Chooses the library that encodes the documents, and keeps the choice in the store.

gigatoken is chosen if it supports the tokenizer and agrees with `tokenizers` on the torture set and
on the beginning of every source; where all sources have token ids, there is nothing to choose. The
choice changes at most once, when the two differ on a document
later: the job then starts again with `tokenizers`, since a store has documents of one backend only.
"""

import json
from collections.abc import Mapping

from ...schemas.errors import BackendDifferenceError, ExactcptError
from ..core.choices import Backend
from ..files.json_files import read_json
from ..files.storage import Folder
from ..job.folder import JOB
from .encoders import Encoder, UnsupportedTokenizerError, shared_encoder
from .parity import compare_backends, torture_set
from .plan import TokenizePlan
from .probe import Probe

__all__ = ["choose_backend", "fast_encoder", "keep_choice", "kept_choice"]

BACKEND = f"{JOB}/backend.json"
"""The backend that was chosen, as `used`, and why it is not gigatoken, as `fallback`."""


def fast_encoder(plan: TokenizePlan) -> tuple[Encoder, str | None]:
    """gigatoken's encoder, or the reference's if gigatoken does not support the tokenizer.

    The second value says why it is not gigatoken's, or is None.
    """
    where = plan.tokenizer.where
    try:
        return shared_encoder(plan.spec(where, "gigatoken")), None
    except UnsupportedTokenizerError as error:
        problem = f"gigatoken does not support this tokenizer: {error}"
        return shared_encoder(plan.spec(where, "tokenizers")), problem


def choose_backend(plan: TokenizePlan, probes: Mapping[str, Probe]) -> tuple[Backend, str | None]:
    """Chooses the backend for all documents; if it is not gigatoken, says why.

    Args:
        plan: what to tokenize.
        probes: the beginning of every source.

    Raises:
        ExactcptError: gigatoken was asked for, and differs or does not support the tokenizer.
    """
    wanted = plan.config.tokenizer_backend
    if wanted == "tokenizers" or not plan.encodes_text:
        return "tokenizers", None
    texts = [torture_set(plan.tokenizer.facts.special_tokens)]
    texts += [p.documents for name, p in probes.items() if plan.fields[name].tokens is None]
    encoder, problem = fast_encoder(plan)
    reference = shared_encoder(plan.spec(plan.tokenizer.where, "tokenizers"))
    try:
        for some in texts if problem is None else ():
            compare_backends(encoder, reference, some)
    except BackendDifferenceError as error:
        problem = f"gigatoken and tokenizers encode a text differently: {error}"
    if problem is not None and wanted == "gigatoken":
        raise ExactcptError(problem, fix="use --tokenizer-backend auto or tokenizers")
    return ("gigatoken", None) if problem is None else ("tokenizers", problem)


def kept_choice(store: Folder) -> tuple[Backend, str | None] | None:
    """The choice that a store keeps, as `choose_backend` returned it; None before it is made."""
    if not store.exists(BACKEND):
        return None
    kept = read_json(store, BACKEND, ("used", "fallback"))
    return kept["used"], kept["fallback"]


def keep_choice(store: Folder, used: Backend, fallback: str | None) -> None:
    """Keeps a choice in the store, in place of an earlier one."""
    store.write(BACKEND, json.dumps({"used": used, "fallback": fallback}).encode())
