"""The configuration of a job: TOML file and flags, one set of names, checked where it is made.

    [[source]] tables and --source        Source, and how it is mixed
    tokenizer, min_tokens, ...            TokenizeConfig: what the token store depends on
    window, packing, tau, ...             PackConfig: what the shards depend on
    workers, runner, ...                  runner.RunSettings: what nothing depends on

A flag overrides the file. A setting's name is its flag's, with underscores.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

from ..schemas.errors import UsageError
from ..schemas.settings import read_toml, suggestion
from ..schemas.sizes import parse_size
from .core.choices import (
    FORMATS,
    PACKINGS,
    BackendChoice,
    Format,
    PackingName,
    WorkerType,
)
from .core.parameters import Exact, ParameterError, exact_of

__all__ = [
    "CHOICES",
    "MAX_WORKERS",
    "RUN_SETTINGS",
    "SETTINGS",
    "PackConfig",
    "SourceConfig",
    "TokenizeConfig",
    "parse_mixing",
    "parse_source",
    "read_settings",
]

Dedup = Literal["none", "exact"]
DEDUPS: tuple[Dedup, ...] = get_args(Dedup)
MAX_WORKERS = 1024
MAX_WINDOW = 1 << 24
"""Planning has several arrays with an entry for each length up to the window's."""
MIN_SPLIT_BYTES = 1000
"""Each split becomes files of its own; see also `sources.MAX_SPLITS`."""
SOURCE_OPTIONS = ("text", "id", "tokens", "epochs", "share", "format")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One `--source` or `[[source]]`.

    Attributes:
        name: what tables and manifests call it.
        pattern: a file, folder, glob or URL.
        text, id, tokens: fields of a record; `tokens` for pre-tokenized documents.
        epochs: how often it is seen.
        share: its part of the token budget.
        format: of its files, where their names do not say.
    """

    name: str
    pattern: str
    text: str = "text"
    id: str = "id"
    tokens: str | None = None
    epochs: float | None = None
    share: float | None = None
    format: Format | None = None

    def __post_init__(self) -> None:
        for name in ("name", "pattern", "text", "id", "tokens", "format"):
            self._check_type(name, str, "a text")
        for name in ("epochs", "share"):
            self._check_type(name, (int, float), "a number")
        if self.format not in (None, *FORMATS):
            raise UsageError(
                f"source {self.name!r} has format {self.format!r}", expected=", ".join(FORMATS)
            )
        for option in ("text", "id", "tokens"):
            _check(
                getattr(self, option) != "",
                f"source {self.name!r}: {option} without a field",
                f"{option}=FIELD",
            )
        _check(bool(self.pattern), f"source {self.name!r} without a pattern", "NAME=PATTERN")
        _check(
            bool(self.name) and not set(self.name) & set("/,="),
            f"source name {self.name!r}",
            "letters, digits, - or _",
        )
        if self.epochs is not None and self.share is not None:
            raise UsageError(
                f"source {self.name!r} has both epochs and share", fix="give one of them"
            )
        _check_range(f"source {self.name!r}: epochs", self.epochs, 0, 1000)
        _check_range(f"source {self.name!r}: share", self.share, 0, 1)
        if self.id == (self.tokens or self.text):
            raise UsageError(
                f"source {self.name!r} reads one field as id and as document: {self.id!r}"
            )

    def _check_type(self, name: str, wanted: Any, words: str) -> None:
        value = getattr(self, name)
        optional = name not in ("name", "pattern", "text", "id")
        if not ((value is None and optional) or (isinstance(value, wanted) and value is not True)):
            raise UsageError(f"source {self.name!r}: {name} is {value!r}", expected=words)

    @property
    def is_mixed(self) -> bool:
        """Whether it says how often it is to be seen."""
        return self.epochs is not None or self.share is not None

    @property
    def mixing(self) -> dict[str, float]:
        """Its entry in the settings' `mixing`, if it is mixed."""
        return {"share": self.share} if self.share is not None else {"epochs": self.epochs or 0.0}


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """What a token store depends on.

    Attributes:
        sources: the corpora.
        tokenizer: path or URL of a tokenizer.json or of a folder that has one.
        tokenizer_backend: which library encodes.
        eos_token: ends documents; None to find it.
        bos: whether documents get a BOS; None as the tokenizer's template says.
        special_tokens_in_text: whether the text of a special token becomes that token.
        min_tokens: shorter documents are dropped, BOS and EOS not counted.
        split_bytes: input text of a unit of work.
        on_bad_file: whether a file that cannot be read ends the job or is left out.
        max_rejected: fraction of records that may be rejected.
    """

    sources: tuple[SourceConfig, ...]
    tokenizer: str
    tokenizer_backend: BackendChoice = "auto"
    eos_token: str | None = None
    bos: bool | None = None
    special_tokens_in_text: Literal["ordinary", "allow"] = "ordinary"
    min_tokens: int = 1
    split_bytes: int = 32 << 20
    on_bad_file: Literal["fail", "skip"] = "fail"
    max_rejected: float = 0.01

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"two sources have the name {twice[0]!r}", fix="give each its own name"
            )
        if not names:
            raise UsageError("there is no source", fix="name one with --source NAME=PATTERN")
        _check_range("min_tokens", self.min_tokens, 1, None)
        _check_range("split_bytes", self.split_bytes, MIN_SPLIT_BYTES, 1 << 40)
        _check_range("max_rejected", self.max_rejected, 0, 1)


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """What a shard set depends on beside its token store.

    Attributes:
        window: window length L in tokens.
        packing: "concat" or "best_fit".
        tau: where the tail begins, in tokens of effective context; None for window // 4.
        alpha, gamma, epsilon, max_weight: see `parameters.Exact`.
        validation_fraction: of documents, by content hash.
        token_budget: training tokens, or None for what the sources have.
        group_tokens: scope of the shuffle; a part is never divided, so it may be below the window.
        shard_bytes: size of a shard.
        dedup: whether documents of equal content are kept.
        seed: of every shuffle and draw.
        mixing: source -> {"epochs": x} or {"share": x}; {"epochs": 1} where it is not named.
    """

    window: int = 8192
    packing: PackingName = "concat"
    tau: int | None = None
    alpha: float = Exact.alpha
    gamma: float = Exact.gamma
    epsilon: float = Exact.epsilon
    max_weight: float | None = Exact.max_weight
    validation_fraction: float = 0.01
    token_budget: int | None = None
    group_tokens: int = 256_000_000
    shard_bytes: int = 256 << 20
    dedup: Dedup = "none"
    seed: int = 0
    mixing: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_range("window", self.window, 2, MAX_WINDOW)
        _check_range("tau", self.tau, 0, self.window - 1)
        _ = self.exact  # its parameters are checked where it is made
        _check_range("validation_fraction", self.validation_fraction, 0, 0.999)
        _check_range("token_budget", self.token_budget, 1, None)
        _check_range("group_tokens", self.group_tokens, 1, 1 << 31)
        _check_range("shard_bytes", self.shard_bytes, 1, 1 << 40)
        _check_range("seed", self.seed, 0, (1 << 64) - 1)
        self._check_shares()

    def _check_shares(self) -> None:
        shares = {name: m["share"] for name, m in self.mixing.items() if "share" in m}
        if shares and self.token_budget is None:
            raise UsageError(
                "a share is a part of the token budget, and there is none",
                fix="give --token-budget, or epochs instead of share",
            )
        total = sum(Fraction(str(share)) for share in shares.values())
        if total > 1:
            raise UsageError(f"the shares add up to {float(total):g}", expected="at most 1")

    @property
    def tail_start(self) -> int:
        """Tau, or its default for the window."""
        return self.window // 4 if self.tau is None else self.tau

    @property
    def exact(self) -> Exact:
        """The parameters of the weighting."""
        try:
            return exact_of({**vars(self), "tau": self.tail_start})
        except ParameterError as error:
            raise UsageError(error.found, expected=error.expected) from None


