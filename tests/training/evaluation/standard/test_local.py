"""Items of the six benchmarks from local files."""

import json
from pathlib import Path

import pytest
from six_tasks import ITEMS, SHOTS, write_records, write_six

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.evaluation.standard.local import FIELDS, local_tasks, task_file
from exactcpt.training.evaluation.standard.tasks import SIX


@pytest.fixture
def data(tmp_path) -> Path:
    return write_six(tmp_path / "data")


def test_there_is_a_form_for_each_of_the_six():
    assert [*FIELDS] == [*SIX] == [*ITEMS]


@pytest.mark.parametrize("task", SIX)
def test_all_items_and_examples_are_read(data, task):
    found, _ = local_tasks(data, task, SHOTS)
    assert [record for each in found for record in each.items] == [*ITEMS[task]]
    assert all(each.shots for each in found)
    names = [each.name for each in found]
    assert names == (["mmlu_anatomy", "mmlu_virology"] if task == "mmlu" else [task])


def test_without_examples_no_file_of_them_is_read(data):
    (data / "piqa.shots.jsonl").unlink()
    (found,), _ = local_tasks(data, "piqa", 0)
    assert found.shots == []


@pytest.mark.parametrize("name", ["arc_challenge.jsonl", "arc_challenge.shots.jsonl"])
def test_the_digest_is_of_items_and_examples(data, name):
    _, before = local_tasks(data, "arc_challenge", SHOTS)
    path = data / name
    path.write_text(path.read_text().replace("a cat", "a dog"))
    _, after = local_tasks(data, "arc_challenge", SHOTS)
    assert before != after


@pytest.mark.parametrize("task", SIX)
def test_data_of_another_task_are_refused(data, task):
    for other in SIX:
        if other != task:
            write_records(data / f"{task}.jsonl", ITEMS[other])
            with pytest.raises(FormatError, match=f"the line is not of {task}: its field") as told:
                local_tasks(data, task, 0)
            assert told.value.where == f"{data / task}.jsonl, line 1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the data of piqa are empty"),
        ("{]\n", "the line is not JSON"),
        ("[1]\n", "the line is not of piqa: its field 'goal' is not a text"),
        ('{"goal": "a", "sol1": "b", "sol2": "c", "label": true}', "'label' is not a whole number"),
    ],
)
def test_other_lines_are_refused(data, text, says):
    (data / "piqa.jsonl").write_text(text)
    with pytest.raises(FormatError, match=says):
        local_tasks(data, "piqa", 0)


def test_a_missing_file(data):
    (data / "gsm8k.jsonl").unlink()
    with pytest.raises(UsageError, match="the data of gsm8k cannot be read: No such file"):
        local_tasks(data, "gsm8k", SHOTS)
    (data / "piqa.shots.jsonl").unlink()
    with pytest.raises(UsageError) as told:
        local_tasks(data, "piqa", 5)
    assert told.value.fix is not None
    assert "give --shots 0 instead of 5" in told.value.fix


def test_too_few_examples(data):
    with pytest.raises(UsageError, match="there are only 3 solved examples") as told:
        local_tasks(data, "hellaswag", 3)
    assert told.value.expected == "at least 4, for 3 before every item"
    found, _ = local_tasks(data, "mmlu", 3)  # the first ones, of the subject itself
    assert len(found[0].shots) == 3
    with pytest.raises(UsageError, match="only 3 solved examples of anatomy"):
        local_tasks(data, "mmlu", 4)


def test_other_tasks_have_no_local_data(data):
    with pytest.raises(UsageError, match="--data has no items for the task ruler"):
        local_tasks(data, "ruler", 0)


def test_what_lm_eval_reads(data, tmp_path):
    (task,), _ = local_tasks(data, "arc_challenge", SHOTS)
    found = json.loads(task_file(task, Path("theirs.yaml"), tmp_path).read_text())
    assert (found["include"], found["dataset_path"], found["dataset_name"]) == (
        "theirs.yaml", "json", None,
    )  # fmt: skip
    files = found["dataset_kwargs"]["data_files"]
    for split, records in (("test", task.items), ("validation", task.items), ("dev", task.shots)):
        lines = Path(files[split]).read_text().splitlines()
        assert [json.loads(line) for line in lines] == records
    assert Path(found["dataset_kwargs"]["cache_dir"]).is_relative_to(tmp_path)
