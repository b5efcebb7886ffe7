"""A made-up folder in the form of NoLiMa's data, with none of its needles, questions or books."""

import json
from pathlib import Path
from typing import Any

NAMES = ("Bela", "Cor", "Dagny", "Eino")

NEEDLES: list[dict[str, Any]] = [
    {
        "id": "0001",
        "system_prompt": "Read with care.",
        "task_template": "Some pages of a book:\n\n{haystack}\n\nNow answer.\n{question}",
        "needle": "By the way, {CHAR} polished the {1} all day.",
        "questions": {
            "onehop": "Who made something of {2} shine?",
            "twohop": "Who made something from a mine shine?",
        },
        "tests": {
            "A": {"input_args": ["teapot", "silver"]},
            "B": {"input_args": ["crown", "gold"]},
        },
        "character_set": [*NAMES],
    },
    {
        "id": "0002",
        "system_prompt": "",
        "task_template": "{haystack}\n\n{question}",
        "needle": "In the end {CHAR} could not read the {1}.",
        "questions": {"onehop": "Who does not know {2}?"},
        "distractors": {"onehop": "Nobody learned {2} that year."},
        "tests": {
            "C": {"input_args": ["runes", "Old Norse"], "gold_answers": ["the clerk"]},
        },
        "character_set": [*NAMES],
    },
]


def write_nolima(folder: Path, *, books: int = 2, lines: int = 400) -> Path:
    """Writes the folder; the books have lines of a few words each."""
    (folder / "needlesets").mkdir(parents=True)
    shuffled = folder / "haystack" / "rand_shuffle"
    shuffled.mkdir(parents=True)
    (folder / "needlesets" / "needle_set.json").write_text(json.dumps(NEEDLES))
    for book in range(books):
        text = "".join(f"It was day {n} of winter {book}, and snow fell.\n" for n in range(lines))
        (shuffled / f"book_{book}.txt").write_text(text)
    return folder
