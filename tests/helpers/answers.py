"""Records with prompts and answers, and the documents that they have to become."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness import TOKENIZER
from tokenizers import Tokenizer

END = 0
"""The token that ends documents, of the bundled tokenizer."""
OPTIONS = "prompt=q,answer=a,context=c"

Document = tuple[list[int], list[bool]]
"""The ids, and whether each is supervised."""


def records(count: int, longest: int = 40) -> list[dict[str, Any]]:
    """Questions and answers of many lengths; every third has a context."""
    return [
        {
            "id": f"r{i}",
            "q": f"How many ships sail to port {i}?" + " And why?" * (i * 7 % 5),
            "a": f"{i} ships" + " of the line" * (i * 11 % 6),
            "c": "The sea is wide. " * (i * 13 % longest) if i % 3 == 0 else None,
        }
        for i in range(count)
    ]


def write(path: Path, some: Sequence[object]) -> Path:
    """Writes records as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in some))
    return path


def document(record: dict[str, Any]) -> Document:
    """The document of a record in the usual form."""
    context = f"{record['c']}\n\n" if record.get("c") else ""
    prompt = f"{context}Question: {record['q']}\nAnswer:"
    return of_pieces([(prompt, False), (f" {record['a']}", True)])


def of_pieces(pieces: Sequence[tuple[str, bool]]) -> Document:
    """The document of some texts: each is encoded alone, and the end token is supervised."""
    ids: list[int] = []
    supervised: list[bool] = []
    for text, counts in pieces:
        own = encode(text)
        ids += own
        supervised += [counts] * len(own)
    return [*ids, END], [*supervised, True]


def encode(text: str) -> list[int]:
    return _tokenizer().encode(text, add_special_tokens=False).ids


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(TOKENIZER))


def is_inside(spans: Sequence[dict[str, int]], length: int) -> list[bool]:
    """Whether each of `length` positions is in one of the spans of a column."""
    return [any(s["start"] <= at < s["stop"] for s in spans) for at in range(length)]
