"""The plan of tokenization: everything that is known before any work is done."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ...schemas.errors import ExactcptError
from ..config import SourceConfig, TokenizeConfig
from ..core.choices import Backend
from ..job.folder import State
from ..sources.listing import InputFile, Source, find_files, identity
from ..sources.records import Fields
from .tokenizer import TokenizerFile, TokenizerSpec, load_tokenizer

__all__ = ["TokenizePlan", "plan_tokenize"]


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
