"""The plan of tokenization: tokenizer, special ids and input files, found before any work."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from ...schemas.errors import ExactcptError, UsageError
from ...schemas.hub import origin_of
from ...schemas.shard import SUPERVISED
from ..config import SourceConfig, TokenizeConfig
from ..core.choices import BOUNDARIES, IDS_ALONE, Backend
from ..job.folder import State
from ..sources.answers import Form, read_template
from ..sources.listing import InputFile, Listing, Source, find_files, identity, with_companions
from ..sources.reading import BadFileError, column_names
from ..sources.records import Fields
from ..sources.rows import TOKENS
from .tokenizer import TokenizerFile, TokenizerSpec, load_tokenizer

__all__ = ["TokenizePlan", "has_answers", "plan_tokenize"]


PACKED_TOKENS = "input_ids"
"""The column of token ids in packed windows, unless the source names another."""


NO_TOKENS = "no tokens=FIELD: the values of {} files are texts"
NOT_NAMED: dict[str, tuple[Sequence[str], str]] = {
    "text": (
        ("text", "id", "tokens"),
        "no fields: a file of text is one document, and its name is the id",
    ),
    "csv": (("tokens",), NO_TOKENS.format("csv")),
    "tsv": (("tokens",), NO_TOKENS.format("tsv")),
    "webdataset": (("id",), "no id=FIELD: the id of a sample is the name that its members share"),
    "wet": (("text", "tokens"), "no field but id=HEADER: the text is what follows the headers"),
    **{
        kind: (
            ("text", "id", "tokens"),
            f"no fields: {kind} files hold the token ids of documents and nothing else",
        )
        for kind in IDS_ALONE
    },
}
"""The options for fields that the formats do not have, and why."""
WITH_MESSAGES = ("jsonl", "parquet", "arrow", "hub")
WITH_ANSWERS = (*WITH_MESSAGES, "csv", "tsv")
"""The formats whose records may have messages, or a prompt and its answer."""


@dataclass(frozen=True, kw_only=True)
class TokenizePlan:
    """What a job will do, found before any work.

    Attributes:
        config: the configuration.
        tokenizer: the tokenizer's files.
        bos_id: put before every document, or None.
        eos_id: put after every document.
        eos_token: its text.
        pad_id: fills windows.
        largest_id: the largest id in the vocabulary.
        unk_id: stands for what the vocabulary lacks; None if there is none of its own.
        files: the input files, by source.
        fields: which fields of a record are read, by source.
        warnings: for the person who runs the job, and for the manifest.
    """

    config: TokenizeConfig
    tokenizer: TokenizerFile
    bos_id: int | None
    eos_id: int
    eos_token: str
    pad_id: int
    largest_id: int
    unk_id: int | None
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
            "sources": {s.name: _read_settings(s, self.fields[s.name]) for s in config.sources},
        }

    @property
    def state(self) -> State:
        """The settings and inputs that determine the store."""
        inputs = {
            file.url: [source, file.bytes, file.stamp]
            for source, files in self.input_files.items()
            for file in files
        }
        return State(settings=self.settings, inputs=inputs)

    @property
    def input_files(self) -> dict[str, list[InputFile]]:
        """Every file that is read, by source: those with documents, and those beside them."""
        return {source: with_companions(files) for source, files in self.files.items()}

    @property
    def encodes_text(self) -> bool:
        """Whether any source has text; the others have token ids."""
        return any(fields.tokens is None for fields in self.fields.values())

    @property
    def text_bytes(self) -> int:
        """Bytes of text to encode, roughly: what files have when they are decompressed."""
        return sum(
            file.work
            for source, files in self.files.items()
            if self.fields[source].tokens is None
            for file in files
        )

    def tokenizer_manifest(self, used: Backend, fallback: str | None) -> dict[str, Any]:
        """The manifest's entry for the tokenizer.

        Args:
            used: the backend that encoded the documents.
            fallback: why it is not gigatoken, if that was preferred.
        """
        origin = origin_of(self.tokenizer.where)
        return {
            "sha256": self.tokenizer.sha256,
            **({} if origin is None else {"origin": origin}),
            "largest_id": self.largest_id,
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "pad_id": self.pad_id,
            "unk_id": self.unk_id,
            "eos_token": self.eos_token,
            "backend": {
                "requested": self.config.tokenizer_backend,
                "used": used,
                "fallback": fallback,
            },
        }

    def spec(self, url: str, backend: Backend) -> TokenizerSpec:
        """The tokenizer as workers get it: read from `url`, encoding with `backend`."""
        return TokenizerSpec(
            url=url,
            sha256=self.tokenizer.sha256,
            backend=backend,
            special_tokens_in_text=self.config.special_tokens_in_text == "allow",
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            pad_id=self.pad_id,
            largest_id=self.largest_id,
            unk_id=self.unk_id,
        )


def _read_settings(source: SourceConfig, fields: Fields) -> dict[str, str]:
    kind = {"tokens": fields.tokens} if fields.tokens is not None else {"text": fields.text}
    if fields.form is not None:
        kind = fields.form.settings
    split = {"split": source.split} if source.split is not None else {}
    return {**kind, "id": source.id, "format": source.format or "by name", **split}


def plan_tokenize(config: TokenizeConfig, *, packed: bool = False) -> TokenizePlan:
    """Reads the tokenizer and lists the inputs.

    Args:
        config: what to read.
        packed: whether rows of tokens are known to be packed windows, not documents.

    Raises:
        ExactcptError: there is no tokenizer or no EOS, a source matches no file, or a file belongs
            to two sources.
        UsageError: a source of text names fields, a template is none, or the records of a source
            cannot have answers.
    """
    if packed:
        _refuse_answers_of_windows(config.sources)
    tokenizer = load_tokenizer(config.tokenizer)
    eos_token, about_eos = tokenizer.choose_eos(config.eos_token)
    bos_id, about_bos = tokenizer.choose_bos(config.bos)
    eos_id = cast(int, tokenizer.id_of(eos_token))
    largest_id = tokenizer.largest_id
    fields = {
        s.name: _fields(s, largest_id=largest_id, end_id=eos_id, most=config.max_record_bytes)
        for s in config.sources
    }
    listings = {s.name: _listing(s, fields[s.name]) for s in config.sources}
    files = {name: listing.files for name, listing in listings.items()}
    _refuse_unused_fields(config.sources, files)
    _refuse_answers(config.sources, files)
    _refuse_shared_files(files, packed=packed)
    fields = {name: _fields_of_ids(fields[name], files[name], packed) for name in fields}
    return TokenizePlan(
        config=config,
        tokenizer=tokenizer,
        bos_id=bos_id,
        eos_id=eos_id,
        eos_token=eos_token,
        pad_id=tokenizer.choose_pad(eos_id),
        largest_id=largest_id,
        files=files,
        fields=fields,
        unk_id=None if (unk_id := tokenizer.facts.unk_id) in (bos_id, eos_id) else unk_id,
        warnings=(
            *(warning for warning in (about_eos, about_bos) if warning),
            *tokenizer.warnings(),
            *(each for listing in listings.values() for each in listing.warnings),
            *(() if packed else _warnings_of_ids(config.sources, files)),
        ),
    )


def _fields(source: SourceConfig, *, largest_id: int, end_id: int, most: int) -> Fields:
    return Fields(
        text=source.text,
        id=source.id,
        tokens=source.tokens,
        largest_id=largest_id,
        end_id=end_id,
        max_bytes=most,
        form=_form(source),
    )


def _listing(source: SourceConfig, fields: Fields) -> Listing:
    return find_files(
        Source(
            name=source.name,
            pattern=source.pattern,
            fields=fields,
            format=source.format,
            split=source.split,
        )
    )


def _warnings_of_ids(
    sources: Sequence[SourceConfig], files: Mapping[str, Sequence[InputFile]]
) -> Iterator[str]:
    """What should be known of sources of token ids that are read as documents."""
    for source in sources:
        if source.tokens:
            yield from _about_columns(source.name, files[source.name])


def _refuse_answers_of_windows(sources: Sequence[SourceConfig]) -> None:
    for source in sources:
        if source.of_answers:
            raise UsageError(
                f"source {source.name!r} of packed windows has {source.of_answers[0]}=FIELD",
                expected="tokens=FIELD, or nothing",
                fix="use `exactcpt prepare` for records with questions and answers",
            )


def has_answers(fields: Mapping[str, Fields]) -> bool:
    """Whether the documents of some source have answers, given the fields of all."""
    return any(each.form is not None for each in fields.values())


def _form(source: SourceConfig) -> Form | None:
    """How the documents of a source have answers; None if they have none."""
    if not source.of_answers:
        return None
    template = source.template
    if template is not None:
        template = read_template(template, context=source.context is not None)
    return Form(
        prompt=source.prompt,
        answer=source.answer,
        context=source.context,
        messages=source.messages,
        template=template,
    )


def _about_columns(source: str, files: Sequence[InputFile]) -> list[str]:
    """A warning if the rows of token ids seem to be packed windows."""
    try:
        columns = {*column_names(files[0])} & {*BOUNDARIES, SUPERVISED}
    except BadFileError:  # whoever reads it says so
        return []
    return [
        f"source {source!r} has a column {name!r}, as packed windows do; each row is read as one "
        "document: if rows hold several, `exactcpt weigh` takes them as they are"
        for name in sorted(columns)[:1]
    ]


def _refuse_unused_fields(
    sources: Sequence[SourceConfig], files: Mapping[str, Sequence[InputFile]]
) -> None:
    """Refuses fields of sources whose records have none."""
    plain = SourceConfig(name="plain", pattern="plain")
    for source in sources:
        named = [n for n in ("text", "id", "tokens") if getattr(source, n) != getattr(plain, n)]
        for kind in {file.format for file in files[source.name]}:
            unused, why = NOT_NAMED.get(kind, ((), ""))
            wrong = [name for name in named if name in unused]
            if wrong:
                raise UsageError(
                    f"source {source.name!r} has {wrong[0]}=FIELD, but is read as {kind}",
                    where=source.pattern,
                    expected=why,
                    fix="leave the option out, or name the format of the records with ,format=F",
                )


def _refuse_answers(
    sources: Sequence[SourceConfig], files: Mapping[str, Sequence[InputFile]]
) -> None:
    """Refuses answers in formats whose records have no fields that could hold them."""
    for source in sources:
        formats = WITH_ANSWERS if source.messages is None else WITH_MESSAGES
        for kind in {file.format for file in files[source.name]} if source.of_answers else ():
            if kind not in formats:
                what = "prompt and answer" if source.messages is None else "messages"
                raise UsageError(
                    f"source {source.name!r} has {what}, but is read as {kind}",
                    where=source.pattern,
                    expected=f"{what} in one of the formats {', '.join(formats)}",
                    fix="write the records as JSON Lines",
                )


def _fields_of_ids(fields: Fields, files: Sequence[InputFile], packed: bool) -> Fields:
    """The fields of a source; that of token ids may need no name."""
    if any(file.format in IDS_ALONE for file in files):
        return replace(fields, tokens=TOKENS)
    return replace(fields, tokens=PACKED_TOKENS) if packed and fields.tokens is None else fields


MORE_THAN_ONCE = "to train on a source more than once, use epochs"


def _refuse_shared_files(files: Mapping[str, Sequence[InputFile]], *, packed: bool) -> None:
    """Refuses files listed twice, by links or other spellings too; empty files do no harm."""
    seen: dict[Hashable, InputFile] = {}
    for file in (file for listed in files.values() for file in listed if file.bytes != 0):
        first = seen.setdefault(identity(file), file)
        if first is file:
            continue
        where = (
            f"in two sources: {first.source!r} and {file.source!r}"
            if first.source != file.source
            else f"listed twice in source {file.source!r}"
        )
        raise ExactcptError(
            f"the same file is {where}",
            where=file.url if file.url == first.url else f"{first.url} and {file.url}",
            fix="; ".join(["narrow one of the patterns", *([] if packed else [MORE_THAN_ONCE])]),
        )
