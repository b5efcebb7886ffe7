"""The configuration of a job: TOML file and flags, one set of names, checked where it is made.

    [[source]] tables and --source        SourceConfig: what to read, and how often it is seen
    tokenizer, min_tokens, ...            TokenizeConfig: what the token store depends on
    window, packing, tau, ...             PackConfig: what else the shards depend on
    out, workers, runner, ...             RunOptions: what changes no output

A flag overrides the file. A setting's name is its flag's, with underscores.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypedDict

from ..schemas.errors import UsageError
from ..schemas.settings import Size, check_range, kinds, read_toml, suggestion, typed
from .core.choices import BackendChoice, Format, PackingName, WorkerType
from .core.parameters import Exact, ParameterError, exact_of
from .sources.naming import name_of, split_name

__all__ = [
    "KINDS",
    "MAX_WORKERS",
    "SETTINGS",
    "PackConfig",
    "RunOptions",
    "SourceConfig",
    "TokenizeConfig",
    "parse_mixing",
    "parse_source",
    "read_settings",
    "source_of_table",
]

MAX_WORKERS = 1024
MAX_WINDOW = 1 << 24
"""Planning has several arrays with an entry for each length up to the window's."""
MIN_SPLIT_BYTES = 1000
"""Each split becomes separate files; see also `sources.splits.MAX_SPLITS`."""
MAX_RECORD_BYTES = (1 << 31) - 1
"""Arrow's strings have offsets of 32 bits."""
ANSWER_OPTIONS = ("prompt", "answer", "context", "template", "messages")
"""Options of sources whose documents have answers."""
SOURCE_OPTIONS = ("text", "id", "tokens", *ANSWER_OPTIONS, "epochs", "share", "format", "split")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One `--source` or `[[source]]`.

    Attributes:
        name: its name in tables and manifests.
        pattern: a file, folder, glob or URL.
        text: the field of a record that holds the text of the document.
        id: the field that holds the id of the document.
        tokens: the field that holds token ids, if the documents are already tokenized.
        prompt, answer, context: the fields of a prompt, of its answer, and of the text that the
            prompt is about. Only the answer's tokens are supervised.
        template: the file that says how a document is made of them; None for the usual form.
        messages: the field with the messages of a conversation, in the place of these fields.
        epochs: how many times it is seen.
        share: the fraction of the token budget that it fills.
        format: the format of its files, where their names do not show it.
        split: the split that is read, or `all`, where names of files tell several.
    """

    name: str
    pattern: str
    text: str = "text"
    id: str = "id"
    tokens: str | None = None
    prompt: str | None = None
    answer: str | None = None
    context: str | None = None
    template: str | None = None
    messages: str | None = None
    epochs: float | None = None
    share: float | None = None
    format: Format | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        this = f"source {self.name!r}"
        for option, kind in SOURCE_KINDS.items():
            value = getattr(self, option)
            if value is not None or option in ("name", "pattern", "text", "id"):
                typed(f"{this}: {option}", value, kind, None)
        for option in ("name", "pattern", "text", "id", "tokens", *ANSWER_OPTIONS):
            _refuse_unwritable(f"{this}: {option}", getattr(self, option) or "")
        for option in ("text", "id", "tokens", *ANSWER_OPTIONS):
            if getattr(self, option) == "":
                value = "FILE" if option == "template" else "FIELD"
                what = f"{this}: {option} names no {value.lower()}"
                raise UsageError(what, expected=f"{option}={value}")
        self._check_answers(this)
        if self.split == "":
            raise UsageError(f"{this}: split names no split", expected="split=NAME")
        if not self.pattern:
            raise UsageError(f"{this} has no pattern", expected="[NAME=]PATTERN")
        if not self.name.isprintable() or not self.name or set(self.name) & set("/,="):
            raise UsageError(
                f"source name {self.name!r} is not allowed", expected="letters, digits, - or _"
            )
        if self.epochs is not None and self.share is not None:
            raise UsageError(f"{this} has both epochs and share", fix="give one of them")
        check_range(f"{this}: epochs", self.epochs, *MIXING_RANGES["epochs"])
        check_range(f"{this}: share", self.share, *MIXING_RANGES["share"])
        if self.id in (self.of_answers or (self.tokens or self.text,)):
            raise UsageError(f"{this} uses field {self.id!r} both as id and as document")

    @property
    def of_answers(self) -> tuple[str, ...]:
        """The fields of a document with answers; empty if it has none."""
        named = (self.messages, self.context, self.prompt, self.answer)
        return tuple(name for name in named if name is not None)

    def _check_answers(self, this: str) -> None:
        given = [option for option in ANSWER_OPTIONS if getattr(self, option) is not None]
        if given and (self.tokens is not None or self.text != "text"):
            other = "tokens" if self.tokens is not None else "text"
            raise _both(this, other, given[0])
        if self.messages is not None and len(given) > 1:
            raise _both(this, given[0], "messages")
        if self.messages is None:
            lacking = [o for o in ("prompt", "answer") if given and getattr(self, o) is None]
            if lacking:
                raise UsageError(
                    f"{this} has {given[0]}={getattr(self, given[0])} and no {lacking[0]}",
                    expected="prompt=FIELD,answer=FIELD, and optionally context=FIELD and "
                    "template=FILE",
                )
        twice = sorted({name for name in self.of_answers if self.of_answers.count(name) > 1})
        if twice:
            raise UsageError(
                f"{this} takes the field {twice[0]!r} twice",
                expected="a field of its own for prompt, answer and context",
            )

    @property
    def is_mixed(self) -> bool:
        """Whether it says how often it is seen."""
        return self.epochs is not None or self.share is not None

    @property
    def mixing(self) -> dict[str, float]:
        """Its entry in the settings' `mixing`, if it is mixed."""
        return {"share": self.share} if self.share is not None else {"epochs": self.epochs or 0.0}


