"""Documents with questions, from the files of SQuAD 2.0 and HotpotQA."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ....schemas.errors import FormatError, UsageError
from ....schemas.json_text import parse_json
from ....schemas.regular import read_regular

__all__ = ["Passages", "Question", "read_hotpotqa", "read_squad"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about some documents.

    Attributes:
        text: the question.
        answers: all of them are right; the first one is scored.
        evidence: the documents that answer it, by number.
        needed: the documents that every prompt with it has; the evidence is among them.
        related: others on the same subject, which come before the rest.
    """

    text: str
    answers: tuple[str, ...]
    evidence: tuple[int, ...]
    needed: tuple[int, ...]
    related: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Passages:
    """Documents with questions.

    Attributes:
        name: the file, for errors.
        documents: their texts, all different.
        questions: in the order of the file.
    """

    name: str
    documents: tuple[str, ...]
    questions: tuple[Question, ...]


class _Numbers(dict[str, int]):
    """Numbers texts in the order in which they come; equal ones have one number."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]


def read_squad(path: Path) -> Passages:
    """The paragraphs of SQuAD 2.0, and those of its questions that they answer.

    Raises:
        UsageError: the file cannot be read.
        FormatError: it is something else, or has no answerable question.
    """
    return _read(
        path,
        _squad,
        "SQuAD 2.0",
        '{"data": [{"paragraphs": [{"context": "...", "qas": [{"question": "...", "answers": '
        '[{"text": "..."}], "is_impossible": false}]}]}]}',
    )


def read_hotpotqa(path: Path) -> Passages:
    """The paragraphs and questions of HotpotQA in its distractor setting.

    Raises:
        UsageError: the file cannot be read.
        FormatError: it is something else, has no question, or has one without its answer.
    """
    return _read(
        path,
        partial(_hotpotqa, path),
        "HotpotQA",
        '[{"question": "...", "answer": "...", "supporting_facts": [["title", 0]], '
        '"context": [["title", ["sentence"]]]}]',
    )


def _squad(file: Any, numbers: _Numbers) -> Iterator[Question]:
    for article in _list(file["data"]):
        paragraphs = _list(article["paragraphs"])
        own = list(dict.fromkeys(numbers[_text(each["context"])] for each in paragraphs))
        for paragraph in paragraphs:
            gold = numbers[paragraph["context"]]
            for asked in _list(paragraph["qas"]):
                answers = [_text(answer["text"]) for answer in _list(asked["answers"])]
                if answers and not asked.get("is_impossible", False):
                    yield Question(
                        text=_text(asked["question"]),
                        answers=tuple(dict.fromkeys(answers)),
                        evidence=(gold,),
                        needed=(gold,),
                        related=tuple(n for n in own if n != gold),
                    )


def _hotpotqa(path: Path, file: Any, numbers: _Numbers) -> Iterator[Question]:
    for asked in _list(file):
        titles = {_text(title) for title, _ in _list(asked["supporting_facts"])}
        needed: list[int] = []
        evidence: list[int] = []
        found: set[str] = set()
        for title, sentences in _list(asked["context"]):
            said = _text("".join(_list(sentences)))  # single sentences may be empty
            number = numbers[f"{_text(title)}\n{said}"]
            needed.append(number)
            if title in titles:
                evidence.append(number)
                found.add(title)
        if found < titles:
            raise FormatError(
                f"the question {_text(asked['question'])!r} is not answered by its own paragraphs: "
                f"{min(titles - found)!r} is not among them",
                where=str(path),
                expected="HotpotQA in the distractor setting",
                fix="give hotpot_dev_distractor_v1.json, not the file of the full wiki",
            )
        yield Question(
            text=_text(asked["question"]),
            answers=(_text(asked["answer"]),),
            evidence=tuple(evidence),
            needed=tuple(dict.fromkeys(needed)),
            related=(),
        )


def _read(
    path: Path, parse: Callable[[Any, _Numbers], Iterator[Question]], what: str, shape: str
) -> Passages:
    try:
        data = read_regular(path)
    except OSError as error:
        raise UsageError(
            f"the file of {what} cannot be read: {error.strerror}", where=str(path)
        ) from None
    numbers = _Numbers()
    try:
        questions = tuple(parse(parse_json(data), numbers))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FormatError(
            f"this is not a file of {what}", where=str(path), expected=f"JSON like {shape}"
        ) from None
    if not questions:
        raise FormatError(f"the file of {what} has no question with an answer", where=str(path))
    return Passages(name=str(path), documents=tuple(numbers), questions=questions)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value  # pyright: ignore[reportUnknownVariableType]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError
    return value
