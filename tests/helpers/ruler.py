"""RULER's items for tests, and solvers that find the answer of a prompt in its text alone."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count, takewhile

from evaluations import DATA, vocabulary

from exactcpt.training.evaluation.haystack import stream_of
from exactcpt.training.evaluation.ruler.drafts import Page
from exactcpt.training.evaluation.ruler.items import RulerItem, ruler_items
from exactcpt.training.evaluation.ruler.passages import Passages
from exactcpt.training.evaluation.ruler.prose import Prose, prose_of

VOCABULARY = vocabulary()
QUESTION = "\n\nQuestion: "


@cache
def prose() -> Prose:
    """The sentences of some technical proposals."""
    lines = (DATA / "proposals.jsonl").read_text().splitlines()[:40]
    texts = [json.loads(line)["text"] for line in lines]
    return prose_of(stream_of("proposals", [VOCABULARY.encode(t) for t in texts], (9,)), VOCABULARY)


def page(length: int, *, bos: tuple[int, ...] = (), budget: int = 0) -> Page:
    return Page(
        encode=VOCABULARY.piece, bos=bos, length=length, budget=budget, prose=prose()
    )  # fmt: skip


def items(
    task: str,
    length: int,
    number: int = 1,
    *,
    seed: int = 0,
    bos: tuple[int, ...] = (),
    passages: Passages | None = None,
) -> list[RulerItem]:
    """The first items of a task."""
    read = {} if passages is None else {task: passages}
    return list(ruler_items([task], page(length, bos=bos), read, count=number, seed=seed))


def text(item: RulerItem) -> str:
    return VOCABULARY.tokenizer.decode(item.ids.tolist())


def parts(prompt: str, begin: str) -> tuple[str, str]:
    """What is asked about, after any example, and the question."""
    body, _, question = prompt.rpartition(begin)[2].rpartition(QUESTION)
    return body, question


def secrets(body: str) -> list[tuple[str, str]]:
    """All keys and values that are stated."""
    return re.findall(r"The secret (?:number|code) of (\S+) is (\S+)\.(?=\s|$)", body)


def asked_keys(question: str) -> list[str]:
    owners = re.match(r"What (?:is|are) the (?:\d+ )?secret (?:number|code)s? of (.+)\?", question)
    assert owners is not None
    return re.split(r", | and ", owners[1])


def solve_needles(prompt: str) -> list[str]:
    body, question = parts(prompt, "Text:")
    return [value for key, value in secrets(body) if key in asked_keys(question)]


def assignments(body: str) -> list[tuple[str, str]]:
    return re.findall(r"VAR (\w+) = (?:VAR )?(\w+)\.", body)


def solve_variables(prompt: str) -> list[str]:
    """All variables that have the value, however long the way."""
    body, question = parts(prompt, "Text:")
    value = re.findall(r"the value (\d+)\?", question)[0]
    has: list[str] = []
    for _ in range(10):
        has += [name for name, given in assignments(body) if given in {value, *has} - {name}]
    return list(dict.fromkeys(has))


def solve_common(prompt: str) -> list[str]:
    entries = listed(prompt)
    counted = Counter(entries).most_common()
    assert counted[9][1] > counted[10][1]
    common = {word for word, _ in counted[:10]}
    return list(dict.fromkeys(word for word in entries if word in common))


def listed(prompt: str) -> list[str]:
    """The words of a list whose numbers are right."""
    body, _ = parts(prompt, "List:")
    found = re.findall(r" (\d+)\. (\S+)", body)
    assert [int(number) for number, _ in found] == [*range(1, len(found) + 1)]
    return [word for _, word in found]


def solve_frequent(prompt: str) -> list[str]:
    counted = coded(prompt).most_common()
    assert counted[0][0] == "..."
    assert len({often for _, often in counted[1:5]}) == 4
    return [word for word, _ in counted[1:4]]


def coded(prompt: str) -> Counter[str]:
    return Counter(parts(prompt, "Text:")[0].split())


SOLVERS: dict[str, Callable[[str], Sequence[str]]] = {
    **{
        f"niah_{name}": solve_needles
        for name in (
            "single_1", "single_2", "single_3", "multikey_1", "multikey_2", "multikey_3",
            "multivalue", "multiquery",
        )
    },
    "vt": solve_variables,
    "cwe": solve_common,
    "fwe": solve_frequent,
}  # fmt: skip


def zipf_counts(total: int) -> list[int]:
    """How often a text of some words has the word of each rank, by the formula, one by one."""
    zeta = 3.141592653589793**2 / 6
    return list(takewhile(bool, (int(total / (zeta * rank**2)) for rank in count(1))))
