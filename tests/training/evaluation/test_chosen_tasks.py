"""Which tasks the names and globs of --tasks mean."""

import pytest

from exactcpt.training.evaluation.config import TASKS, chosen_tasks

BOTH = ("qa_1", "qa_2")


@pytest.mark.parametrize(
    ("text", "lacking", "chosen"),
    [
        (None, BOTH, TASKS["ruler"][:-2]),
        (None, (), TASKS["ruler"]),
        ("qa_*", (), BOTH),
        ("qa_*", ("qa_2",), ("qa_1",)),
        ("qa_*", BOTH, BOTH),  # then their files are asked for
        ("*", BOTH, TASKS["ruler"][:-2]),
        ("vt,qa_2", ("qa_2",), ("vt", "qa_2")),
        ("fwe, vt", BOTH, ("vt", "fwe")),
    ],
)
def test_a_task_without_its_file_is_meant_by_name_alone(text, lacking, chosen):
    assert chosen_tasks(text, ("ruler",), lacking=lacking) == {"ruler": tuple(chosen)}