SETTINGS: dict[str, Any] = {
    **{name: f for name, f in TokenizeConfig.__dataclass_fields__.items() if name != "sources"},
    **{name: f for name, f in PackConfig.__dataclass_fields__.items() if name != "mixing"},
}
"""Every setting of the two configurations, by name."""
RUN_SETTINGS = ("out", "store", "epochs", "share", "workers", "worker_type", "runner", "beam_args")
"""What a configuration file may say beside them."""
SIZES = (
    "min_tokens",
    "split_bytes",
    "window",
    "tau",
    "token_budget",
    "group_tokens",
    "shard_bytes",
)
CHOICES: dict[str, tuple[str, ...]] = {
    "tokenizer_backend": get_args(BackendChoice),
    "special_tokens_in_text": ("ordinary", "allow"),
    "on_bad_file": ("fail", "skip"),
    "packing": PACKINGS,
    "dedup": DEDUPS,
    "worker_type": get_args(WorkerType),
}


def parse_source(text: str) -> SourceConfig:
    """A source from its flag.

    NAME=PATTERN[,text=FIELD][,id=FIELD][,tokens=FIELD][,epochs=X|share=X][,format=F], where commas
    that no known option follows belong to the pattern.
    """
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise UsageError(
            f"--source {text!r} has no pattern", expected="NAME=PATTERN[,OPTION=VALUE...]"
        )
    pattern, *pieces = rest.split(",")
    options: dict[str, Any] = {}
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if equals and key in SOURCE_OPTIONS:
            options[key] = value
        elif equals and key.isidentifier():
            raise UsageError(
                f"--source {name}: no option {key!r}",
                expected=", ".join(SOURCE_OPTIONS),
                fix=suggestion(key, SOURCE_OPTIONS),
            )
        elif options:
            raise UsageError(f"--source {name}: {piece!r} is no option", expected="OPTION=VALUE")
        else:
            pattern += f",{piece}"
    for key in ("epochs", "share"):
        if key in options:
            options[key] = _number(f"--source {name}: {key}", options[key])
    return SourceConfig(name=name, pattern=pattern, **options)


