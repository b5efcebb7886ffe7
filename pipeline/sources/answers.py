"""Documents with answers: the text of a record in pieces, of which some are supervised.

    record      {"question": "Who?", "reply": "Mary Shelley", "passage": "Frankenstein is ..."}
    pieces      Frankenstein is ...\\n\\nQuestion: Who?\\nAnswer:    |   Mary Shelley
                read                                             |   supervised

Pieces are encoded one by one, so no token has characters of both. A word that follows a space is
mostly one token together with it, and a space that ends a prompt is a token that hardly any text
has. So the spaces before an answer belong to the answer, as in lm-evaluation-harness
(`TemplateLM._encode_pair` moves the spaces that end a context to the continuation).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...schemas.errors import UsageError
from ...schemas.regular import read_regular

__all__ = ["Form", "Piece", "UnusableError", "read_template"]

Piece = tuple[bytes, bool]
"""A text in UTF-8, and whether its tokens are supervised."""

QUESTION, ANSWER = "Question: {prompt}", "Answer: {answer}"
PLAIN = f"{QUESTION}\n{ANSWER}"
WITH_CONTEXT = f"{{context}}\n\n{PLAIN}"
FIELD = re.compile(r"\{(prompt|answer|context)\}")
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = (SYSTEM, USER, ASSISTANT)
MOST_TEMPLATE_BYTES = 1 << 20


class UnusableError(Exception):
    """The reason why a record has no document."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """Which fields of a record make a document with answers, and how.

    Either `prompt` and `answer` are given, or `messages` is.

    Attributes:
        prompt, answer: the fields with what is asked, and with what is to be learnt.
        context: the field with what the question is about; it may be null or empty.
        messages: the field with a list of objects, each with a `role` and a `content`.
        template: the document, with the fields in braces; None for the usual forms.
    """

    prompt: str | None = None
    answer: str | None = None
    context: str | None = None
    messages: str | None = None
    template: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are read."""
        named = (self.messages, self.context, self.prompt, self.answer)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def settings(self) -> dict[str, str]:
        """Its entry in the settings of a source."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def pieces(self, record: Mapping[str, Any]) -> list[Piece]:
        """The document of a record.

        Args:
            record: its fields; objects in them are mappings, or tuples of pairs.

        Raises:
            UnusableError: it has no document.
        """
        if self.messages is not None:
            found = _of_messages(self.messages, record)
        else:
            found = self._of_prompt(record)
        return [(text.encode(), supervised) for text, supervised in found if text]

    def _of_prompt(self, record: Mapping[str, Any]) -> list[tuple[str, bool]]:
        assert self.prompt is not None and self.answer is not None
        values = {
            "prompt": _text(self.prompt, record),
            "answer": _text(self.answer, record),
            "context": "",
        }
        if self.context is not None:
            values["context"] = _text(self.context, record, optional=True)
        if not values["answer"]:
            raise UnusableError(f"field {self.answer!r} is empty")
        usual = WITH_CONTEXT if values["context"] else PLAIN
        before, spaces = _divided(self.template or usual)
        read = FIELD.sub(lambda field: values[field[1]], before)
        return [(read, False), (spaces + values["answer"], True)]


def _divided(template: str) -> tuple[str, str]:
    """What precedes the answer in a template: text, and the spaces right before the answer."""
    before = template.removesuffix("{answer}")
    bare = before.rstrip(" ")
    return bare, before[len(bare) :]


def _text(name: str, record: Mapping[str, Any], *, optional: bool = False) -> str:
    if name not in record:
        raise UnusableError(f"no field {name!r}")
    value = record[name]
    if value is None and optional:
        return ""
    if value is None:
        raise UnusableError(f"field {name!r} is null")
    if not isinstance(value, str):
        raise UnusableError(f"field {name!r} is not a string")
    return _checked(value, f"field {name!r}")


def _of_messages(name: str, record: Mapping[str, Any]) -> list[tuple[str, bool]]:
    messages = record.get(name)
    if messages is None:
        raise UnusableError(f"field {name!r} is null" if name in record else f"no field {name!r}")
    if not isinstance(messages, Sequence) or isinstance(messages, str | tuple):
        raise UnusableError(f"field {name!r} is not a list of messages")
    found: list[tuple[str, bool]] = []
    read, role = "", None
    for number, message in enumerate(messages, 1):
        role, content = _message(message, number)
        if role == ASSISTANT:
            if not content:
                raise UnusableError(f"message {number}, an answer, is empty")
            cue, spaces = _divided(ANSWER)
            found += [(f"{read}\n{cue}" if read or found else cue, False), (spaces + content, True)]
            read = ""
        elif role == USER or content:
            text = QUESTION.format(prompt=content) if role == USER else content
            read += f"\n\n{text}" if read or found else text
    if role != ASSISTANT:
        raise UnusableError(
            f"the last message is not of the role {ASSISTANT}"
            if found
            else f"no message is an answer: none has the role {ASSISTANT}"
        )
    return found


def _message(message: Any, number: int) -> tuple[str, str]:
    """The role and the content of a message."""
    pairs = tuple(message.items()) if isinstance(message, Mapping) else message
    values = dict(pairs) if isinstance(pairs, tuple) else {}
    role, content = values.get("role"), values.get("content")
    if not (isinstance(role, str) and isinstance(content, str)):
        raise UnusableError(f"message {number} has no role or no content, or one is no string")
    if sum(name in ("role", "content") for name, _ in pairs) > 2:
        raise UnusableError(f"message {number} has a role or a content twice")
    if role not in ROLES:
        raise UnusableError(
            f"message {number} has the role {role[:40]!r}, which is none of {', '.join(ROLES)}"
        )
    return role, _checked(content, f"message {number}")


def _checked(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnusableError(f"{what} has a lone surrogate") from None
    return text


def read_template(path: str, *, context: bool) -> str:
    """The text of a template's file, without the newline that ends it.

    Args:
        path: of the file.
        context: whether records have a context.

    Raises:
        UsageError: there is no such file, or it is no template for these fields.
        FormatError: it is no ordinary file.
    """
    try:
        text = read_regular(Path(path), MOST_TEMPLATE_BYTES).decode("utf-8")
    except OSError as error:
        raise UsageError(
            f"the template cannot be read: {error.strerror}",
            where=path,
            expected="a file of text with {prompt} and {answer}",
        ) from None
    except UnicodeDecodeError:
        raise UsageError("the template is not UTF-8", where=path) from None
    template = re.sub(r"\r?\n\Z", "", text)
    wrong = _wrong_with(template, context=context)
    if wrong is not None:
        found, expected = wrong
        raise UsageError(f"the template {found}", where=path, expected=expected)
    return template


def _wrong_with(template: str, *, context: bool) -> tuple[str, str] | None:
    fields = FIELD.findall(template)
    if fields.count("answer") != 1:
        times = "no {answer}" if "answer" not in fields else "{answer} more than once"
        return f"has {times}", "{answer} once, at its end"
    if not template.endswith("{answer}"):
        return (
            "goes on after {answer}",
            "{answer} at its end: the token that ends documents follows it",
        )
    if "prompt" not in fields:
        return "has no {prompt}", "{prompt} somewhere before {answer}"
    if context and "context" not in fields:
        return "has no {context}, and the source names a context", "{context}, or no context=FIELD"
    if not context and "context" in fields:
        return "has {context}, and the source names none", "context=FIELD in the source"
    return None