def _both(this: str, one: str, other: str) -> UsageError:
    return UsageError(
        f"{this} has both {one} and {other}",
        expected="text=FIELD for plain documents, tokens=FIELD for token ids, prompt=FIELD with "
        "answer=FIELD for questions and answers, or messages=FIELD for conversations",
    )


def _refuse_unwritable(what: str, text: str) -> None:
    """Refuses what no path and no manifest can hold: bytes that are not UTF-8, and NUL."""
    if "\0" in text or text.encode("utf-8", "replace").decode() != text:
        raise UsageError(f"{what} is {text!a}", expected="UTF-8 text without NUL characters")


SOURCE_KINDS = kinds(SourceConfig)
MIXING_RANGES = {"epochs": (0, 1000), "share": (0, 1)}


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """What a token store depends on.

    Attributes:
        sources: the corpora.
        tokenizer: path or URL of a tokenizer.json, or of a folder that contains one.
        tokenizer_backend: the library that encodes text.
        eos_token: the token that ends every document; None to find it in the vocabulary.
        bos: whether documents begin with a BOS token; None to do as the tokenizer's files say.
        special_tokens_in_text: whether the text of a special token becomes that token.
        min_tokens: documents with fewer tokens are dropped, BOS and EOS not counted.
        split_bytes: bytes of input text per work unit.
        on_bad_file: whether a file that cannot be read ends the job or is left out.
        max_rejected: the fraction of records that may be rejected.
        max_record_bytes: the bytes that a record may have. A longer one ends the job, so the limit
            changes no output.
    """

    sources: tuple[SourceConfig, ...]
    tokenizer: str
    tokenizer_backend: BackendChoice = "auto"
    eos_token: str | None = None
    bos: bool | None = None
    special_tokens_in_text: Literal["ordinary", "allow"] = "ordinary"
    min_tokens: Size = 1
    split_bytes: Size = 32 << 20
    on_bad_file: Literal["fail", "skip"] = "fail"
    max_rejected: float = 0.01
    max_record_bytes: Size = 256 << 20

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            patterns = [source.pattern for source in self.sources if source.name == twice[0]]
            raise UsageError(
                f"two sources have the name {twice[0]!r}",
                where=" and ".join(patterns[:2]),
                fix="give each its own: NAME=PATTERN, or `name` in [[source]]",
            )
        if not names:
            raise UsageError("no source is given", fix="name one with --source PATTERN")
        check_range("min_tokens", self.min_tokens, 1, None)
        check_range("split_bytes", self.split_bytes, MIN_SPLIT_BYTES, 1 << 40)
        check_range("max_rejected", self.max_rejected, 0, 1)
        check_range("max_record_bytes", self.max_record_bytes, 1, MAX_RECORD_BYTES)


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """What a shard set depends on besides its token store.

    Attributes:
        window: window length L in tokens.
        packing: how documents are packed into windows, see `core.packing`.
        tau: the effective context, in tokens, at which the tail begins; None for window // 4.
        alpha, gamma, epsilon, max_weight: see `core.parameters.Exact`.
        validation_fraction: the fraction of documents held out for validation, by content hash.
        token_budget: training tokens; None for all that the sources have.
        group_tokens: tokens per shuffle group. A part of the store is never divided, so the value
            may be smaller than the window.
        shard_bytes: approximate size of a shard file in bytes.
        dedup: whether documents with equal content are dropped ("exact") or kept ("none").
        seed: the seed of every shuffle and random draw.
        mixing: source -> {"epochs": x} or {"share": x}; a source that is missing has {"epochs": 1}.
    """

    window: Size = 8192
    packing: PackingName = "concat"
    tau: Size | None = None
    alpha: float = Exact.alpha
    gamma: float = Exact.gamma
    epsilon: float = Exact.epsilon
    max_weight: float | None = Exact.max_weight
    validation_fraction: float = 0.01
    token_budget: Size | None = None
    group_tokens: Size = 256_000_000
    shard_bytes: Size = 256 << 20
    dedup: Literal["none", "exact"] = "none"
    seed: int = 0
    mixing: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_range("window", self.window, 2, MAX_WINDOW)
        check_range("tau", self.tau, 0, self.window - 1)
        _ = self.exact  # its parameters are checked where it is made
        check_range("validation_fraction", self.validation_fraction, 0, 0.999)
        check_range("token_budget", self.token_budget, 1, None)
        check_range("group_tokens", self.group_tokens, 1, 1 << 31)
        check_range("shard_bytes", self.shard_bytes, 1, 1 << 40)
        check_range("seed", self.seed, 0, (1 << 64) - 1)
        self._check_shares()

    def _check_shares(self) -> None:
        shares = {name: m["share"] for name, m in self.mixing.items() if "share" in m}
        if shares and self.token_budget is None:
            raise UsageError(
                "a share is a fraction of the token budget, and no budget is given",
                fix="give --token-budget, or epochs instead of share",
            )
        total = sum(Fraction(str(share)) for share in shares.values())
        if total > 1:
            raise UsageError(f"the shares add up to {float(total):g}", expected="at most 1")

    @property
    def tail_start(self) -> int:
        """Tau, or its default, a quarter of the window."""
        return self.window // 4 if self.tau is None else self.tau

    @property
    def exact(self) -> Exact:
        """The parameters of the weighting."""
        try:
            return exact_of({**vars(self), "tau": self.tail_start})
        except ParameterError as error:
            raise UsageError(error.found, expected=error.expected) from None


