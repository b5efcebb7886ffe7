"""RULER's metrics."""

import pytest

from exactcpt.training.evaluation.ruler.matching import cleaned, match
from exactcpt.training.evaluation.ruler.tasks import QUESTIONS


@pytest.mark.parametrize(
    ("task", "output", "gold", "found"),
    [
        ("vt", " AAAAA, BBBBB", ["AAAAA", "BBBBB", "CCCCC", "DDDDD"], 0.5),
        ("cwe", "1. Lantern 2. OTTER", ["lantern", "otter"], 1.0),
        ("niah_single_1", "is 1234567.", ["1234567"], 1.0),
        ("niah_single_1", "is 123 4567.", ["1234567"], 0.0),
        ("niah_single_1", "", ["1234567"], 0.0),
        ("niah_single_1", "123\x004567", ["1234567"], 0.0),
        ("qa_1", "In DENVER, Colorado", ["Denver", "the city of Denver"], 1.0),
        ("qa_1", "In Boston", ["Denver", "Colorado"], 0.0),
        ("fwe", "a\x1fabc", ["abc", "xyz"], 0.5),
    ],
)
def test_match(task, output, gold, found):
    assert match(output, gold, any_of=task in QUESTIONS) == found


def test_control_characters_are_line_ends():
    assert cleaned("\x00\n a\x07b\tc \r") == "a\nb\nc"
