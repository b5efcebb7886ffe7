"""The data of NoLiMa, from the folder that a user has downloaded. Nothing of them is part of this.

DIR/needlesets/<name>.json           a list of needles, with their questions and tests
DIR/haystack/rand_shuffle/*.txt      shuffled books
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import xxhash

from ....schemas.errors import FormatError, UsageError
from ....schemas.json_text import parse_json
from ....schemas.regular import read_regular

__all__ = ["Books", "Test", "check_given", "read_books", "read_tests"]

NEEDLE_SETS = "needlesets"
BOOKS = "haystack/rand_shuffle"

HAYSTACK, QUESTION, NAME = "{haystack}", "{question}", "{CHAR}"
"""What a template and a needle have in the places of these."""

WHERE = (
    "download https://huggingface.co/datasets/amodaresi/NoLiMa and give --nolima DIR with the "
    f"folders {NEEDLE_SETS} and {BOOKS}. Its needle sets are under the Adobe Research License: for "
    "research that is not commercial"
)


@dataclass(frozen=True, kw_only=True)
class Test:
    """A needle with a question, and what its places are filled with.

    Attributes:
        name: of the needle, the type of question and the test.
        template: with {haystack} and {question}; the system's prompt stands before it.
        needle: with {CHAR}.
        question: as it is asked.
        distractor: a sentence that is no answer; None for none.
        names: any of these may be {CHAR}, and is then the answer.
        gold: other answers that count as well; empty for the name alone.
    """

    name: str
    template: str
    needle: str
    question: str
    distractor: str | None
    names: tuple[str, ...]
    gold: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Books:
    """The haystacks.

    Attributes:
        texts: the books, by the names of their files.
        digest: xxh3-128 of all of them.
    """

    texts: tuple[str, ...]
    digest: str


def check_given(folder: str | None) -> Path:
    """The folder with the data.

    Raises:
        UsageError: none is given, or it is not there.
    """
    if folder is None or not Path(folder).is_dir():
        raise UsageError(
            "the suite nolima reads data that exactcpt does not bring along"
            if folder is None
            else "there is no such folder",
            where=folder,
            fix=f"{WHERE}; the suite `latent` needs no data",
        )
    return Path(folder)


def read_books(folder: Path) -> Books:
    """Reads the haystacks.

    Raises:
        UsageError: there are none.
        FormatError: one is not UTF-8.
    """
    paths = sorted((folder / BOOKS).glob("*.txt"))
    if not paths:
        raise UsageError("there are no books", where=str(folder / BOOKS), fix=WHERE)
    digest = xxhash.xxh3_128()
    texts: list[str] = []
    for path in paths:
        data = read_regular(path)
        digest.update(len(data).to_bytes(8, "little") + data)
        try:
            texts.append(data.decode())
        except UnicodeDecodeError as error:
            raise FormatError(f"the book is not UTF-8: {error}", where=str(path)) from None
    return Books(texts=tuple(texts), digest=digest.hexdigest())


def read_tests(folder: Path, needle_set: str) -> tuple[list[Test], str]:
    """Reads a needle set.

    Args:
        folder: with the data.
        needle_set: name of its file, without .json.

    Returns:
        Its tests, by needle, type of question and test; and the xxh3-128 of the file.

    Raises:
        UsageError: there is no such needle set.
        FormatError: it has another form.
    """
    path = folder / NEEDLE_SETS / f"{needle_set}.json"
    if not path.is_file():
        there = sorted(each.stem for each in path.parent.glob("*.json"))
        raise UsageError(
            f"there is no needle set {needle_set!r}",
            where=str(path),
            expected=f"--tasks with any of {', '.join(there)}" if there else None,
            fix=None if there else WHERE,
        )
    data = read_regular(path)
    try:
        found = parse_json(data)
    except ValueError as error:
        raise FormatError(f"the needle set is not JSON: {error}", where=str(path)) from None
    if not isinstance(found, list) or not found:
        _refuse(path, "the needle set", "a list of needles")
    tests = [
        test
        for number, needle in enumerate(cast("list[Any]", found), 1)
        for test in _tests(needle, path, f"needle {number}")
    ]
    return tests, xxhash.xxh3_128_hexdigest(data)


def _tests(needle: Any, path: Path, which: str) -> Iterator[Test]:
    if not isinstance(needle, dict):
        _refuse(path, which, "an object")
    fields = cast("dict[str, Any]", needle)
    which = f"{which}, {fields.get('id', 'without an id')}"
    template = _text(fields, "task_template", path, which)
    sentence = _text(fields, "needle", path, which)
    for part, name in ((HAYSTACK, template), (QUESTION, template), (NAME, sentence)):
        if part not in name:
            _refuse(path, which, f"{part} in its {'needle' if part == NAME else 'task_template'}")
    system = fields.get("system_prompt") or ""
    names = _texts(fields, "character_set", path, which)
    if len({*names}) < 2:
        _refuse(path, which, "two or more different names in its character_set")
    distractors = _table(fields, "distractors", path, which, default={})
    for kind, question in _table(fields, "questions", path, which).items():
        for test, asked in _table(fields, "tests", path, which).items():
            if not isinstance(asked, dict):
                _refuse(path, f"{which}, test {test}", "an object")
            inside = f"{which}, test {test}"
            arguments = _texts(asked, "input_args", path, inside)
            gold = _texts(asked, "gold_answers", path, inside) if asked.get("gold_answers") else ()
            distractor = distractors.get(kind)
            yield Test(
                name=f"{fields.get('id', which)} {kind} {test}",
                template=f"{system}\n\n{template}" if system else template,
                needle=_filled(sentence, arguments),
                question=_filled(_checked(question, path, inside), arguments),
                distractor=None if distractor is None else _filled(str(distractor), arguments),
                names=names,
                gold=gold,
            )


def _filled(text: str, arguments: tuple[str, ...]) -> str:
    """A text with the arguments in the places {1}, {2}, ..."""
    for number, argument in enumerate(arguments, 1):
        text = text.replace("{" + str(number) + "}", argument)
    return text


def _text(fields: Mapping[str, Any], name: str, path: Path, which: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        _refuse(path, which, f"a text in {name!r}")
    return value


def _checked(value: Any, path: Path, which: str) -> str:
    if not isinstance(value, str):
        _refuse(path, which, "a text for each type of question")
    return value


def _texts(fields: Mapping[str, Any], name: str, path: Path, which: str) -> tuple[str, ...]:
    value = fields.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        _refuse(path, which, f"a list of texts in {name!r}")
    return tuple(cast("list[str]", value))


def _table(
    fields: Mapping[str, Any], name: str, path: Path, which: str, default: Any = None
) -> dict[str, Any]:
    value = fields.get(name) or default
    if not isinstance(value, dict):
        _refuse(path, which, f"an object in {name!r}")
    return cast("dict[str, Any]", value)


def _refuse(path: Path, which: str, expected: str) -> NoReturn:
    raise FormatError(
        f"{which} has another form than NoLiMa's",
        where=str(path),
        expected=expected,
        fix=WHERE,
    )
