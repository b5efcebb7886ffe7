"""Questions about documents (RULER's `qa_1` and `qa_2`), among other documents.

Document 1:
Oxygen is ...
                          the documents of the question, related ones, any others; shuffled
Question: Who discovered oxygen?
Answer:| Joseph Priestley
"""

from collections.abc import Iterator, Sequence

from ....schemas.errors import UsageError
from ....schemas.sizes import plural
from ..draws import Draws
from ..vocabulary import Encode
from .drafts import Draft, Page, Piece
from .passages import Passages, Question
from .prose import sentences

__all__ = ["check_has", "question"]

INSTRUCTION = (
    "Answer the question at the end in a few words, from the documents below and nothing else.\n\n"
)
END = "\n\n"


def check_has(passages: Passages, count: int) -> None:
    """Checks that a file has enough questions.

    Raises:
        UsageError: it has fewer.
    """
    if len(passages.questions) < count:
        raise UsageError(
            f"the file has {plural(len(passages.questions), 'question')} with an answer",
            where=passages.name,
            expected=f"at least {count:,}, one for each item",
            fix=f"give --items {len(passages.questions)}",
        )


def question(asked: Question, documents: Sequence[str], page: Page, draws: Draws) -> Draft | None:
    """Makes an item of a question; None if the length has no room for its own documents.

    Args:
        asked: the question.
        documents: all documents of its file.
        page: of the task and length.
        draws: choose the other documents and their order.
    """
    encode = page.encode
    head, tail = encode(INSTRUCTION), encode(f"Question: {asked.text}\nAnswer:")
    answer = encode(f" {asked.answers[0]}")
    room = page.room(head, tail, answers=[answer])
    texts = {number: documents[number] for number in asked.needed}
    room -= sum(_tokens(i, text, encode) for i, text in enumerate(texts.values(), 1))
    if room < 0:
        return None
    for number in _others(asked, len(documents), draws):
        text = documents[number]
        tokens = _tokens(len(texts) + 1, text, encode)
        if tokens > room:
            text = _cut(len(texts) + 1, text, room, encode)
            if text:
                texts[number] = text
            break
        texts[number] = text
        room -= tokens
    order = draws.shuffled(list(texts))
    body: list[Piece] = []
    for i, number in enumerate(order, 1):
        ids = _document(i, texts[number], encode)
        body.append(Piece(ids, len(ids) if number in asked.evidence else None))
    return Draft(head=head, body=body, tail=tail, gold=asked.answers, answers=(answer,))


def _others(asked: Question, count: int, draws: Draws) -> Iterator[int]:
    """Yields the related documents, then any others, in orders that are drawn."""
    yield from draws.shuffled(asked.related)
    seen = {*asked.needed, *asked.related}
    while len(seen) < count:
        number = draws.below(count)
        if number not in seen:
            seen.add(number)
            yield number


def _document(number: int, text: str, encode: Encode) -> list[int]:
    return [*encode(f"Document {number}:\n"), *encode(text), *encode(END)]


def _tokens(number: int, text: str, encode: Encode) -> int:
    return len(_document(number, text, encode))


def _cut(number: int, text: str, room: int, encode: Encode) -> str:
    """The first whole sentences of a document that fit; empty if none does."""
    kept = ""
    for sentence in sentences(text):
        longer = f"{kept} {sentence}".strip()
        if _tokens(number, longer, encode) > room:
            return kept
        kept = longer
    return kept
