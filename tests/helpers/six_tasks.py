"""A few items for each of the six benchmarks of the suite `standard`, made up, in their form."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHOTS = 2

Record = dict[str, Any]


def mmlu(subject: str, number: int) -> Record:
    return {
        "subject": subject,
        "question": f"How many legs have {number + 1} cats?",
        "choices": [str(4 * (number + 1)), "3", "1", "7"],
        "answer": number % 4,
    }


ITEMS: Mapping[str, Sequence[Record]] = {
    "mmlu": [mmlu(subject, n) for subject in ("anatomy", "virology") for n in range(3)],
    "arc_challenge": [
        {
            "question": f"What is {n} and {n}?",
            "choices": {"text": [str(n), str(2 * n), "a cat"], "label": ["A", "B", "C"]},
            "answerKey": "B",
        }
        for n in range(2, 6)
    ],
    "hellaswag": [
        {
            "activity_label": "Gardening",
            "ctx_a": f"A man waters {n} plants.",
            "ctx_b": "then he",
            "endings": ["goes home.", "flies away.", "eats the can.", "is a plant."],
            "label": "0",
        }
        for n in range(4)
    ],
    "winogrande": [
        {
            "sentence": f"Ann gave {n} apples to Eve, and _ thanked her.",
            "option1": "Ann",
            "option2": "Eve",
            "answer": "2",
        }
        for n in range(4)
    ],
    "piqa": [
        {"goal": f"Open box {n}.", "sol1": "Lift the lid.", "sol2": "Sing to it.", "label": 0}
        for n in range(4)
    ],
    "gsm8k": [
        {"question": f"What is {n} plus 3?", "answer": f"{n} + 3 = {n + 3}\n#### {n + 3}"}
        for n in range(4)
    ],
}
"""Task -> its items; the first three of each (of a subject) are solved examples as well."""


def write_six(folder: Path) -> Path:
    """Writes all files that `--data` reads."""
    folder.mkdir()
    for task, records in ITEMS.items():
        write_records(folder / f"{task}.jsonl", records)
        write_records(folder / f"{task}.shots.jsonl", [*_shots(task, records)])
    return folder


def _shots(task: str, records: Sequence[Record]) -> Sequence[Record]:
    return records if task == "mmlu" else records[: SHOTS + 1]


def write_records(path: Path, records: Sequence[Record]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