def parse_mixing(epochs: Iterable[str], shares: Iterable[str]) -> dict[str, dict[str, float]]:
    """`mixing` from flags of the form NAME=X."""
    mixing: dict[str, dict[str, float]] = {}
    for kind, flags in (("epochs", epochs), ("share", shares)):
        for text in flags:
            name, equals, value = text.partition("=")
            if not equals:
                raise UsageError(f"--{kind} {text!r}", expected="NAME=X")
            if name in mixing:
                raise UsageError(
                    f"source {name!r} is mixed twice", fix="give one of epochs and share, once"
                )
            x = _number(f"--{kind} {name}", value)
            _check_range(f"--{kind} {name}", x, 0, 1000 if kind == "epochs" else 1)
            mixing[name] = {kind: x}
    return mixing


def read_settings(path: str) -> dict[str, Any]:
    """The settings of a TOML file by name, and `source`, a list of tables.

    Raises:
        UsageError: it is missing, no TOML, or a name or value is not allowed.
    """
    values = read_toml(path, (*SETTINGS, *RUN_SETTINGS, "source"))
    _check_source_tables(values.get("source", []), path)
    return {name: _typed(name, value, path) for name, value in values.items()}


def _check_source_tables(tables: Any, path: str) -> None:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError("source is not a list of tables", where=path, expected="[[source]]")
    for table in tables:
        unknown = sorted(set(table) - {"name", "pattern", *SOURCE_OPTIONS})
        missing = sorted({"name", "pattern"} - set(table))
        if unknown or missing:
            what = f"has no option {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
            raise UsageError(
                f"[[source]] {what}",
                where=path,
                expected=f"name, pattern, and optionally {', '.join(SOURCE_OPTIONS)}",
            )


def _typed(name: str, value: Any, path: str) -> Any:
    """A value of the file as its flag would give it."""
    if name in CHOICES and value not in CHOICES[name]:
        raise UsageError(f"{name} is {value!r}", where=path, expected=" or ".join(CHOICES[name]))
    if name in SIZES and isinstance(value, str):
        try:
            return parse_size(value)
        except ValueError as error:
            raise UsageError(f"{name}: {error}", where=path) from None
    wanted = _type_of(name)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(f"{name} is {value!r}", where=path, expected=_TYPE_WORDS[wanted])
    if name == "workers" and not 1 <= value <= MAX_WORKERS:
        raise UsageError(f"workers is {value}", where=path, expected=f"1 to {MAX_WORKERS:,}")
    if wanted is list and name != "source":
        _check_texts(name, value, path)
    return float(value) if wanted == (int, float) else value


def _check_texts(name: str, values: Any, path: str) -> None:
    if not all(isinstance(value, str) for value in values):
        raise UsageError(f"{name} is {values!r}", where=path, expected="a list of texts")


_TYPE_WORDS: dict[Any, str] = {
    int: "a whole number",
    (int, float): "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
}


def _type_of(name: str) -> Any:
    if name in ("source", "epochs", "share", "beam_args"):
        return list
    if name in (*SIZES, "seed", "workers"):
        return int
    floats = ("max_rejected", "alpha", "gamma", "epsilon", "max_weight", "validation_fraction")
    return (int, float) if name in floats else bool if name == "bos" else str


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{what} is {text!r}", expected="a number") from None


def _check(condition: bool, found: str, expected: str) -> None:
    if not condition:
        raise UsageError(f"{found} is not allowed", expected=expected)


def _check_range(name: str, value: float | None, low: float, high: float | None) -> None:
    """NaN is in no range."""
    if value is None or (value >= low and (high is None or value <= high)):
        return
    wanted = f"at least {low:,}" if high is None else f"{low:,} to {high:,}"
    raise UsageError(f"{name} is {value:,}", expected=wanted)
