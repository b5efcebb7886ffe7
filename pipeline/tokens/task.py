"""How a job tokenizes: what all its work units have in common."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...schemas.manifest import TOKENIZER
from ..core.choices import Backend
from ..files.storage import Folder
from ..sources.records import Fields
from .plan import TokenizePlan, has_answers
from .tokenizer import TokenizerSpec

__all__ = ["TokenizeTask", "tokenize_task"]


@dataclass(frozen=True, kw_only=True)
class TokenizeTask:
    """What every work unit of a job is given.

    Attributes:
        store: the token store's path or URL.
        tokenizer: which tokenizer, backend and special ids.
        check: whether a sample of every part is encoded by the reference backend too.
        fields: which fields of a record are read, by source.
        min_tokens: shorter documents are dropped; BOS and EOS do not count.
        split_bytes: bytes of text per part, where a split yields several parts.
        skip_bad_files: whether a truncated or corrupt file is left out or ends the job.
    """

    store: str
    tokenizer: TokenizerSpec
    check: bool
    fields: Mapping[str, Fields]
    min_tokens: int
    split_bytes: int
    skip_bad_files: bool

    @property
    def has_spans(self) -> bool:
        """Whether the store says which tokens are supervised: some documents have answers."""
        return has_answers(self.fields)


def tokenize_task(plan: TokenizePlan, store: Folder, backend: Backend) -> TokenizeTask:
    """The task of a plan whose documents are encoded with `backend`."""
    return TokenizeTask(
        store=store.url,
        tokenizer=plan.spec(store.url_of(TOKENIZER), backend),
        check=backend == "gigatoken",
        fields=plan.fields,
        min_tokens=plan.config.min_tokens,
        split_bytes=plan.config.split_bytes,
        skip_bad_files=plan.config.on_bad_file == "skip",
    )