class RunOptions(TypedDict, total=False):
    """What else a configuration file may say: places, mixing flags, and how the graph runs."""

    out: str
    store: str
    epochs: list[str]
    share: list[str]
    workers: int
    worker_type: WorkerType
    runner: str
    beam_args: list[str]


SETTINGS: dict[str, Any] = {
    **{name: f for name, f in TokenizeConfig.__dataclass_fields__.items() if name != "sources"},
    **{name: f for name, f in PackConfig.__dataclass_fields__.items() if name != "mixing"},
}
"""The fields of the two configurations, by the name of their setting."""

KINDS = {
    **kinds(TokenizeConfig, without=("sources",)),
    **kinds(PackConfig, without=("mixing",)),
    **kinds(RunOptions),
}
"""The kind of value that each setting and each run option takes."""


def parse_source(text: str) -> SourceConfig:
    """Reads a source from its flag.

    [NAME=]PATTERN[,text=FIELD][,id=FIELD][,tokens=FIELD][,epochs=X|share=X][,format=F]
    [,split=NAME], or in the place of text [,prompt=FIELD,answer=FIELD][,context=FIELD]
    [,template=FILE] or [,messages=FIELD]. A comma that no option follows belongs to the pattern.
    `naming` says which name a source has that is given none.

    Raises:
        UsageError: the flag has another form, an unknown option or a value out of range.
    """
    head, *pieces = text.split(",")
    options: dict[str, Any] = {}
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if equals and key in SOURCE_OPTIONS:
            options[key] = value
        elif equals and key.isidentifier():
            raise UsageError(
                f"--source {head}: unknown option {key!r}",
                expected=", ".join(SOURCE_OPTIONS),
                fix=suggestion(key, SOURCE_OPTIONS),
            )
        elif options:
            raise UsageError(
                f"--source {head}: {piece!r} is not an option", expected="OPTION=VALUE"
            )
        else:
            head += f",{piece}"
    for key in ("epochs", "share"):
        if key in options:
            options[key] = _number(f"--source {head}: {key}", options[key])
    name, pattern = split_name(head)
    if not pattern:
        raise UsageError(
            f"--source {text!r} has no pattern", expected="[NAME=]PATTERN[,OPTION=VALUE...]"
        )
    named = {} if name is None else {"name": name}
    return source_of_table({**named, "pattern": pattern, **options})


