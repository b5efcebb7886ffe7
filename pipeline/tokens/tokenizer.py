"""A tokenizer's files: its vocabulary, and which tokens begin, end and pad documents."""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import PurePosixPath
from typing import Any

from ...schemas.errors import ExactcptError, UsageError
from ...schemas.hub import local_tokenizer
from ...schemas.pointers import refuse_pointer
from ...schemas.rust import is_of_library
from ...schemas.sizes import plural
from ..core.choices import Backend
from ..files.storage import open_input, resolve
from .encoding import Facts, facts_of
from .unusable import no_tokenizer, not_a_tokenizer

__all__ = [
    "TokenizerFile",
    "TokenizerSpec",
    "load_tokenizer",
    "reference_tokenizer",
]

DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>")
"""Tokens that end documents in base models; the first one in the vocabulary is used."""
LARGEST_ID = (1 << 31) - 1
"""Tokens are stored as int32."""


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """What a worker needs to tokenize.

    Attributes:
        url: where its tokenizer.json is.
        sha256: digest of that file.
        backend: the library that encodes.
        special_tokens_in_text: whether the text of a special token becomes that token.
        bos_id: put before every document, or None.
        eos_id: put after every document.
        pad_id: fills windows.
        largest_id: the largest id in the vocabulary.
        unk_id: stands for what the vocabulary lacks; None if there is no such id.
    """

    url: str
    sha256: str
    backend: Backend
    special_tokens_in_text: bool
    bos_id: int | None
    eos_id: int
    pad_id: int
    largest_id: int
    unk_id: int | None = None

    @property
    def boundaries(self) -> frozenset[int]:
        """The ids between documents: those that begin, end and pad them."""
        ids = (self.bos_id, self.eos_id, self.pad_id)
        return frozenset(i for i in ids if i is not None)


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer.json, with the tokenizer_config.json beside it if there is one.

    Attributes:
        json: the bytes of tokenizer.json.
        config: the content of tokenizer_config.json; empty if there is none.
        where: path or URL of tokenizer.json.
    """

    json: bytes
    config: dict[str, Any]
    where: str

    @cached_property
    def sha256(self) -> str:
        """Digest of tokenizer.json."""
        return hashlib.sha256(self.json).hexdigest()

    @property
    def largest_id(self) -> int:
        """The largest id in use, -1 if there is none; ids may have holes."""
        added = reference_tokenizer(self.json, False).get_added_tokens_decoder()
        return max(self.facts.largest_id, *added, -1)

    @cached_property
    def facts(self) -> Facts:
        """What tokenizer.json says of itself; a large one takes a tenth of a second to parse."""
        return facts_of(self.json)

    def id_of(self, token: str | None) -> int | None:
        """The id of a token; None if it is not in the vocabulary."""
        if token is None or not _is_utf8(token):
            return None
        return reference_tokenizer(self.json, False).token_to_id(token)

    def choose_eos(self, wanted: str | None) -> tuple[str, str | None]:
        """The token that ends documents, and a warning if the choice is doubtful.

        Args:
            wanted: the token asked for, or None to find one.

        Raises:
            UsageError: there is none, or the one asked for is not in the vocabulary.
        """
        if wanted is not None:
            if self.id_of(wanted) is None:
                raise self._no_token(f"the vocabulary has no token {wanted!r}")
            if wanted in self.facts.special_tokens:
                return wanted, None
            return wanted, (
                f"documents end with {wanted!r}, which is no special token: a document that "
                "contains it looks like several"
            )
        for token in DOCUMENT_ENDS:
            if self.id_of(token) is not None:
                return token, None
        named = _config_token(self.config, "eos_token")
        if named is None or self.id_of(named) is None:
            raise self._no_token("nothing says which token ends a document")
        warning = (
            f"documents end with {named!r}, the eos_token of tokenizer_config.json; in chat models "
            "that ends a turn, not a document: see --eos-token"
        )
        return named, warning

    def choose_bos(self, wanted: bool | None) -> tuple[int | None, str | None]:
        """The id put before documents, or None, and a warning if the choice is doubtful.

        Args:
            wanted: whether there is to be one; None to do as the tokenizer's own template does, or
                as `add_bos_token` of tokenizer_config.json asks if the template adds nothing.

        Raises:
            UsageError: a BOS is wanted, but nothing says which, or the template adds several.
        """
        if wanted is False:
            return None, None
        prefix = self._template_prefix()
        if len(prefix) > 1:
            raise UsageError(
                f"the tokenizer's template puts {len(prefix)} tokens before a text",
                where=self.where,
                expected="at most one",
                fix="use --no-bos",
            )
        asked = self.config.get("add_bos_token") if wanted is None else None
        if prefix:
            return prefix[0], self._doubt(prefix[0]) if asked is False else None
        named = _config_token(self.config, "bos_token")
        bos_id = self.id_of(named)
        if wanted and bos_id is None:
            raise UsageError(
                "--bos: nothing says which token begins a document",
                where=self.where,
                expected="a template that adds one, or a bos_token in tokenizer_config.json",
            )
        if wanted:
            return bos_id, None
        if asked is not True:
            return None, None
        if bos_id is None:
            return None, (
                "documents begin with no BOS: add_bos_token is true in tokenizer_config.json, but "
                "its bos_token is missing or not in the vocabulary"
            )
        return bos_id, (
            f"documents begin with {named!r}: add_bos_token is true in tokenizer_config.json, "
            "although the tokenizer's own template adds no token; --no-bos leaves it out"
        )

    def choose_pad(self, eos_id: int) -> int:
        """The id that fills windows: the pad token of tokenizer_config.json, or else EOS."""
        found = self.id_of(_config_token(self.config, "pad_token"))
        return eos_id if found is None else found

    def warnings(self) -> list[str]:
        """What is in the tokenizer's files and is not followed."""
        found: list[str] = []
        dropout = self.facts.dropout
        if dropout is not None:
            found.append(
                f"tokenizer.json has dropout {dropout:g}, which makes encoding random: it is "
                "switched off"
            )
        lacking = self._lacking()
        if lacking:
            token, number = lacking[0]
            found.append(
                f"tokenizer_config.json adds {plural(len(lacking), 'token')} that tokenizer.json "
                f"does not have under that id, such as {token!r} (id {number}): texts are encoded "
                "without"
            )
        return found

    def _doubt(self, bos_id: int) -> str:
        token = reference_tokenizer(self.json, False).id_to_token(bos_id)
        return (
            f"documents begin with {token!r}, as the tokenizer's own template says, although "
            "add_bos_token is false in tokenizer_config.json; --no-bos leaves it out"
        )

    def _lacking(self) -> list[tuple[str, str]]:
        """The added tokens of tokenizer_config.json that have another id here, or none."""
        added = self.config.get("added_tokens_decoder")
        if not isinstance(added, dict):
            return []
        described = [(number, each) for number, each in added.items() if isinstance(each, dict)]
        tokens = [(str(each.get("content")), number) for number, each in described]
        return [(token, number) for token, number in tokens if str(self.id_of(token)) != number]

    def _template_prefix(self) -> list[int]:
        """The ids that the tokenizer's template puts before a text, whatever the text is."""
        import tokenizers

        word = (1 << 32) - 1
        bare = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": word}, unk_token="a"))
        template = reference_tokenizer(self.json, False).post_processor
        if template is not None:
            bare.post_processor = template
        ids = bare.encode("a").ids
        return ids[: ids.index(word)]

    def _no_token(self, found: str) -> UsageError:
        shown = self.facts.special_tokens
        more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
        return UsageError(
            found,
            where=self.where,
            expected=(
                f"one of its special tokens: {', '.join(shown[:12])}{more}"
                if shown
                else "a token of the vocabulary; no token is marked as special"
            ),
            fix="name it with --eos-token",
        )