def source_of_table(table: Mapping[str, Any]) -> SourceConfig:
    """A source from its settings; one without a name has its file's, see `naming`.

    Raises:
        UsageError: a value is of another kind or out of range, or nothing can name the source.
    """
    answers = [option for option in ANSWER_OPTIONS if option in table]
    if "text" in table and answers:
        raise _both(f"source {table.get('name') or table['pattern']!r}", "text", answers[0])
    if "name" not in table:
        table = {"name": name_of(str(table["pattern"]), table.get("format")), **table}
    return SourceConfig(**table)


def parse_mixing(epochs: Iterable[str], shares: Iterable[str]) -> dict[str, dict[str, float]]:
    """Reads `mixing` from the values of --epochs and --share.

    Raises:
        UsageError: a value is not of the form NAME=X, out of range, or a source is named twice.
    """
    mixing: dict[str, dict[str, float]] = {}
    for kind, flags in (("epochs", epochs), ("share", shares)):
        for text in flags:
            name, equals, value = text.partition("=")
            if not equals:
                raise UsageError(f"--{kind} {text!r} has no value", expected="NAME=X")
            if name in mixing:
                raise UsageError(
                    f"--epochs and --share name source {name!r} twice", fix="name it once"
                )
            x = _number(f"--{kind} {name}", value)
            check_range(f"--{kind} {name}", x, *MIXING_RANGES[kind])
            mixing[name] = {kind: x}
    return mixing


def read_settings(path: str) -> dict[str, Any]:
    """Reads the settings in a TOML file, by name; `source` is a list of tables.

    Raises:
        UsageError: the file is missing or is not valid TOML, or a name or value is not allowed.
    """
    values = read_toml(path, (*KINDS, "source"))
    sources = values.pop("source", None)
    found = {name: typed(name, value, KINDS[name], path) for name, value in values.items()}
    check_range("workers", found.get("workers"), 1, MAX_WORKERS, where=path)
    if sources is None:
        return found
    _check_source_tables(sources, path)
    return {**found, "source": sources}


def _check_source_tables(tables: Any, path: str) -> None:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError("source is not a list of tables", where=path, expected="[[source]]")
    for table in tables:
        unknown = sorted(set(table) - {"name", "pattern", *SOURCE_OPTIONS})
        if unknown or "pattern" not in table:
            what = f"has unknown option {unknown[0]!r}" if unknown else "lacks 'pattern'"
            raise UsageError(
                f"[[source]] {what}",
                where=path,
                expected=f"pattern, and optionally name, {', '.join(SOURCE_OPTIONS)}",
            )


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{what} is {text!r}", expected="a number") from None