def _is_utf8(token: str) -> bool:
    """Whether a token can be in a vocabulary; an escape in JSON may be half a character."""
    try:
        token.encode()
    except UnicodeEncodeError:
        return False
    return True


def load_tokenizer(path: str) -> TokenizerFile:
    """Reads a tokenizer.json, given its path or URL, that of its folder, or a name on the hub.

    Raises:
        UsageError: as `hub.local_tokenizer`.
        ExactcptError: the file is missing, not a tokenizer, one without usable ids, or a pointer of
            Git LFS, or the tokenizer_config.json beside it is damaged.
    """
    path = local_tokenizer(path)
    fs, plain = resolve(path)
    url = f"{path.rstrip('/')}/tokenizer.json" if fs.isdir(plain) else path
    data = _read_if_there(url)
    if data is None:
        raise no_tokenizer(url, _names_in(fs, plain) if fs.isdir(plain) else ())
    beside = (
        str(PurePosixPath(url).with_name("tokenizer_config.json"))
        if "://" not in url
        else (url.rpartition("/")[0] + "/tokenizer_config.json")
    )
    try:
        reference_tokenizer(data, False)
    except BaseException as error:
        if not is_of_library(error):
            raise
        raise not_a_tokenizer(data, url, " ".join(str(error).split())[:200]) from None
    found = TokenizerFile(data, _parse_config(_read_if_there(beside), beside), url)
    if found.largest_id < 0:
        raise not_a_tokenizer(data, url, "its vocabulary is empty")
    if found.largest_id > LARGEST_ID:
        raise not_a_tokenizer(data, url, f"it has ids above {LARGEST_ID:,}")
    return found


def _names_in(fs: Any, folder: str) -> list[str]:
    return [path.rpartition("/")[2] for path in fs.ls(folder, detail=False)]


def _parse_config(data: bytes | None, where: str) -> dict[str, Any]:
    try:
        config = json.loads(data) if data is not None else {}
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ExactcptError("tokenizer_config.json is not a JSON object", where=where)
    return config


def _read_if_there(url: str) -> bytes | None:
    try:
        with open_input(url) as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    refuse_pointer(data, url)
    return data


def _config_token(config: dict[str, Any], name: str) -> str | None:
    """A token that tokenizer_config.json names, by its text or by an added token's description."""
    token = config.get(name)
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


@cache
def reference_tokenizer(data: bytes, special_tokens_in_text: bool) -> Any:
    """One shared instance per mode: `tokenizers` encodes from several threads at once."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_buffer(data)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = not special_tokens_in_text
    return tokenizer
